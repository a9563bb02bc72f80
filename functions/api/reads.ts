import type { PlatformFacts } from "../../shared/contract/facts.ts";
import { runAsCaller } from "../../shared/database/caller.ts";
import type { RateLimiter } from "../../shared/database/rate-limits.ts";
import { admit } from "./admission.ts";
import { answerContext, answerOf, respond, withHeaders } from "./answers.ts";
import type { Progress } from "./progress.ts";
import type { AnyRouteHandler, RouteContext } from "./route.ts";

export interface ReadDependencies {
  limiter: RateLimiter;
  platformFacts: () => Promise<PlatformFacts | null>;
}

/**
 * Carries out a GET. It is sent beside the count: a refused read costs its result, an admitted one
 * no wait. What the input or the read has to complain of is told only to who was admitted, so that
 * bad requests are counted like good ones.
 */
export async function carryOutRead(
  handler: AnyRouteHandler,
  context: RouteContext,
  progress: Progress,
  { limiter, platformFacts }: ReadDependencies,
): Promise<Response> {
  const counted = limiter.take(context.caller);
  if (!limiter.trusts(context.caller)) await admit(counted, context, progress);
  const answering = answerContext(context, platformFacts);
  let input: unknown;
  let reading: Promise<unknown> | null = null;
  let outside: Promise<unknown> | undefined;
  try {
    input = handler.input(context);
    if (!handler.streams?.(input)) {
      const statement = handler.statement(input, context);
      reading = runAsCaller(context.sql, context.caller, context.request, statement, {
        repeatable: true,
      });
      // The count's refusal comes first; the read's own failure must then not go unhandled.
      reading.catch(() => {});
      outside = handler.outside?.(input, context);
      outside?.catch(() => {});
    }
  } catch (error) {
    await admit(counted, context, progress);
    throw error;
  }
  await admit(counted, context, progress);
  progress.ranAsCaller = true;
  if (reading === null) {
    const stream = await handler.stream!(input, context);
    return withHeaders(stream, { "API-Version": String(context.edition) });
  }
  const facts = handler.facts(await reading, input, context, await outside);
  return respond(answerOf(handler, facts, context, await answering));
}
