/**
 * Words and rules of health.
 *
 * A service or cluster is
 * - `healthy` when it did what it was asked within a second,
 * - `degraded` when it took longer, or says itself that a part of it is down,
 * - `unhealthy` when it failed or did not answer in time,
 * - `unavailable` when nothing is known: the project has none, or nobody measured it within a minute.
 */
export type HealthStatus = "healthy" | "degraded" | "unhealthy" | "unavailable";

/** From here on an answer is slow, in milliseconds. */
export const SLOW_MS = 1000;

/** One measurement. */
export interface Measured {
  status: HealthStatus;
  /** Null when there was no answer to time. */
  response_time_ms: number | null;
  /** ISO 8601. */
  checked_at: string;
  details?: Record<string, number | string | null>;
}

export const SERVICES = ["auth", "realtime", "storage", "functions", "registry", "redis"] as const;
export type ServiceName = typeof SERVICES[number];

/** `healthy` or `degraded` by how long the answer took. */
export function statusOfAnswer(milliseconds: number): HealthStatus {
  return milliseconds > SLOW_MS ? "degraded" : "healthy";
}

/**
 * The status of several things that do the same: as all of them are, or `degraded` when they differ.
 * @returns `unavailable` for none
 */
export function statusOfGroup(statuses: readonly HealthStatus[]): HealthStatus {
  const known = new Set(statuses);
  if (known.size === 0) return "unavailable";
  return known.size === 1 ? [...known][0]! : "degraded";
}

/**
 * The status of the whole: `unhealthy` without database or auth, for then nothing works; `degraded`
 * when anything else that is there is not healthy; what the project has not does not count.
 */
export function overallStatus(
  vital: readonly HealthStatus[],
  others: readonly HealthStatus[],
): HealthStatus {
  if (vital.includes("unhealthy")) return "unhealthy";
  const wanting = [...vital, ...others].some((status) =>
    status === "degraded" || status === "unhealthy"
  );
  return wanting ? "degraded" : "healthy";
}
