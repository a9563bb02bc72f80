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
 * @throws ApiError RATE_LIMIT_EXCEEDED 429
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
}
