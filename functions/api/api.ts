import { ApiError } from "../../shared/contract/errors.ts";
import {
  type CredentialKind,
  type Edition,
  editionsOfAnswer,
  type JsonObject,
  mergeAnswers,
  parseEdition,
} from "../../shared/contract/editions.ts";
import type { AnswerContext } from "../../shared/contract/facts.ts";
import { runAsCaller, runAsCallerAndKeep } from "../../shared/database/caller.ts";
import type { Database } from "../../shared/database/connect.ts";
import { toApiError } from "../../shared/database/errors.ts";
import {
  abandonIdempotent,
  beginIdempotent,
  type IdempotentRequest,
  keepAnswer,
  type KeptAnswer,
  parseIdempotencyKey,
} from "../../shared/database/idempotency.ts";
import { createPlatformFacts } from "../../shared/database/platform-facts.ts";
import {
  createRateLimiter,
  rateLimitError,
  rateLimitHeaders,
} from "../../shared/database/rate-limits.ts";
import {
  authenticate,
  type Authenticated,
  credentialKind,
} from "../../shared/http/authenticate.ts";
import { parseJson, readBody } from "../../shared/http/body.ts";
import { CORS_HEADERS, preflight } from "../../shared/http/cors.ts";
import { createRouter } from "../../shared/http/router.ts";
import { seal, unseal } from "../../shared/http/seal.ts";
import type { TokenVerifier } from "../../shared/http/tokens.ts";
import { presentError } from "./presenters/error.ts";
import type { AnyRouteHandler, Route, RouteContext } from "./route.ts";
import { createServiceRoutes } from "./service-routes.ts";
import { createTelemetry } from "./telemetry.ts";

/** Largest request body: a character of 256 KiB, an environment of 256 KiB, and room. */
const MAX_BODY_BYTES = 1024 * 1024;
/** The platform cuts an answer after 150 s. */
const FOLLOW_MS = 140_000;

export interface ApiDependencies {
  sql: Database;
  verifyToken: TokenVerifier;
  routes: readonly Route[];
  /** Called after work was queued; must not wait and must not throw. */
  wakeWorker: () => void;
  /** Secret of the environment under which one-time answers are kept for replay. */
  sealingSecret: string;
  version: string;
  log: (entry: Record<string, unknown>) => void;
  now?: () => Date;
  followMs?: number;
}

/** What is known of a request so far; it fills up on the way through the pipeline. */
interface Progress {
  requestId: string;
  now: Date;
  pathname: string;
  route: Route | null;
  credential: CredentialKind;
  asked: Edition | null;
  authenticated: Authenticated | null;
  ranAsCaller: boolean;
  /** Headers that the answer carries whatever it will be. */
  headers: Record<string, string>;
}

function requestIdOf(headers: Headers): string {
  const given = headers.get("x-request-id");
  // A caller may bring its own id to find the request by; only harmless ones enter the log.
  return given !== null && /^[A-Za-z0-9._-]{8,64}$/.test(given) ? given : crypto.randomUUID();
}

/**
 * The `/api` function without its surroundings: request → response. Each request goes the same way:
 * route → edition → caller → count → input → one statement as the caller → presenters of the
 * caller's editions, merged.
 */
