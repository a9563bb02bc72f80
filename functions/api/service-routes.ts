import { runStatements } from "../../shared/database/caller.ts";
import type { Database } from "../../shared/database/connect.ts";
import { sqlText } from "../../shared/database/literal.ts";
import type { Telemetry } from "./telemetry.ts";

export const SERVICE_NAME = "agent-launchpad";

/** A probe is believed this long: the route is public and must not become a way to load Postgres. */
const BELIEVED_MS = 2000;
const PROBE_TIMEOUT_MS = 2000;

export interface ServiceRouteDependencies {
  sql: Database;
  telemetry: Telemetry;
  version: string;
  now: () => Date;
}

/**
 * The two public routes of seed 004: `/health` (status, service name, version) and `/metrics`
 * (Prometheus). A domain in front of a project maps them to `/api/-/health` and `/api/-/metrics`.
 */
export function createServiceRoutes(dependencies: ServiceRouteDependencies) {
  const { sql, telemetry, version, now } = dependencies;
  let probe: Promise<boolean> | null = null;
  let until = 0;

  function databaseAnswers(): Promise<boolean> {
    const moment = now().getTime();
    if (probe === null || moment >= until) {
      until = moment + BELIEVED_MS;
      let timer: ReturnType<typeof setTimeout>;
      probe = Promise.race([
        runStatements(sql, [sqlText`select 1`]).then(() => true, () => false),
        new Promise<boolean>((resolve) => {
          timer = setTimeout(() => resolve(false), PROBE_TIMEOUT_MS);
        }),
      ]).finally(() => clearTimeout(timer));
    }
    return probe;
  }

  async function health(): Promise<Response> {
    const healthy = await databaseAnswers();
    return Response.json({
      status: healthy ? "healthy" : "unhealthy",
      service: SERVICE_NAME,
      version,
      timestamp: now().toISOString(),
    }, { status: healthy ? 200 : 503 });
  }

  function metrics(): Response {
    return new Response(telemetry.render(version, residentBytes()), {
      headers: { "Content-Type": "text/plain; version=0.0.4; charset=utf-8" },
    });
  }

  return (pathname: string): Promise<Response> | Response | null => {
    if (pathname === "/api/-/health") return health();
    if (pathname === "/api/-/metrics") return metrics();
    return null;
  };
}

function residentBytes(): number | null {
  try {
    return Deno.memoryUsage().rss;
  } catch {
    return null;
  }
}
