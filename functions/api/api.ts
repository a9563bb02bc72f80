import { ApiError } from "../../shared/contract/errors.ts";
import { editionsOfAnswer, parseEdition } from "../../shared/contract/editions.ts";
import type { Database } from "../../shared/database/connect.ts";
import { toApiError } from "../../shared/database/errors.ts";
import type { HealthMonitor } from "../../shared/database/health-monitor.ts";
import { createPlatformFacts } from "../../shared/database/platform-facts.ts";
import { createRateLimiter } from "../../shared/database/rate-limits.ts";
import { authenticate } from "../../shared/http/authenticate.ts";
import { CORS_HEADERS, preflight } from "../../shared/http/cors.ts";
import { createRouter } from "../../shared/http/router.ts";
import type { TokenVerifier } from "../../shared/http/tokens.ts";
import { admit } from "./admission.ts";
import { methodNotAllowed, respond, withHeaders } from "./answers.ts";
import type { AuthService } from "./auth-service.ts";
import { presentError } from "./presenters/error.ts";
import { beginProgress, type Progress } from "./progress.ts";
import { carryOutRead } from "./reads.ts";
import type { RealtimeService } from "./realtime-service.ts";
import type { Route, RouteContext } from "./route.ts";
import { createRequestCounter } from "./request-counter.ts";
import { createSecuritySignals } from "./security-signals.ts";
import { createServiceRoutes } from "./service-routes.ts";
import { createTelemetry } from "./telemetry.ts";
import { carryOutWrite } from "./writes.ts";

/** The platform cuts an answer after 150 s. */
const FOLLOW_MS = 140_000;

export interface ApiDependencies {
  sql: Database;
  verifyToken: TokenVerifier;
  auth: AuthService;
  realtime: RealtimeService;
  measureHealth: HealthMonitor;
  routes: readonly Route[];
  /** Called after work was queued; must not wait and must not throw. */
  wakeWorker: () => void;
  /** Secret of the environment under which one-time answers are kept for replay. */
  sealingSecret: string;
  version: string;
  log: (entry: Record<string, unknown>) => void;
  now?: () => Date;
  followMs?: number;
  scanPatienceMs?: number;
  /** How long counts of requests are gathered before they are written. */
  countBatchMs?: number;
}

/**
 * The `/api` function without its surroundings: request → response. Each request goes the same way:
 * route → edition → caller → count → input → one statement as the caller → presenters of the
 * caller's editions, merged.
 */
export function createApi(dependencies: ApiDependencies): (request: Request) => Promise<Response> {
  const { sql, log, sealingSecret, wakeWorker } = dependencies;
  const now = dependencies.now ?? (() => new Date());
  const lookup = createRouter(dependencies.routes);
  const telemetry = createTelemetry(now());
  const countRequest = createRequestCounter(sql, now, dependencies.countBatchMs);
  const signals = createSecuritySignals(sql, dependencies.countBatchMs);
  const serviceRoute = createServiceRoutes({ sql, telemetry, version: dependencies.version, now });
  const shared = {
    limiter: createRateLimiter(sql),
    platformFacts: createPlatformFacts(sql, now),
    wakeWorker,
    sealingSecret,
  };

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
      throw methodNotAllowed(found.allowed);
    }
    const { route, params } = found.found;
    progress.route = route;
    const [authenticated, handler] = await Promise.all([
      authenticate(request.headers, {
        sql,
        verifyToken: dependencies.verifyToken,
        now,
        onMisusedKey: (key, reason) => signals.misusedKey(key, reason, request, progress),
      }),
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
      auth: dependencies.auth,
      realtime: dependencies.realtime,
      measureHealth: dependencies.measureHealth,
      version: dependencies.version,
      followMs: dependencies.followMs ?? FOLLOW_MS,
      scanPatienceMs: dependencies.scanPatienceMs,
    };
    if (context.caller.agentId !== null && !route.forAgents) {
      await admit(shared.limiter.take(context.caller), context, progress);
      throw new ApiError(
        "PERMISSION_DENIED",
        "The key of an agent can only report for this agent",
        {
          details: { agent_id: context.caller.agentId },
          hint: "Use an access token, or an API key of the user.",
        },
      );
    }
    return route.method === "GET"
      ? await carryOutRead(handler, context, progress, shared)
      : await carryOutWrite(handler, context, progress, request, shared);
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
    const progress = beginProgress(request.headers, url, now());
    telemetry.begin();
    let response: Response;
    let fault: ApiError | null = null;
    const own = serviceRoute(request, url, progress.pathname);
    try {
      response = own === null ? await carryOut(request, progress, url) : await own;
    } catch (error) {
      ({ response, error: fault } = failure(error, progress));
      signals.refused(fault, request, progress);
    }
    const seconds = (performance.now() - started) / 1000;
    const route = own === null ? progress.route?.path ?? "unknown" : progress.pathname;
    telemetry.end({ method: request.method, route, status: response.status, seconds });
    if (own === null) {
      countRequest({
        userId: progress.authenticated?.caller.userId ?? null,
        status: response.status,
        milliseconds: seconds * 1000,
      });
    }
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
