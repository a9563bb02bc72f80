/** Times and durations as the references write them. */

const HOUR = 3_600_000;
const UNIT: Record<string, number> = { s: 1000, m: 60_000, h: HOUR, d: 24 * HOUR };

/** `timeframe` of a metrics request → milliseconds (seed 000). */
export const TIMEFRAMES = {
  "1h": HOUR,
  "6h": 6 * HOUR,
  "24h": 24 * HOUR,
  "7d": 7 * 24 * HOUR,
  "30d": 30 * 24 * HOUR,
} as const;

/** `interval` of a metrics request → seconds (seed 000). */
export const INTERVALS = { "1m": 60, "5m": 300, "15m": 900, "1h": 3600 } as const;

export type Interval = keyof typeof INTERVALS;

// An ISO time must say its zone: without one the meaning would depend on where a function runs.
const ISO = /^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?(Z|[+-]\d{2}:?\d{2}))?$/;

/** The moment when its year has four digits, as in every text that we write or send to the database. */
function withinYears(moment: Date): Date | null {
  const year = moment.getUTCFullYear();
  return year >= 1 && year <= 9999 ? moment : null;
}

/**
 * Reads an ISO 8601 time with its zone, or a day, which begins in UTC.
 * @returns null for any other text, for a day that no calendar has, and outside the years 1 to 9999
 */
export function parseIsoTime(text: string): Date | null {
  if (!ISO.test(text)) return null;
  const day = text.slice(0, 10);
  // `Date` takes 30 February for 1 March.
  if (isoTime(`${day}T00:00:00Z`)?.slice(0, 10) !== day) return null;
  return withinYears(new Date(text));
}

/**
 * Reads `since`: an ISO 8601 time (seed 000) or how long ago, `1h`, `30m` (seeds 001, 002).
 * @returns the moment, or null when it is neither
 */
export function parseSince(text: string, now: Date): Date | null {
  const ago = /^(\d{1,6})([smhd])$/.exec(text);
  // A plus sign that was not encoded arrives as a space.
  if (ago === null) return parseIsoTime(text.replace(/(T[\d:.]+) (\d{2}:?\d{2})$/, "$1+$2"));
  return withinYears(new Date(now.getTime() - Number(ago[1]) * UNIT[ago[2]!]!));
}

type Time = string | Date | null | undefined;

/** A database time as ISO 8601 in UTC with `Z`, or null when there is none. */
export function isoTime(value: Time): string | null {
  if (value === null || value === undefined) return null;
  const moment = value instanceof Date ? value : new Date(value);
  return Number.isNaN(moment.getTime()) ? null : moment.toISOString();
}

const inOrder = (times: readonly Time[]) =>
  times.map(isoTime).filter((time) => time !== null).sort();

/** The first of the times that are known, or null. */
export const earliest = (times: readonly Time[]): string | null => inOrder(times)[0] ?? null;

/** The last of the times that are known, or null. */
export const latest = (times: readonly Time[]): string | null => inOrder(times).at(-1) ?? null;

/** Whole seconds between two times, never negative; null when either is unknown. */
export function secondsBetween(
  from: Time,
  to: Time,
): number | null {
  const start = isoTime(from);
  const end = isoTime(to);
  if (start === null || end === null) return null;
  return Math.max(0, Math.floor((Date.parse(end) - Date.parse(start)) / 1000));
}

/** `8100` → `"2h 15m"`, as all three editions write an uptime; null stays null. */
export function uptimeText(seconds: number | null): string | null {
  if (seconds === null) return null;
  return `${Math.floor(seconds / 3600)}h ${Math.floor((seconds % 3600) / 60)}m`;
}

/**
 * How long a deployment takes, from the fastest to the slowest of the last ones, in whole minutes:
 * `(300, 600)` → `"5-10 minutes"` (seeds 001, 002).
 */
export function deployTimeText(lowSeconds: number, highSeconds: number): string {
  const low = Math.floor(lowSeconds / 60);
  const high = Math.max(low + 1, Math.ceil(highSeconds / 60));
  return `${low}-${high} minutes`;
}
