/**
 * PostgREST for the local stack, over npm's @supabase/lite. `createRest` is the whole interface, so that
 * a real PostgREST or a later lite can take its place.
 *
 * What this stack's REST does not do, or does otherwise than PostgREST:
 * - composite-type arguments of functions given as JSON objects;
 * - two tables with a foreign key between them and both with one from a third: PostgREST joins over the
 *   third only when its primary key holds both, here the caller has to say which one is meant;
 * - the first request on each connection after a restart of the server gets 503;
 * - numbers beyond a double's precision lose digits here, in PostgREST only in the client.
 */
import { App, type AppRequestContext } from "@supabase/lite";
import postgres from "postgres";
import { describeError } from "./errors.ts";
import type { Log } from "./log.ts";
import { prepareBody } from "./rest/body.ts";
import { contextKey, readSchema, type RequestContext, RestConnection } from "./rest/connection.ts";
import { errorResponse, tokenError, unreachable } from "./rest/errors.ts";
import { startPostgrest } from "./rest/postgrest.ts";
import { applyHeaders } from "./rest/request-settings.ts";
import type { HttpService } from "./service.ts";

export interface RestOptions {
  /** As role authenticator. */
  databaseUrl: string;
  /** Checks a bearer token and gives its claims; throws for one that is not ours or is over. */
  verifyToken: (token: string) => Promise<{ role: string; [claim: string]: unknown }>;
  log: Log;
  /** Exposed schemas, the first is the default. */
  schemas?: string[];
  /** Most rows of one answer. */
  maxRows?: number;
}

export interface Rest extends HttpService {
  /** Reads the schema anew; `notify pgrst, 'reload schema'` does the same. */
  reloadSchema(): void;
}

/** One reading of the schema and the connections that serve it. */
interface Generation {
  app: App;
  connection: RestConnection;
}

/** What goes with a request through lite to the connection. */
interface Handover extends AppRequestContext {
  request: RequestContext;
}

const connections = 8;

const bodyless = new Set([204, 205, 304]);

/**
 * Starts the service. Requests arrive without the prefix `/rest/v1`, as role `anon` when they carry no
 * bearer token.
 */
export async function createRest(options: RestOptions): Promise<Rest> {
  const { databaseUrl, verifyToken, log, schemas = ["public"], maxRows = 1000 } = options;
  const real = await startPostgrest({ databaseUrl, log, schemas, maxRows });
  let generation: Promise<Generation> | undefined;
  let reloading: ReturnType<typeof setTimeout> | undefined;
  let closed = false;

  function current(): Promise<Generation> {
    generation ??= createGeneration(databaseUrl, schemas, maxRows).catch((error) => {
      generation = undefined;
      throw error;
    });
    return generation;
  }

  function reloadSchema(): void {
    // Each migration notifies for itself; one reading serves all of them.
    clearTimeout(reloading);
    reloading = setTimeout(async () => {
      if (closed) return;
      const old = generation;
      try {
        const fresh = await createGeneration(databaseUrl, schemas, maxRows);
        generation = Promise.resolve(fresh);
        await (await old)?.connection.close();
      } catch (error) {
        log.warn(`the schema could not be read: ${describeError(error)}`);
      }
    }, 30);
  }

  const sql = postgres(databaseUrl, {
    max: 1,
    idle_timeout: 20,
    onnotice: () => {},
    connection: { application_name: "postgrest" },
  });
  const listener = await sql.listen("pgrst", (payload) => {
    if (payload === "" || payload === "reload schema" || payload === "reload config") {
      if (real) real.reload();
      else reloadSchema();
    }
  });
  if (!real) await current();

  return {
    reloadSchema: () => real ? real.reload() : reloadSchema(),
    fetch: async (request) => {
      let claims: RequestContext["claims"];
      try {
        claims = await readClaims(request, verifyToken);
      } catch (error) {
        return tokenError(error);
      }
      if (real) return await real.fetch(request, claims);
      let serving: Generation;
      try {
        serving = await current();
      } catch {
        return errorResponse(unreachable);
      }
      return await serve(serving, request, claims, schemas, log);
    },
    close: async () => {
      closed = true;
      clearTimeout(reloading);
      await listener.unlisten().catch(() => {});
      await sql.end({ timeout: 1 });
      await real?.close();
      await (await generation?.catch(() => undefined))?.connection.close();
    },
  };
}

