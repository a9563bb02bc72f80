import { ApiError } from "../contract/errors.ts";
import { isoTime } from "../contract/times.ts";
import { type Caller, runStatements } from "./caller.ts";
import type { Database } from "./connect.ts";
import { sqlText } from "./literal.ts";

/** A row of `private.take_rate_limit`: counts are requests, lengths seconds. */
export interface RateLimit {
  allowed: boolean;
  /** How many of the requests that were counted together may go on. */
  granted: number;
  window_limit: number;
  window_remaining: number;
  window_seconds: number;
  window_reset: string | Date;
  burst_limit: number;
  burst_remaining: number;
  burst_seconds: number;
  burst_reset: string | Date;
  retry_after: number;
  /** Requests over PostgREST that may still change something in this minute; null for the key of an agent. */
  query_remaining: number | null;
  /** Of the requests to Auth within an hour; null when nobody counts them. */
  auth_remaining: number | null;
  /** False for the user of a token that outlives its account. */
  known: boolean;
}

const unixSeconds = (time: string | Date) => Math.ceil(new Date(time).getTime() / 1000);

/** The window that refused the request, or the one that the documents speak of. */
function decisiveWindow(limit: RateLimit) {
  return limit.allowed || limit.window_remaining <= 0
    ? {
      type: "window",
      limit: limit.window_limit,
      remaining: limit.window_remaining,
      seconds: limit.window_seconds,
      reset: limit.window_reset,
    }
    : {
      type: "burst",
      limit: limit.burst_limit,
      remaining: limit.burst_remaining,
      seconds: limit.burst_seconds,
      reset: limit.burst_reset,
    };
}

/**
 * The documented headers (window of 15 minutes, or the burst's when that refused; reset in unix
 * seconds) and those of the IETF draft, which can name both windows.
 */
export function rateLimitHeaders(limit: RateLimit, now: Date): Record<string, string> {
  const decisive = decisiveWindow(limit);
  // At most the window itself: the database's clock may be ahead of ours.
  const left = (time: string | Date, seconds: number) =>
    Math.min(seconds, Math.max(0, Math.ceil((new Date(time).getTime() - now.getTime()) / 1000)));
  const headers: Record<string, string> = {
    "X-RateLimit-Limit": String(decisive.limit),
    "X-RateLimit-Remaining": String(decisive.remaining),
    "X-RateLimit-Reset": String(unixSeconds(decisive.reset)),
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

/** Seed 002's headers of the limits beside those of `/api`. An API key has none at Auth. */
export function supabaseLimitHeaders(limit: RateLimit, caller: Caller): Record<string, string> {
  const headers: Record<string, string> = {};
  if (limit.query_remaining !== null) {
    headers["Supabase-RateLimit-Remaining"] = String(limit.query_remaining);
  }
  if (limit.auth_remaining !== null && caller.apiKeyId === null) {
    headers["Supabase-Auth-Rate-Limit"] = String(limit.auth_remaining);
  }
  return headers;
}

/** The 429 of a refused request, with seed 002's details. */
export function rateLimitError(limit: RateLimit, caller: Caller): ApiError {
  const decisive = decisiveWindow(limit);
  return new ApiError("RATE_LIMIT_EXCEEDED", "Rate limit exceeded", {
    details: {
      limit_type: decisive.type,
      limit: decisive.limit,
      window_seconds: decisive.seconds,
      reset_time: isoTime(decisive.reset),
      retry_after: limit.retry_after,
      user_id: caller.userId,
    },
  });
}

const subjectOf = (caller: Caller) =>
  caller.apiKeyId === null ? `user:${caller.userId}` : `key:${caller.apiKeyId}`;

/** Counts requests of the caller (its key, or its user), in a transaction of their own. */
export async function takeRateLimit(sql: Database, caller: Caller, cost = 1): Promise<RateLimit> {
  const [rows] = await runStatements(sql, [
    sqlText`select * from private.take_rate_limit(${
      subjectOf(caller)
    },${caller.userId}::uuid,${caller.apiKeyId}::uuid,${cost})`,
  ], { repeatable: true });
  return rows![0] as unknown as RateLimit;
}

/** What each of several requests that were counted together is told, in their order. */
function shares(limit: RateLimit, cost: number): RateLimit[] {
  return Array.from({ length: cost }, (_, index) => {
    const allowed = index < limit.granted;
    const later = allowed ? limit.granted - 1 - index : 0;
    return {
      ...limit,
      allowed,
      window_remaining: limit.window_remaining + later,
      burst_remaining: limit.burst_remaining + later,
      retry_after: allowed ? 0 : limit.retry_after,
    };
  });
}

/** Callers that an instance remembers as refused; more are forgotten, which costs nothing but work. */
const MAX_REMEMBERED = 10_000;

interface Waiter {
  resolve(limit: RateLimit): void;
  reject(error: unknown): void;
}

/**
 * Admits requests by the limits in Postgres.
 *
 * Counting is its own transaction, so that a request that fails stays counted. A read is sent
 * beside the count and its result thrown away when the count refuses: that saves a round trip and
 * changes nothing. What changes something waits for the count. A caller that was just refused waits
 * too, so that a flood is turned away without reading for it.
 *
 * Requests of one caller that come while one of them is being counted are counted together by the
 * next statement. They would wait for the same row anyway; none is counted twice or not at all.
 */
export function createRateLimiter(sql: Database) {
  const refused = new Set<string>();
  const counting = new Map<string, Waiter[]>();

  async function count(subject: string, caller: Caller, waiters: Waiter[]): Promise<void> {
    try {
      const limit = await takeRateLimit(sql, caller, waiters.length);
      if (limit.allowed) {
        refused.delete(subject);
      } else {
        if (refused.size >= MAX_REMEMBERED) refused.clear();
        refused.add(subject);
      }
      shares(limit, waiters.length).forEach((share, index) => waiters[index]!.resolve(share));
    } catch (error) {
      for (const waiter of waiters) waiter.reject(error);
    }
    const next = counting.get(subject)!;
    if (next.length === 0) {
      counting.delete(subject);
    } else {
      counting.set(subject, []);
      void count(subject, caller, next);
    }
  }

  return {
    take(caller: Caller): Promise<RateLimit> {
      return new Promise((resolve, reject) => {
        const subject = subjectOf(caller);
        const waiter = { resolve, reject };
        const waiting = counting.get(subject);
        if (waiting !== undefined) {
          waiting.push(waiter);
        } else {
          counting.set(subject, []);
          void count(subject, caller, [waiter]);
        }
      });
    },
    /** Whether a read may be sent beside the count. */
    trusts(caller: Caller): boolean {
      return !refused.has(subjectOf(caller));
    },
  };
}
export type RateLimiter = ReturnType<typeof createRateLimiter>;
