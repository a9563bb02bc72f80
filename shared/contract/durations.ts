/** Time between two health checks of an agent that does not say. */
export const HEALTH_INTERVAL_SECONDS = 30;

/** Seconds of a duration such as `30s`, `1m` or `1h`; null for any other text. */
export function durationSeconds(duration: string | null | undefined): number | null {
  const parts = /^(\d{1,5})([smh])$/.exec(duration ?? "");
  if (parts === null) return null;
  return Number(parts[1]) * { s: 1, m: 60, h: 3600 }[parts[2] as "s" | "m" | "h"];
}
