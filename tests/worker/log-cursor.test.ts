import { describe, expect, it } from "vitest";
import { advance, type LogCursor, sinceOf } from "../../shared/worker/collector/log-cursor.ts";

const at = (nanoseconds: number) => `2026-01-01T00:00:00.${String(nanoseconds).padStart(9, "0")}Z`;
const line = (nanoseconds: number, message: string) => ({
  timestamp: at(nanoseconds),
  stream: "stdout" as const,
  message,
});

describe("reading a log page by page", () => {
  it("begins at the beginning", () => {
    expect(sinceOf(null)).toBeUndefined();
  });

  it("asks again for the last line's own nanosecond", () => {
    expect(sinceOf({ at: at(5), seen: 1 })).toBe(at(4));
  });

  it("takes each line once, also those that share a time across pages", () => {
    const log = [line(1, "a"), line(2, "b"), line(2, "c"), line(2, "d"), line(3, "e")];
    const read: string[] = [];
    let cursor: LogCursor | null = null;
    for (const known of [2, 3, 4, 5]) {
      const since = sinceOf(cursor);
      const page = log.slice(0, known).filter((entry) =>
        since === undefined || entry.timestamp > since
      );
      const { fresh, cursor: next } = advance(cursor, page);
      read.push(...fresh.map((entry) => entry.message));
      cursor = next;
    }
    expect(read).toEqual(["a", "b", "c", "d", "e"]);
  });

  it("stays where it is when nothing new came", () => {
    const cursor = { at: at(2), seen: 1 };
    expect(advance(cursor, [line(2, "b")])).toEqual({ fresh: [], cursor });
  });
});
