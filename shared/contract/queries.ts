import { z } from "zod";
import { INTERVALS, parseSince, TIMEFRAMES } from "./times.ts";
import { type Edition } from "./editions.ts";
import { KNOWN_STATES, statesOfWord } from "./states.ts";

/**
 * Query parameters of the agent routes. Known ones are checked; unknown ones are ignored, unlike in
 * bodies: they change nothing that is stored, and proxies and browsers add their own.
 */

/** A whole number as a query writes it. What is said of it by `meta` is what OpenAPI shows. */
export const wholeText = (lowest: number, highest: number, fallback: number) => {
  const message = `must be a whole number from ${lowest} to ${highest}`;
  return z.string().regex(/^\d{1,9}$/, message).transform(Number)
    .refine((value) => value >= lowest && value <= highest, message)
    .default(fallback)
    .meta({ type: "integer", pattern: undefined, minimum: lowest, maximum: highest });
};

/** Deepest page by offset; below it a client reads with filters or through PostgREST. */
const MAX_OFFSET = 100_000;

const moment = (now: Date) =>
  z.string().transform((text, context) => {
    const found = parseSince(text, now);
    if (found === null) {
      context.addIssue({
        code: "custom",
        message: "must be an ISO 8601 time with its zone, or how long ago, such as 1h or 30m",
      });
      return z.NEVER;
    }
    return found;
  }).meta({
    description: "An ISO 8601 time with its zone, or how long ago",
    examples: ["2026-01-15T10:30:00Z", "1h", "30m"],
  });

/** Filters by state, in the words of the edition, and by platform. */
function filters(edition: Edition) {
  return {
    status: z.string().transform((word, context) => {
      const states = statesOfWord(edition, word);
      if (states === null) {
        context.addIssue({ code: "custom", message: "must be a state such as running or stopped" });
        return z.NEVER;
      }
      return states;
    }).meta({ description: `One of ${KNOWN_STATES.join(", ")}, in either letter case` })
      .optional(),
    platform: z.string().toLowerCase().regex(
      /^[a-z0-9][a-z0-9_-]{0,49}$/,
      "must be a name such as discord, telegram, twitter",
    ).optional(),
  };
}

/**
 * Query of `GET /api/agents`: `status, platform, limit, offset` (seeds 000, 002), `owner` (seed 001,
 * for administrators). A status is meant in the words of the edition.
 */
export function listAgentsQuery(edition: Edition) {
  return z.object({
    ...filters(edition),
    owner: z.uuid("must be a UUID").optional(),
    limit: wholeText(1, 100, 20),
    offset: wholeText(0, MAX_OFFSET, 0),
  });
}

/** What a search may be sorted by (seed 000). */
export const SEARCH_SORTS = [
  "name",
  "created_at",
  "last_activity",
  "cpu_usage",
  "memory_usage",
] as const;

const ORDERS = ["asc", "desc"] as const;

/**
 * Query of `GET /api/agents/search` (seed 000), paged like the list. Without `sort` it is by
 * relevance, or by age when there is no `q`.
 */
export function searchAgentsQuery(edition: Edition, now: Date) {
  return z.object({
    // PostgreSQL has no text with a NUL in it.
    q: z.string().max(200, "must be at most 200 characters")
      .refine((text) => !text.includes("\0"), "must be plain text").optional(),
    ...filters(edition),
    created_after: moment(now).optional(),
    created_before: moment(now).optional(),
    sort: z.enum(SEARCH_SORTS, `must be one of ${SEARCH_SORTS.join(", ")}`).optional(),
    order: z.enum(ORDERS, "must be asc or desc").optional(),
    limit: wholeText(1, 100, 20),
    offset: wholeText(0, MAX_OFFSET, 0),
  });
}

/** Query of `GET /api/agents/{id}/revisions`: those before a number, as an earlier page says. */
export const listRevisionsQuery = z.object({
  limit: wholeText(1, 50, 10),
  before: z.string().regex(/^\d{1,9}$/, "must be the number of a revision").transform(Number)
    .meta({ type: "integer", pattern: undefined, minimum: 0 }).optional(),
});

const LEVELS = ["debug", "info", "warn", "error"] as const;

const trueOrFalse = z.enum(["true", "false"], "must be true or false")
  .transform((word) => word === "true")
  .meta({ type: "boolean", enum: undefined });

const cursor = z.string().regex(
  /^\d{1,18}_\d{1,18}$/,
  "must be a cursor of an earlier answer",
).optional();

/**
 * Query of `GET /api/agents/{id}/logs`: `lines, since, follow` (000, 001), `container` (000), `level` (002);
 * `before` and `after` are cursors of an earlier answer.
 */
export function logsQuery(now: Date) {
  return z.object({
    lines: wholeText(1, 1000, 100),
    since: moment(now).optional(),
    level: z.string().transform((text) => text.toLowerCase().split(",").map((word) => word.trim()))
      .refine(
        (words) => words.every((word) => (LEVELS as readonly string[]).includes(word)),
        `must be among ${LEVELS.join(", ").toUpperCase()}`,
      ).meta({ description: `Among ${LEVELS.join(", ").toUpperCase()}, separated by commas` })
      .optional(),
    container: z.string().regex(
      /^[A-Za-z0-9][A-Za-z0-9_./-]{0,199}$/,
      "must be a container id or name",
    ).optional(),
    follow: trueOrFalse.default(false),
    before: cursor,
    after: cursor,
  }).refine(({ before, after }) => before === undefined || after === undefined, {
    path: ["after"],
    message: "does not go together with before",
  }).refine(({ follow, before, after }) => !follow || (before ?? after) === undefined, {
    path: ["follow"],
    message: "does not go together with before or after: use Last-Event-ID",
  });
}

const timeframes = Object.keys(TIMEFRAMES) as [keyof typeof TIMEFRAMES];
const intervals = Object.keys(INTERVALS) as [keyof typeof INTERVALS];

/** Query of `GET /api/agents/{id}/metrics` (seed 000). */
export const metricsQuery = z.object({
  timeframe: z.enum(timeframes, `must be one of ${timeframes.join(", ")}`).default("1h"),
  interval: z.enum(intervals, `must be one of ${intervals.join(", ")}`).default("5m"),
});

/** How bad a security event is (seeds 001, 002). */
export const SEVERITIES = ["LOW", "MEDIUM", "HIGH", "CRITICAL"] as const;

/** Query of `GET /api/security/events`: `limit, severity, since` (001, 002), `event_type` (002). */
export function securityEventsQuery(now: Date) {
  return z.object({
    limit: wholeText(1, 500, 50),
    severity: z.string().toUpperCase().pipe(
      z.enum(SEVERITIES, `must be one of ${SEVERITIES.join(", ")}`),
    ).optional(),
    event_type: z.string().toUpperCase().regex(
      /^[A-Z][A-Z_]{0,99}$/,
      "must be a type such as AUTH_FAILURE",
    ).optional(),
    since: moment(now).optional(),
  });
}
