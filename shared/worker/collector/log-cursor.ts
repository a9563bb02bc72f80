import type { LogLine } from "../../orchestrators/types.ts";
import { toNanoseconds } from "../../orchestrators/timestamps.ts";
import { fromNanoseconds } from "./timestamp.ts";

/** How far a container's log is read: the time of the last line, and how many lines of exactly that time. */
export interface LogCursor {
  at: string;
  seen: number;
}

/**
 * What to ask for so that a line of the very time of the last one, written after it was read, is not missed:
 * drivers give lines strictly later than this.
 */
export function sinceOf(cursor: LogCursor | null): string | undefined {
  return cursor === null ? undefined : fromNanoseconds((toNanoseconds(cursor.at) ?? 0n) - 1n);
}

/** The lines of a page that are new, and the cursor behind them. */
export function advance(
  cursor: LogCursor | null,
  lines: LogLine[],
): { fresh: LogLine[]; cursor: LogCursor | null } {
  let known = 0;
  if (cursor !== null) {
    while (known < lines.length && known < cursor.seen && lines[known]!.timestamp === cursor.at) {
      known++;
    }
  }
  const fresh = known === 0 ? lines : lines.slice(known);
  const last = fresh.at(-1);
  if (last === undefined) return { fresh, cursor };
  let seen = 0;
  while (seen < lines.length && lines[lines.length - 1 - seen]!.timestamp === last.timestamp) {
    seen++;
  }
  return { fresh, cursor: { at: last.timestamp, seen } };
}
