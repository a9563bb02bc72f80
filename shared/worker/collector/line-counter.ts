import { EPOCH_MS } from "./binary-rows.ts";
import type { LogRow } from "./copy-rows.ts";

/** Lines of one hour, level and container, as `private.add_log_counts` takes them. */
export interface LineCount {
  hour: string;
  level: string;
  container_id: string | null;
  container_name: string | null;
  lines: number;
}

const HOUR_MS = 3_600_000;

/** Counts rows by hour, level and container while they are written. */
export function createLineCounter() {
  const counts = new Map<string, LineCount>();
  // Most lines fall into the same hour, level and container as the one before.
  let last: { hour: number; count: LineCount } | null = null;

  return {
    /** @param micros time of the line, in microseconds since 2000 */
    count(micros: number, { level, container_id, container_name }: LogRow): void {
      const hour = Math.floor(micros / 1000 / HOUR_MS);
      if (
        last !== null && last.hour === hour && last.count.level === level &&
        last.count.container_id === container_id && last.count.container_name === container_name
      ) {
        last.count.lines++;
        return;
      }
      const key = JSON.stringify([hour, level, container_id, container_name]);
      let found = counts.get(key);
      if (found === undefined) {
        const begins = new Date(EPOCH_MS + hour * HOUR_MS).toISOString();
        found = { hour: begins, level, container_id, container_name, lines: 0 };
        counts.set(key, found);
      }
      found.lines++;
      last = { hour, count: found };
    },
    counts: (): LineCount[] => [...counts.values()],
  };
}
