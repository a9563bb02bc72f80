import type { JsonObject } from "../../shared/contract/editions.ts";
import { ApiError } from "../../shared/contract/errors.ts";
import type { PlatformFacts } from "../../shared/contract/facts.ts";
import { runAsCaller, runAsCallerAndKeep } from "../../shared/database/caller.ts";
import {
  abandonIdempotent,
  beginIdempotent,
  type IdempotentRequest,
  keepAnswer,
  type KeptAnswer,
  parseIdempotencyKey,
} from "../../shared/database/idempotency.ts";
import type { SqlFragment } from "../../shared/database/literal.ts";
import type { RateLimiter } from "../../shared/database/rate-limits.ts";
import { parseJson, readBody } from "../../shared/http/body.ts";
import { seal, unseal } from "../../shared/http/seal.ts";
import { admit } from "./admission.ts";
import { answerContext, answerOf, respond } from "./answers.ts";
import type { Progress } from "./progress.ts";
import type { AnyRouteHandler, RouteContext } from "./route.ts";

/** Largest request body: a character of 256 KiB, an environment of 256 KiB, and room. */
const MAX_BODY_BYTES = 1024 * 1024;

export interface WriteDependencies {
  limiter: RateLimiter;
  platformFacts: () => Promise<PlatformFacts | null>;
  wakeWorker: () => void;
  /** Secret under which one-time answers are kept for replay. */
  sealingSecret: string;
}

/** A write that was admitted and understood. */
interface Work {
  handler: AnyRouteHandler;
  context: RouteContext;
  input: unknown;
  statement: SqlFragment;
}

/** Carries out what changes something. It waits for the count, so that a refused one did nothing. */
export async function carryOutWrite(
  handler: AnyRouteHandler,
  context: RouteContext,
  progress: Progress,
  request: Request,
  dependencies: WriteDependencies,
): Promise<Response> {
  const { limiter, platformFacts, wakeWorker } = dependencies;
  const bytes = await admittedBody(request, limiter.take(context.caller), context, progress);
  context.body = parseJson(bytes, request.headers.get("content-type"));
  const input: unknown = handler.input(context);
  const statement = handler.statement(input, context);
  const key = request.method === "POST"
    ? parseIdempotencyKey(request.headers.get("idempotency-key"))
    : null;
  progress.ranAsCaller = true;
  if (key !== null) {
    const digest = await crypto.subtle.digest("SHA-256", bytes);
    return await carryOutOnce({ handler, context, input, statement }, dependencies, {
      userId: context.caller.userId,
      // An agent's keys and its owner's must not meet.
      key: context.caller.agentId === null ? key : `${context.caller.agentId} ${key}`,
      method: request.method,
      path: progress.pathname,
      bodyHash: new Uint8Array(digest),
    });
  }
  const answering = answerContext(context, platformFacts);
  const outside = await handler.outside?.(input, context);
  const result = await runAsCaller(context.sql, context.caller, context.request, statement);
  if (handler.wakesWorker) wakeWorker();
  const settled = handler.settle === undefined ? result : await handler.settle(result, context);
  const facts = handler.facts(settled, input, context, outside);
  return respond(answerOf(handler, facts, context, await answering));
}

/** Reads the body while the request is counted; the count's refusal comes first. */
async function admittedBody(
  request: Request,
  counted: ReturnType<RateLimiter["take"]>,
  context: RouteContext,
  progress: Progress,
): Promise<Uint8Array<ArrayBuffer>> {
  const reading = readBody(request, MAX_BODY_BYTES);
  reading.catch(() => {});
  await admit(counted, context, progress);
  return await reading;
}

/** Carries out a request with an Idempotency-Key: once, and the same answer ever after. */
async function carryOutOnce(
  { handler, context, input, statement }: Work,
  { platformFacts, wakeWorker, sealingSecret }: WriteDependencies,
  request: IdempotentRequest,
): Promise<Response> {
  const { sql, caller } = context;
  const kept = await beginIdempotent(sql, request);
  if (kept !== null) return await replay(handler, kept, sealingSecret);
  try {
    const answering = await answerContext(context, platformFacts);
    const outside = await handler.outside?.(input, context);
    let answer: KeptAnswer | undefined;
    await runAsCallerAndKeep(sql, caller, context.request, statement, async (result) => {
      answer = answerOf(
        handler,
        handler.facts(result, input, context, outside),
        context,
        answering,
      );
      const body = handler.secretAnswer
        ? { sealed: await seal(sealingSecret, JSON.stringify(answer.body)) }
        : answer.body;
      return keepAnswer(request, { ...answer, body });
    });
    if (handler.wakesWorker) wakeWorker();
    return respond(answer!);
  } catch (error) {
    // Nothing was done. Should this fail too, the claim ends by itself after a minute.
    await abandonIdempotent(sql, request).catch(() => {});
    throw error;
  }
}

async function replay(
  handler: AnyRouteHandler,
  kept: KeptAnswer,
  sealingSecret: string,
): Promise<Response> {
  const headers = { ...kept.headers, "Idempotency-Replayed": "true" };
  if (!handler.secretAnswer) return respond({ ...kept, headers });
  const opened = await unseal(sealingSecret, String(kept.body.sealed));
  if (opened === null) {
    throw new ApiError(
      "IDEMPOTENCY_KEY_REUSED",
      "The first answer to this Idempotency-Key can no longer be shown",
    );
  }
  return respond({ ...kept, headers, body: JSON.parse(opened) as JsonObject });
}
