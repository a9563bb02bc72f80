import { describe, expect, it } from "vitest";
import { parseSchedule } from "../../scripts/local/cron-schedule.ts";

const next = (schedule: string, after: string) => {
  const due = parseSchedule(schedule).next(Date.parse(after));
  return due === null ? null : new Date(due).toISOString();
};

describe("parseSchedule", () => {
  it.each([
    ["5 seconds", "2026-03-01T00:00:00.250Z", "2026-03-01T00:00:05.250Z"],
    ["* * * * *", "2026-03-01T00:00:00Z", "2026-03-01T00:01:00.000Z"],
    ["*/15 * * * *", "2026-03-01T00:44:59Z", "2026-03-01T00:45:00.000Z"],
    ["5 4 * * *", "2026-03-01T04:05:00Z", "2026-03-02T04:05:00.000Z"],
    ["0 9-17/4 * * mon-fri", "2026-03-06T17:30:00Z", "2026-03-09T09:00:00.000Z"],
    ["0 0 1 jan *", "2026-03-01T00:00:00Z", "2027-01-01T00:00:00.000Z"],
    ["30 3 $ * *", "2026-02-10T00:00:00Z", "2026-02-28T03:30:00.000Z"],
    ["0 0 29 2 *", "2026-03-01T00:00:00Z", "2028-02-29T00:00:00.000Z"],
    ["0 0 * * 7", "2026-03-02T00:00:00Z", "2026-03-08T00:00:00.000Z"],
    ["@hourly", "2026-03-01T10:20:00Z", "2026-03-01T11:00:00.000Z"],
  ])("%s after %s is due at %s", (schedule, after, due) => {
    expect(next(schedule, after)).toBe(due);
  });

  it("takes two restricted day fields as either of them", () => {
    expect(next("0 0 13 * fri", "2026-03-01T00:00:00Z")).toBe("2026-03-06T00:00:00.000Z");
    expect(next("0 0 13 * fri", "2026-04-11T00:00:00Z")).toBe("2026-04-13T00:00:00.000Z");
  });

  it("is never due on a day that no month has", () => {
    expect(next("0 0 31 2 *", "2026-03-01T00:00:00Z")).toBeNull();
  });

  it.each(["", "0 seconds", "60 seconds", "61 * * * *", "* * * *", "5/2 * * * *", "5-1 * * * *"])(
    "refuses %j",
    (schedule) => expect(() => parseSchedule(schedule)).toThrow(RangeError),
  );
});
