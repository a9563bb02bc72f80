import { tooMany } from "./errors.ts";
import type { RateLimits } from "./settings.ts";

/** Which allowance a request draws on. */
export type Allowance = keyof RateLimits;

export interface RateLimiter {
  /**
   * Takes one from what `client` may still do.
   *
   * @throws {AuthError} `over_request_rate_limit` (429) when nothing is left
   */
  take(allowance: Allowance, client: string): void;
  /** Like `take`, but says whether it could. */
  tryTake(allowance: Allowance, client: string): boolean;
}

const PERIOD_SECONDS: Record<Allowance, number> = {
  tokenRefresh: 300,
  signInSignUps: 300,
  tokenVerifications: 300,
  anonymousUsers: 3600,
  emailSent: 3600,
};

const BUCKETS_KEPT = 10_000;

interface Bucket {
  left: number;
  at: number;
}

/**
 * Token buckets in memory, one per allowance and client: a full one holds the configured number and
 * fills at that number per period. Auth lets a burst of 30 through whatever the number; here the
 * whole allowance may come at once, which a test run needs and the average does not change.
 *
 * @param now milliseconds
 */
export function createRateLimiter(limits: RateLimits, now: () => number = Date.now): RateLimiter {
  const buckets = new Map<string, Bucket>();

  function tryTake(allowance: Allowance, client: string): boolean {
    const key = `${allowance} ${client}`;
    const capacity = limits[allowance];
    const perMillisecond = capacity / PERIOD_SECONDS[allowance] / 1000;
    const at = now();
    const known = buckets.get(key);
    const left = known === undefined
      ? capacity
      : Math.min(capacity, known.left + (at - known.at) * perMillisecond);
    // Taken out and put back, so that the map stays in order of last use.
    buckets.delete(key);
    if (buckets.size >= BUCKETS_KEPT) buckets.delete(buckets.keys().next().value!);
    buckets.set(key, { left: left < 1 ? left : left - 1, at });
    return left >= 1;
  }

  return {
    tryTake,
    take(allowance, client) {
      if (!tryTake(allowance, client)) {
        throw tooMany("over_request_rate_limit", "Request rate limit reached");
      }
    },
  };
}