export function createApi(dependencies: ApiDependencies): (request: Request) => Promise<Response> {
  const { sql, log, sealingSecret } = dependencies;
  const now = dependencies.now ?? (() => new Date());
  const lookup = createRouter(dependencies.routes);
  const limiter = createRateLimiter(sql);
  const platformFacts = createPlatformFacts(sql, now);
  const telemetry = createTelemetry(now());
  const serviceRoute = createServiceRoutes({
    sql,
    telemetry,
    version: dependencies.version,
    now,
  });

  async function answerContext(context: RouteContext): Promise<AnswerContext> {
    return {
      userId: context.caller.userId,
      now: context.now,
      platform: context.editions.includes(2) ? await platformFacts() : null,
    };
  }

  function present(
    handler: AnyRouteHandler,
    facts: unknown,
    context: RouteContext,
    answering: AnswerContext,
  ): JsonObject {
    return context.editions.map((edition) => handler.present[edition](facts, answering))
      .reduce((strong, weak) => mergeAnswers(strong, weak) as JsonObject);
  }

  function answerOf(
    handler: AnyRouteHandler,
    facts: unknown,
    context: RouteContext,
    answering: AnswerContext,
  ): KeptAnswer {
    const headers: Record<string, string> = { "API-Version": String(context.edition) };
    const location = handler.location?.(facts);
    if (location !== undefined) headers.Location = location;
    return {
      status: handler.status,
      headers,
      body: present(handler, facts, context, answering),
    };
  }

  /** A read is sent beside the count: a refused one costs its result, an admitted one no wait. */
  async function carryOutRead(
    handler: AnyRouteHandler,
    context: RouteContext,
    progress: Progress,
  ): Promise<Response> {
    const counted = limiter.take(context.caller);
    if (!limiter.trusts(context.caller)) await admit(counted, context, progress);
    let input: unknown;
    let reading: Promise<unknown> | null = null;
    const answering = answerContext(context);
    try {
      input = handler.input(context);
      if (!handler.streams?.(input)) reading = read(handler, input, context);
    } catch (error) {
      await admit(counted, context, progress);
      throw error;
    }
    // The count's refusal comes first; the read's own failure must then not go unhandled.
    reading?.catch(() => {});
    await admit(counted, context, progress);
    progress.ranAsCaller = true;
    if (reading === null) {
      const stream = await handler.stream!(input, context);
      return withHeaders(stream, { "API-Version": String(context.edition) });
    }
    const result = await reading;
    return respond(
      answerOf(handler, handler.facts(result, input, context), context, await answering),
    );
  }

  function read(handler: AnyRouteHandler, input: unknown, context: RouteContext): Promise<unknown> {
    return runAsCaller(sql, context.caller, context.request, handler.statement(input, context));
  }

  async function admit(
    counted: ReturnType<typeof limiter.take>,
    context: RouteContext,
    progress: Progress,
  ): Promise<void> {
    const limit = await counted;
    Object.assign(progress.headers, rateLimitHeaders(limit, context.now));
    if (!limit.allowed) throw rateLimitError(limit, context.caller);
  }

  /** What changes something waits for the count, so that a refused request has done nothing. */
  async function carryOutWrite(
    handler: AnyRouteHandler,
    context: RouteContext,
    progress: Progress,
    request: Request,
  ): Promise<Response> {
    const counted = limiter.take(context.caller);
    const [body] = await Promise.all([
      readBody(request, MAX_BODY_BYTES).then(
        (bytes) => ({ bytes }),
        (error: unknown) => ({ error }),
      ),
      admit(counted, context, progress),
    ]);
    if ("error" in body) throw body.error;
    context.body = parseJson(body.bytes, request.headers.get("content-type"));
    const input: unknown = handler.input(context);
    const statement = handler.statement(input, context);
    const answering = answerContext(context);
    const key = request.method === "POST"
      ? parseIdempotencyKey(request.headers.get("idempotency-key"))
      : null;
    progress.ranAsCaller = true;
    if (key === null) {
      const result = await runAsCaller(sql, context.caller, context.request, statement);
      if (handler.wakesWorker) dependencies.wakeWorker();
      return respond(
        answerOf(handler, handler.facts(result, input, context), context, await answering),
      );
    }

    const idempotent: IdempotentRequest = {
      userId: context.caller.userId,
      key,
      method: request.method,
      path: progress.pathname,
      bodyHash: new Uint8Array(
        await crypto.subtle.digest("SHA-256", body.bytes as Uint8Array<ArrayBuffer>),
      ),
    };
    const kept = await beginIdempotent(sql, idempotent);
    if (kept !== null) return replay(handler, kept);
    try {
      const answers = await answering;
      let answer: KeptAnswer | undefined;
      await runAsCallerAndKeep(sql, context.caller, context.request, statement, async (result) => {
        answer = answerOf(handler, handler.facts(result, input, context), context, answers);
        const body = handler.secretAnswer
          ? { sealed: await seal(sealingSecret, JSON.stringify(answer.body)) }
          : answer.body;
        return keepAnswer(idempotent, { ...answer, body });
      });
      if (handler.wakesWorker) dependencies.wakeWorker();
      return respond(answer!);
    } catch (error) {
      // Nothing was done. Should this fail too, the claim ends by itself after a minute.
      await abandonIdempotent(sql, idempotent).catch(() => {});
      throw error;
    }
  }

  async function replay(handler: AnyRouteHandler, kept: KeptAnswer): Promise<Response> {
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

  async function carryOut(request: Request, progress: Progress, url: URL): Promise<Response> {
    const found = lookup(request.method, progress.pathname);
    if (request.method === "OPTIONS" && found.found === null && found.allowed.length > 0) {
      return preflight(found.allowed, request);
    }
    progress.asked = parseEdition(request.headers.get("api-version"));
    if (found.found === null) {
      if (found.allowed.length === 0) {
        throw new ApiError("NOT_FOUND", "There is no such path");
      }
      const allow = [...found.allowed, "OPTIONS"].join(", ");
      throw new ApiError("METHOD_NOT_ALLOWED", `This path knows ${allow}`, {
        headers: { Allow: allow },
        details: { allowed: found.allowed },
      });
    }
    const { route, params } = found.found;
    progress.route = route;
    const [authenticated, handler] = await Promise.all([
      authenticate(request.headers, { sql, verifyToken: dependencies.verifyToken, now }),
      route.load(),
    ]);
    progress.authenticated = authenticated;
    const editions = editionsOfAnswer(progress.asked, progress.credential, route.documented);
    const context: RouteContext = {
      params,
      query: url.searchParams,
      headers: request.headers,
      body: {},
      editions,
      edition: editions[0]!,
      caller: authenticated.caller,
      request: { requestId: progress.requestId },
      credentialExpiresAt: authenticated.expiresAt,
      now: progress.now,
      sql,
      followMs: dependencies.followMs ?? FOLLOW_MS,
    };
    return route.method === "GET"
      ? await carryOutRead(handler, context, progress)
      : await carryOutWrite(handler, context, progress, request);
  }

  function failure(error: unknown, progress: Progress): { response: Response; error: ApiError } {
    const fault = toApiError(error);
    const answer = presentError(fault, progress.asked, progress.credential, {
      requestId: progress.requestId,
      now: progress.now,
      userId: progress.authenticated?.caller.userId ?? null,
      ranAsCaller: progress.ranAsCaller,
    });
    const headers: Record<string, string> = {
      ...fault.headers,
      "API-Version": String(answer.edition),
    };
    if (answer.status === 401) headers["WWW-Authenticate"] = 'Bearer realm="agent-launchpad"';
    return {
      response: respond({ status: answer.status, headers, body: answer.body }),
      error: fault,
    };
  }

  return async (request) => {
    const started = performance.now();
    const url = new URL(request.url);
    const progress: Progress = {
      requestId: requestIdOf(request.headers),
      now: now(),
      pathname: url.pathname.replace(/(?<=.)\/$/, ""),
      route: null,
      credential: credentialKind(request.headers),
      asked: null,
      authenticated: null,
      ranAsCaller: false,
      headers: {},
    };
    telemetry.begin();
    let response: Response;
    let fault: ApiError | null = null;
    const own = request.method === "GET" || request.method === "HEAD"
      ? serviceRoute(progress.pathname)
      : null;
    try {
      response = own === null ? await carryOut(request, progress, url) : await own;
    } catch (error) {
      ({ response, error: fault } = failure(error, progress));
    }
    const seconds = (performance.now() - started) / 1000;
    const route = own === null ? progress.route?.path ?? "unknown" : progress.pathname;
    telemetry.end({ method: request.method, route, status: response.status, seconds });
    log({
      level: response.status >= 500 ? "error" : "info",
      message: "request",
      request_id: progress.requestId,
      method: request.method,
      route,
      path: progress.pathname.slice(0, 200),
      status: response.status,
      duration_ms: Math.round(seconds * 10_000) / 10,
      api_version: response.headers.get("api-version"),
      user_id: progress.authenticated?.caller.userId ?? null,
      api_key_id: progress.authenticated?.caller.apiKeyId ?? null,
      ...(fault === null ? {} : { error: fault.code, cause: causeOf(fault) }),
    });
    const headers = { ...progress.headers, ...CORS_HEADERS, "X-Request-Id": progress.requestId };
    if (request.method === "HEAD") {
      await response.body?.cancel();
      response = new Response(null, response);
    }
    return withHeaders(response, headers);
  };
}

function respond({ status, headers, body }: KeptAnswer): Response {
  return new Response(JSON.stringify(body), {
    status,
    headers: { "Content-Type": "application/json", "Cache-Control": "no-store", ...headers },
  });
}

function withHeaders(response: Response, headers: Record<string, string>): Response {
  for (const [name, value] of Object.entries(headers)) response.headers.set(name, value);
  return response;
}

/**
 * What went wrong underneath, for the log. Of a database error only its state and place: its text
 * can quote values, and values can be secrets.
 */
function causeOf(fault: ApiError): unknown {
  const cause = fault.cause;
  if (cause === undefined) return undefined;
  if (cause instanceof Error && cause.name === "PostgresError") {
    const { code, routine, table_name, constraint_name } = cause as unknown as Record<
      string,
      unknown
    >;
    return { state: code, routine, table: table_name, constraint: constraint_name };
  }
  if (fault.status < 500) return undefined;
  return cause instanceof Error ? cause.stack ?? cause.message : String(cause);
}
