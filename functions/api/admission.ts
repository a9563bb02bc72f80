import { ApiError } from "../../shared/contract/errors.ts";
import {
  type RateLimit,
  rateLimitError,
  rateLimitHeaders,
  supabaseLimitHeaders,
} from "../../shared/database/rate-limits.ts";
import type { Progress } from "./progress.ts";
import type { RouteContext } from "./route.ts";

/**
 * Waits for the count; the answer will say where the caller stands.
 * @throws ApiError RATE_LIMIT_EXCEEDED 429, AUTHENTICATION_FAILED 401 for a user who is gone
 */
export async function admit(
  counted: Promise<RateLimit>,
  context: RouteContext,
  progress: Progress,
): Promise<void> {
  const limit = await counted;
  Object.assign(progress.headers, rateLimitHeaders(limit, context.now));
  if (progress.asked === null || progress.asked === 2) {
    Object.assign(progress.headers, supabaseLimitHeaders(limit, context.caller));
  }
  if (!limit.allowed) throw rateLimitError(limit, context.caller);
  if (!limit.known && !progress.route?.forErased) {
    throw new ApiError("AUTHENTICATION_FAILED", "There is no such user any more", {
      details: { reason: "unknown user" },
      hint: "Sign in again.",
    });
  }
}
