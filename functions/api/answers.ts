import { type JsonObject, mergeAnswers } from "../../shared/contract/editions.ts";
import { ApiError } from "../../shared/contract/errors.ts";
import type { AnswerContext, PlatformFacts } from "../../shared/contract/facts.ts";
import type { KeptAnswer } from "../../shared/database/idempotency.ts";
import type { AnyRouteHandler, RouteContext } from "./route.ts";

/** Begins to read what the presenters need beside the facts of the route. */
export async function answerContext(
  context: RouteContext,
  platformFacts: () => Promise<PlatformFacts | null>,
): Promise<AnswerContext> {
  return {
    userId: context.caller.userId,
    now: context.now,
    platform: context.editions.includes(2) ? await platformFacts() : null,
  };
}

/** The answer in the caller's editions, merged, its own one first. */
export function answerOf(
  handler: AnyRouteHandler,
  facts: unknown,
  context: RouteContext,
  answering: AnswerContext,
): KeptAnswer {
  const headers: Record<string, string> = { "API-Version": String(context.edition) };
  const location = handler.location?.(facts);
  if (location !== undefined) headers.Location = location;
  const body = context.editions.map((edition) => handler.present[edition](facts, answering))
    .reduce((strong, weak) => mergeAnswers(strong, weak) as JsonObject);
  return { status: handler.status, headers, body };
}

/** The 405 of a path that knows other methods. */
export function methodNotAllowed(allowed: readonly string[]): ApiError {
  const allow = [...allowed, "OPTIONS"].join(", ");
  return new ApiError("METHOD_NOT_ALLOWED", `This path knows ${allow}`, {
    headers: { Allow: allow },
    details: { allowed },
  });
}

export function respond({ status, headers, body }: KeptAnswer): Response {
  return new Response(JSON.stringify(body), {
    status,
    headers: { "Content-Type": "application/json", "Cache-Control": "no-store", ...headers },
  });
}

export function withHeaders(response: Response, headers: Record<string, string>): Response {
  for (const [name, value] of Object.entries(headers)) response.headers.set(name, value);
  return response;
}