async function readClaims(
  request: Request,
  verifyToken: RestOptions["verifyToken"],
): Promise<RequestContext["claims"]> {
  const authorization = request.headers.get("authorization");
  if (!authorization) return { role: "anon" };
  const [, token] = /^Bearer\s+(.+)$/i.exec(authorization) ?? [];
  if (!token) throw new Error("the Authorization header holds no bearer token");
  return await verifyToken(token);
}

async function createGeneration(
  databaseUrl: string,
  schemas: string[],
  maxRows: number,
): Promise<Generation> {
  const reader = new URL(databaseUrl);
  reader.username = "supabase_read_only_user";
  const { cache, settings } = await readSchema(reader.href, schemas);
  const connection = new RestConnection(databaseUrl, cache, settings, maxRows, connections);
  const app = new App({
    connection,
    api: { enabled: true, schemas, max_rows: maxRows },
    auth: { enabled: false },
    storage: { enabled: false },
    studio: { enabled: false },
    db: { migrations: { enabled: false } },
    options: {
      server: {
        // Tokens are checked here and nowhere else: lite knows only shared secrets.
        apiKeys: false,
        admin: false,
        disableStudio: true,
        middlewares: [async (context, next) => {
          const { request } = context.env as Handover;
          const { claims } = request;
          context.set("ignoreAuthorization", true);
          context.set("apiKeyType", claims.role === "service_role" ? "secret" : "publishable");
          context.set("jwt", Object.assign({}, claims, { [contextKey]: request }));
          await next();
        }],
      },
    },
  });
  await app.init();
  return { app, connection };
}

async function serve(
  { app, connection }: Generation,
  request: Request,
  claims: RequestContext["claims"],
  schemas: string[],
  log: Log,
): Promise<Response> {
  const url = new URL(request.url);
  const prepared = await prepareBody(request, await connection.introspect());
  if (prepared instanceof Response) return prepared;
  const writes = !["GET", "HEAD"].includes(request.method);
  const context: RequestContext = {
    claims,
    method: request.method,
    path: url.pathname,
    headers: Object.fromEntries(request.headers),
    schema: request.headers.get(writes ? "content-profile" : "accept-profile") ?? schemas[0]!,
  };
  const asksForDescription = url.pathname === "/" && ["GET", "HEAD"].includes(request.method);
  // Of others lite refuses it, as the platform does: the description tells of all that there is.
  if (asksForDescription && claims.role === "service_role" && schemas.includes(context.schema)) {
    try {
      const description = await connection.describe(context, url);
      return new Response(request.method === "HEAD" ? null : JSON.stringify(description), {
        headers: { "content-type": "application/openapi+json; charset=utf-8" },
      });
    } catch (error) {
      log.warn(`the description could not be made: ${describeError(error)}`);
      return errorResponse(unreachable);
    }
  }
  const inner = new Request(`${url.origin}/rest/v1${url.pathname}${url.search}`, prepared);
  const handover: Handover = { request: context, peerAddress: null };
  const response = await app.fetch(inner, handover);
  // The gateway says what browsers may do.
  const headers = new Headers(response.headers);
  for (const name of [...headers.keys()]) {
    if (name.startsWith("access-control-")) headers.delete(name);
  }
  applyHeaders(headers, context.response?.headers ?? []);
  const status = context.response?.status ?? response.status;
  return new Response(bodyless.has(status) ? null : response.body, { status, headers });
}
