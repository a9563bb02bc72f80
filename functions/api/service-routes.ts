import { type Edition, parseEdition } from "../../shared/contract/editions.ts";
import { runStatements } from "../../shared/database/caller.ts";
import type { Database } from "../../shared/database/connect.ts";
import { sqlText } from "../../shared/database/literal.ts";
import { preflight } from "../../shared/http/cors.ts";
import { methodNotAllowed } from "./answers.ts";
import type { Telemetry } from "./telemetry.ts";

const METHODS = ["GET", "HEAD"];

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

/** How long clients keep a document, in seconds; it changes with a release only. */
const DOCUMENT_MAX_AGE = 300;

/**
 * Routes without credentials: seed 004's `/health` (status, service name, version) and `/metrics`
 * (Prometheus), which a domain in front of a project maps to `/api/-/health` and `/api/-/metrics`,
 * and the description of the others, `/api/openapi.json`.
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

  const documents = new Map<Edition | null, ReturnType<typeof writeDocument>>();

  async function openApi({ headers }: Request, { searchParams }: URL): Promise<Response> {
    const asked = searchParams.get("edition");
    const edition = asked === null
      ? parseEdition(headers.get("api-version"))
      : parseEdition(asked, "edition");
    const written = documents.get(edition) ?? writeDocument(edition, version);
    documents.set(edition, written);
    const { text, digest } = await written;
    const isKnown = headers.get("if-none-match")?.includes(digest) ?? false;
    return new Response(isKnown ? null : text, {
      status: isKnown ? 304 : 200,
      headers: {
        "Content-Type": "application/json",
        "Cache-Control": `public, max-age=${DOCUMENT_MAX_AGE}`,
        // Weak: proxies compress it.
        "ETag": `W/"${digest}"`,
        "Vary": "API-Version",
      },
    });
  }

  const routes: Record<string, (request: Request, url: URL) => Promise<Response> | Response> = {
    "/api/-/health": health,
    "/api/-/metrics": metrics,
    "/api/openapi.json": openApi,
  };

  async function answer(request: Request, url: URL, pathname: string): Promise<Response> {
    const { method } = request;
    if (method === "OPTIONS") return preflight(METHODS, request);
    if (!METHODS.includes(method)) throw methodNotAllowed(METHODS);
    return await routes[pathname]!(request, url);
  }

  /** The answer when the path is one of these; null for any other. */
  return (request: Request, url: URL, pathname: string): Promise<Response> | null =>
    Object.hasOwn(routes, pathname) ? answer(request, url, pathname) : null;
}

/** Made of the schemas of all routes, which nothing else needs at once. */
async function writeDocument(edition: Edition | null, version: string) {
  const { openApiDocument } = await import("./openapi.ts");
  const text = JSON.stringify(openApiDocument(edition, version));
  const bytes = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return { text, digest: btoa(String.fromCharCode(...new Uint8Array(bytes))) };
}

function residentBytes(): number | null {
  try {
    return Deno.memoryUsage().rss;
  } catch {
    return null;
  }
}
