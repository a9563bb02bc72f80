/** When a pg_cron schedule is due. Times are UTC, as on the platform. */
export interface CronSchedule {
  /** First due time after `after`, both in ms since 1970; null when it is never due again. */
  next(after: number): number | null;
  /** Runs once when the scheduler starts. */
  atStart: boolean;
}

const names: Record<string, string> = {
  "@yearly": "0 0 1 1 *",
  "@annually": "0 0 1 1 *",
  "@monthly": "0 0 1 * *",
  "@weekly": "0 0 * * 0",
  "@daily": "0 0 * * *",
  "@midnight": "0 0 * * *",
  "@hourly": "0 * * * *",
};
const months = "jan feb mar apr may jun jul aug sep oct nov dec".split(" ");
const days = "sun mon tue wed thu fri sat".split(" ");
const dayMs = 86_400_000;

/**
 * Reads what `cron.schedule` accepts: `[1-59] seconds`, five cron fields (`$` is the last day of the
 * month), or a name such as `@hourly`.
 *
 * @throws RangeError for anything else
 */
export function parseSchedule(text: string): CronSchedule {
  const trimmed = text.trim().toLowerCase();
  if (trimmed === "@reboot") return { next: () => null, atStart: true };
  const interval = /^([1-9]|[1-5]\d)\s+seconds?$/.exec(trimmed);
  if (interval) {
    const ms = Number(interval[1]) * 1000;
    return { next: (after) => after + ms, atStart: false };
  }
  const fields = (names[trimmed] ?? trimmed).split(/\s+/);
  if (fields.length !== 5) throw new RangeError(`invalid schedule: ${text}`);
  const [minuteField, hourField, dayField, monthField, weekdayField] = fields as [
    string,
    string,
    string,
    string,
    string,
  ];
  const minutes = parseField(minuteField, 0, 59);
  const hours = parseField(hourField, 0, 23);
  const lastDay = dayField.split(",").includes("$");
  const monthDays = parseField(
    dayField.split(",").filter((item) => item !== "$").join(",") || "-",
    1,
    31,
  );
  const yearMonths = parseField(monthField, 1, 12, months, 1);
  const weekdays = parseField(weekdayField, 0, 7, days, 0);
  if (weekdays.has(7)) weekdays.add(0);
  // Cron's old rule: two restricted day fields mean either of them.
  const either = !dayField.startsWith("*") && !weekdayField.startsWith("*");

  const dueOn = (day: Date) => {
    if (!yearMonths.has(day.getUTCMonth() + 1)) return false;
    const tomorrow = new Date(day.getTime() + dayMs);
    const byDate = monthDays.has(day.getUTCDate()) || (lastDay && tomorrow.getUTCDate() === 1);
    const byWeekday = weekdays.has(day.getUTCDay());
    return either ? byDate || byWeekday : byDate && byWeekday;
  };

  return {
    atStart: false,
    next: (after) => {
      const first = (Math.floor(after / 60_000) + 1) * 60_000;
      let day = Math.floor(first / dayMs) * dayMs;
      // Eight years hold every 29 February, also around a century without one.
      for (let count = 0; count < 366 * 8; count++, day += dayMs) {
        if (!dueOn(new Date(day))) continue;
        for (const hour of hours) {
          for (const minute of minutes) {
            const due = day + (hour * 60 + minute) * 60_000;
            if (due >= first) return due;
          }
        }
      }
      return null;
    },
  };
}

/** Values of one field in rising order; `-` alone stands for none. */
function parseField(
  field: string,
  low: number,
  high: number,
  words: string[] = [],
  firstWord = 0,
): Set<number> {
  const values = new Set<number>();
  if (field === "-") return values;
  const read = (text: string) => {
    const word = words.indexOf(text);
    const value = word >= 0 ? word + firstWord : /^\d{1,2}$/.test(text) ? Number(text) : NaN;
    if (!(value >= low && value <= high)) throw new RangeError(`invalid schedule field: ${field}`);
    return value;
  };
  for (const item of field.split(",")) {
    const [, range, step] = /^(\*|[a-z0-9]+(?:-[a-z0-9]+)?)(?:\/([1-9]\d?))?$/.exec(item) ?? [];
    if (range === undefined) throw new RangeError(`invalid schedule field: ${field}`);
    const [from, to] = range === "*" ? [low, high] : range.split("-").map(read);
    if (step !== undefined && to === undefined) {
      throw new RangeError(`invalid schedule field: ${field}`);
    }
    if (to !== undefined && to < from!) throw new RangeError(`invalid schedule field: ${field}`);
    for (let value = from!; value <= (to ?? from!); value += Number(step ?? 1)) values.add(value);
  }
  return new Set([...values].sort((a, b) => a - b));
}
