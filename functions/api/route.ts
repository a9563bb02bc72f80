import type { Edition } from "../../shared/contract/editions.ts";
import type { Endpoint } from "../../shared/contract/endpoints.ts";
import type { Caller, RequestFacts } from "../../shared/database/caller.ts";
import type { Database } from "../../shared/database/connect.ts";
import type { HealthMonitor } from "../../shared/database/health-monitor.ts";
import type { SqlFragment } from "../../shared/database/literal.ts";
import type { AuthService } from "./auth-service.ts";
import type { RealtimeService } from "./realtime-service.ts";
import type { Presenters } from "./presenters/presenter.ts";

/** What a route's functions get of a request that was admitted. */
export interface RouteContext {
  params: Record<string, string>;
  query: URLSearchParams;
  headers: Headers;
  /** The body as parsed JSON; `{}` without one. */
  body: unknown;
  /** The editions of the answer, the caller's own first. */
  editions: readonly Edition[];
  edition: Edition;
  caller: Caller;
  request: RequestFacts;
  /** Unix milliseconds at which the caller's credential ends. */
  credentialExpiresAt: number;
  now: Date;
  sql: Database;
  auth: AuthService;
  realtime: RealtimeService;
  measureHealth: HealthMonitor;
  /** Of the service. */
  version: string;
  /** Longest that an answer may stream, in milliseconds. */
  followMs: number;
  /** How long a request waits for a scan, in milliseconds; only tests are in more of a hurry. */
  scanPatienceMs?: number;
}

/**
 * A route as data: input → one statement as the caller → presenters. The pipeline in `api.ts` does
 * the rest in one place for all of them.
 */
export interface RouteHandler<Input, Result, Facts, Outside = unknown> {
  /** Reads params, query and body. Throws ApiError VALIDATION_ERROR naming every bad field. */
  input(context: RouteContext): Input;
  /**
   * What the database cannot do or tell. It runs beside the statement of a read, and before that of
   * a write, which is not sent when it fails.
   */
  outside?(input: Input, context: RouteContext): Promise<Outside>;
  /** The statement; its single value is named `result`. */
  statement(input: Input, context: RouteContext): SqlFragment;
  /**
   * Waits a little for work that was queued and gives its result as it is by then. Not with an
   * `Idempotency-Key`, whose answer is kept in the transaction that queued the work.
   */
  settle?(result: Result, context: RouteContext): Promise<Result>;
  /** What the presenters are given. */
  facts(result: Result, input: Input, context: RouteContext, outside: Outside): Facts;
  present: Presenters<Facts>;
  status: 200 | 201 | 202;
  /** Path of what was made, for `Location`. */
  location?(facts: Facts): string;
  /** The answer shows a secret once: what is kept for replay is sealed. */
  secretAnswer?: boolean;
  /** Work was queued: wake the worker. */
  wakesWorker?: boolean;
  /** Whether this request is answered by `stream` instead of the statement. */
  streams?(input: Input): boolean;
  /** Throws ApiError for what can be told before the stream begins. */
  stream?(input: Input, context: RouteContext): Promise<Response>;
}

/** A handler whose types are its own business; the pipeline only hands values through. */
// deno-lint-ignore no-explicit-any
export type AnyRouteHandler = RouteHandler<any, any, any, any>;

export interface Route extends Endpoint {
  /** Loaded when first asked for, so that a light route imports nothing heavy. */
  load(): Promise<AnyRouteHandler>;
}

/** Keeps a handler's own types checked where it is written. */
export function defineRoute<Input, Result, Facts, Outside = undefined>(
  handler: RouteHandler<Input, Result, Facts, Outside>,
): RouteHandler<Input, Result, Facts, Outside> {
  return handler;
}
