import { ApiError } from "../contract/errors.ts";
import { isoTime } from "../contract/times.ts";
import { type Caller, runStatements } from "./caller.ts";
import type { Database } from "./connect.ts";
import { sqlText } from "./literal.ts";

/** A row of `private.take_rate_limit`: counts are requests, lengths seconds. */
export interface RateLimit {
  allowed: boolean;
  window_limit: number;
  window_remaining: number;
  window_seconds: number;
  window_reset: string | Date;
  burst_limit: number;
  burst_remaining: number;
  burst_seconds: number;
  burst_reset: string | Date;
  retry_after: number;
}

const unixSeconds = (time: string | Date) => Math.ceil(new Date(time).getTime() / 1000);

/**
 * The documented headers (window of 15 minutes; reset in unix seconds) and those of the IETF draft,
 * which can name both windows.
 */
export function rateLimitHeaders(limit: RateLimit, now: Date): Record<string, string> {
  // At most the window itself: the database's clock may be ahead of ours.
  const left = (time: string | Date, seconds: number) =>
    Math.min(seconds, Math.max(0, Math.ceil((new Date(time).getTime() - now.getTime()) / 1000)));
  const headers: Record<string, string> = {
    "X-RateLimit-Limit": String(limit.window_limit),
    "X-RateLimit-Remaining": String(limit.window_remaining),
    "X-RateLimit-Reset": String(unixSeconds(limit.window_reset)),
    "RateLimit-Policy": `"default";q=${limit.window_limit};w=${limit.window_seconds}, ` +
      `"burst";q=${limit.burst_limit};w=${limit.burst_seconds}`,
    "RateLimit":
      `"default";r=${limit.window_remaining};t=${
        left(limit.window_reset, limit.window_seconds)
      }, ` +
      `"burst";r=${limit.burst_remaining};t=${left(limit.burst_reset, limit.burst_seconds)}`,
  };
  if (!limit.allowed) headers["Retry-After"] = String(limit.retry_after);
  return headers;
}

/** The 429 of a refused request, with seed 002's details. */
export function rateLimitError(limit: RateLimit, caller: Caller): ApiError {
  const window = limit.window_remaining <= 0;
  return new ApiError("RATE_LIMIT_EXCEEDED", "Rate limit exceeded", {
    details: {
      limit_type: window ? "window" : "burst",
      limit: window ? limit.window_limit : limit.burst_limit,
      window_seconds: window ? limit.window_seconds : limit.burst_seconds,
      reset_time: isoTime(window ? limit.window_reset : limit.burst_reset),
      retry_after: limit.retry_after,
      user_id: caller.userId,
    },
  });
}

/** Counts a request of the caller (its key, or its user), in a transaction of its own. */
export async function takeRateLimit(sql: Database, caller: Caller): Promise<RateLimit> {
  const subject = caller.apiKeyId === null ? `user:${caller.userId}` : `key:${caller.apiKeyId}`;
  const [rows] = await runStatements(sql, [
    sqlText`select * from private.take_rate_limit(${subject},${caller.userId}::uuid,${caller.apiKeyId}::uuid)`,
  ]);
  return rows![0] as unknown as RateLimit;
}

/** Callers that an instance remembers as refused; more are forgotten, which costs nothing but work. */
const MAX_REMEMBERED = 10_000;

/**
 * Admits requests by the limits in Postgres.
 *
 * Counting is its own transaction, so that a request that fails stays counted. A read is sent
 * beside the count and its result thrown away when the count refuses: that saves a round trip and
 * changes nothing. What changes something waits for the count. A caller that was just refused waits
 * too, so that a flood is turned away without reading for it.
 */
export function createRateLimiter(sql: Database) {
  const refused = new Set<string>();

  async function take(caller: Caller): Promise<RateLimit> {
    const limit = await takeRateLimit(sql, caller);
    const subject = caller.apiKeyId ?? caller.userId;
    if (limit.allowed) {
      refused.delete(subject);
    } else {
      if (refused.size >= MAX_REMEMBERED) refused.clear();
      refused.add(subject);
    }
    return limit;
  }

  return {
    take,
    /** Whether a read may be sent beside the count. */
    trusts(caller: Caller): boolean {
      return !refused.has(caller.apiKeyId ?? caller.userId);
    },
  };
}
export type RateLimiter = ReturnType<typeof createRateLimiter>;
