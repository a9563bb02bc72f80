import type { ServiceMeasures, ServiceProbes } from "../health/services.ts";
import { type Measured, SERVICES, statusOfAnswer } from "../health/status.ts";
import { runStatements } from "./caller.ts";
import type { Database } from "./connect.ts";
import { jsonb, sqlText } from "./literal.ts";

/** A measurement is believed this long, so that asking often measures no more often. */
const BELIEVED_MS = 10_000;
/** Counts over all users may take this long before they are left out. */
const FIGURES_TIMEOUT_MS = 3000;
/** Share of the connections in use from which on the database is short of them. */
const CROWDED = 0.9;

export interface DatabaseLoad {
  total: number;
  active: number | null;
  idle: number | null;
  max: number;
  /** Start of the server, ISO 8601. */
  started_at: string;
}

export interface PlatformFigures {
  /** Sessions that were used within a day. */
  active_sessions: number;
  buckets: number | null;
  stored_bytes: number | null;
  subscriptions: number | null;
  /** When an image was last scanned for vulnerabilities. */
  last_image_scan: string | null;
}

/** The platform as it was measured at most ten seconds ago. */
export interface PlatformHealth {
  database: Measured & { load: DatabaseLoad | null };
  services: ServiceMeasures;
  /** Null when they took too long. */
  figures: PlatformFigures | null;
}

export type HealthMonitor = () => Promise<PlatformHealth>;

/**
 * Makes the measurement behind `GET /api/health`. It is taken at most once in ten seconds by an
 * instance, however many ask; of the services also not when another instance or the worker measured
 * them within that time. So the route cannot be used to load what it looks at.
 */
export function createHealthMonitor(
  sql: Database,
  probeServices: ServiceProbes,
  now: () => Date,
): HealthMonitor {
  let measuring: Promise<PlatformHealth> | null = null;
  let until = 0;

  async function database(): Promise<PlatformHealth["database"]> {
    const checked_at = now().toISOString();
    const started = performance.now();
    try {
      const [rows] = await runStatements(sql, [sqlText`select private.database_load() as result`], {
        repeatable: true,
      });
      const milliseconds = Math.round(performance.now() - started);
      const load = rows![0]!.result as DatabaseLoad;
      const status = load.total >= load.max * CROWDED ? "degraded" : statusOfAnswer(milliseconds);
      return { status, response_time_ms: milliseconds, checked_at, load };
    } catch {
      return { status: "unhealthy", response_time_ms: null, checked_at, load: null };
    }
  }

  async function figures(): Promise<PlatformFigures | null> {
    try {
      const rows = await runStatements(sql, [
        sqlText`select set_config('statement_timeout',${String(FIGURES_TIMEOUT_MS)}, true)`,
        sqlText`select private.platform_figures() as result`,
      ]);
      return rows[1]![0]!.result as PlatformFigures;
    } catch {
      return null;
    }
  }

  async function services(): Promise<ServiceMeasures> {
    try {
      const [rows] = await runStatements(sql, [
        sqlText`select private.fresh_service_health(make_interval(secs =>${
          BELIEVED_MS / 1000
        })) as result`,
      ]);
      const known = rows![0]!.result as Partial<ServiceMeasures>;
      if (SERVICES.every((name) => known[name] !== undefined)) return known as ServiceMeasures;
    } catch {
      // Then this instance measures them for itself.
    }
    const measured = await probeServices();
    // For the other instances and for health_check(); without them this answer holds all the same.
    await runStatements(sql, [sqlText`select private.record_service_health(${jsonb(measured)})`])
      .catch(() => {});
    return measured;
  }

  return () => {
    if (measuring === null || now().getTime() >= until) {
      until = now().getTime() + BELIEVED_MS;
      measuring = Promise.all([database(), services(), figures()])
        .then(([database, services, figures]) => ({ database, services, figures }));
    }
    return measuring;
  };
}
