import { allowOrigin, answersPreflight, isPreflight, preflight } from "./gateway-cors.ts";
import { createKeyring, resolveCredentials } from "./gateway-credentials.ts";
import type { StackKeys } from "./keys.ts";
import type { Log } from "./log.ts";
import { isWebSocketUpgrade } from "./proxy.ts";
import type { HttpService } from "./service.ts";

export interface GatewayServices {
  rest: Pick<HttpService, "fetch">;
  auth: Pick<HttpService, "fetch">;
  storage: Pick<HttpService, "fetch">;
  realtime: Pick<HttpService, "fetch">;
  functions: Pick<HttpService, "fetch">;
}

export interface GatewayOptions {
  host: string;
  port: number;
  keys: StackKeys;
  services: GatewayServices;
  log: Log;
}

export interface Gateway {
  close(): Promise<void>;
}

/** Where a path goes. */
interface Route {
  prefix: string;
  service: keyof GatewayServices | null;
  /** The path the service sees. */
  rewrite: (path: string) => string;
  /** Whether a request must carry a key of the project, or may: then the service judges it. */
  keyed: boolean | "maybe";
  /** Whether the gateway rather than the service answers a CORS preflight. */
  preflight: "gateway" | "service first";
}

const withoutPrefix = (prefix: string) => (path: string) => path.slice(prefix.length) || "/";
const unchanged = (path: string) => path;

function keyedService(service: "rest" | "auth" | "storage" | "realtime"): Route {
  const prefix = `/${service}/v1`;
  return { prefix, service, rewrite: withoutPrefix(prefix), keyed: true, preflight: "gateway" };
}

/** Public files and signed URLs are for whoever has the address. */
function openService(service: "storage"): Route {
  return { ...keyedService(service), keyed: "maybe" };
}

function toFunctions(prefix: string, rewrite: (path: string) => string): Route {
  return { prefix, service: "functions", rewrite, keyed: false, preflight: "service first" };
}

/** What a project has and the local stack cannot, and why. */
const NOT_SERVED: Record<string, string> = {
  "/graphql/v1":
    "The local stack does not serve GraphQL: its Postgres lacks the extension pg_graphql, which a hosted project can enable",
};

function notServed(prefix: string): Route {
  return { prefix, service: null, rewrite: unchanged, keyed: false, preflight: "gateway" };
}

/** First match wins. `/api`, `/ws`, `/health`, `/metrics` and `/realtime/v1/channels` are what a domain in front would map. */
const ROUTES: Route[] = [
  toFunctions("/realtime/v1/channels", () => "/api/-/realtime/channels"),
  keyedService("rest"),
  keyedService("auth"),
  keyedService("realtime"),
  openService("storage"),
  toFunctions("/functions/v1", withoutPrefix("/functions/v1")),
  toFunctions("/api", unchanged),
  toFunctions("/ws", unchanged),
  toFunctions("/health", () => "/api/-/health"),
  toFunctions("/metrics", () => "/api/-/metrics"),
  ...Object.keys(NOT_SERVED).map(notServed),
];

/** What browsers, mail links and other services must reach without a key. */
const OPEN_AUTH_PATHS = [
  "/.well-known/",
  "/verify",
  "/callback",
  "/authorize",
  "/health",
];

/** Methods of which fetch makes no request; Kong's nginx refuses them as well. */
const UNCOPIED = ["CONNECT", "TRACE", "TRACK"];

/**
 * The one address of the stack: routes to the services as Kong does in front of Supabase.
 * Bodies stream both ways; WebSocket upgrades reach the service as a request that
 * `Deno.upgradeWebSocket` accepts.
 *
 * @throws Deno.errors.AddrInUse when the port is taken
 */
export function startGateway(options: GatewayOptions): Gateway {
  const { host, port, keys, services, log } = options;
  const keyring = createKeyring(keys);
  const server = Deno.serve(
    { hostname: host, port, onListen() {}, onError: (error) => unexpected(error, log) },
    async (request, info) => {
      if (UNCOPIED.includes(request.method)) return new Response(null, { status: 405 });
      const url = new URL(request.url);
      const route = findRoute(url.pathname);
      if (route === undefined) return noRoute(url.pathname);
      if (isPreflight(request) && route.preflight === "gateway") return preflight(request);
      if (route.service === null) return notImplemented(route.prefix);

      const headers = forwardedHeaders(request, url, route, info.remoteAddr);
      url.pathname = route.rewrite(url.pathname);
      const webSocket = isWebSocketUpgrade(request);
      if (route.keyed) {
        const refusal = resolveCredentials(headers, url, keyring, { webSocket });
        const open = route.keyed === "maybe" ||
          route.service === "auth" && isOpenAuthPath(url.pathname);
        if (refusal !== null && !open) return allowOrigin(refusal, route.service);
      }
      const forwarded = webSocket
        ? disguised(request, url, headers)
        : copied(request, url, headers);
      const answer = await services[route.service].fetch(forwarded);
      if (isPreflight(request) && !answersPreflight(answer)) {
        await answer.body?.cancel();
        return preflight(request);
      }
      return allowOrigin(answer, route.service);
    },
  );
  return { close: () => closeServer(server) };
}

/** Open streams (a followed log, a WebSocket) never end by themselves: after a moment they are cut. */
async function closeServer(server: Deno.HttpServer): Promise<void> {
  const finished = server.shutdown();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<void>((resolve) => timer = setTimeout(resolve, 500));
  await Promise.race([finished, late]);
  clearTimeout(timer);
}

function findRoute(path: string): Route | undefined {
  return ROUTES.find(({ prefix }) =>
    path.startsWith(prefix) && (path.length === prefix.length || path[prefix.length] === "/")
  );
}

function isOpenAuthPath(path: string): boolean {
  return OPEN_AUTH_PATHS.some((open) => open.endsWith("/") ? path.startsWith(open) : path === open);
}

/** The request's headers, and who asked for what: the service sees only the gateway. */
function forwardedHeaders(request: Request, url: URL, route: Route, remote: Deno.Addr): Headers {
  const address = remote.transport === "tcp" ? remote.hostname : "";
  const headers = new Headers(request.headers);
  const chain = headers.get("x-forwarded-for");
  headers.set("x-forwarded-for", chain ? `${chain}, ${address}` : address);
  headers.set("x-real-ip", address);
  headers.set("x-forwarded-proto", "http");
  headers.set("x-forwarded-host", headers.get("host") ?? url.host);
  headers.set("x-forwarded-port", url.port || "80");
  headers.set("x-forwarded-path", url.pathname);
  headers.set("x-forwarded-prefix", route.prefix);
  return headers;
}

function copied(request: Request, url: URL, headers: Headers): Request {
  const { method, body, signal } = request;
  return new Request(url, { method, headers, body, signal, redirect: "manual" });
}

/**
 * The very request with another face: Deno.upgradeWebSocket takes no copy, and for the functions,
 * whose host only reads it, a copy of all headers would cost as much as the rest of the gateway.
 */
function disguised(request: Request, url: URL, headers: Headers): Request {
  return Object.defineProperties(request, {
    url: { value: url.href },
    headers: { value: headers },
  });
}

function noRoute(path: string): Response {
  return path === "/"
    ? Response.json({ message: "Agent Launchpad", health: "/health", api: "/api" })
    : Response.json({ message: "no Route matched with those values" }, { status: 404 });
}

function notImplemented(prefix: string): Response {
  const reason = NOT_SERVED[prefix];
  return Response.json({ code: "NOT_IMPLEMENTED", message: reason }, { status: 501 });
}

/** A service threw: that is a defect of the stack, told to its log and not to the client. */
function unexpected(error: unknown, log: Log): Response {
  log.error(error instanceof Error ? error.stack ?? error.message : String(error));
  return Response.json({ message: "An unexpected error occurred" }, { status: 500 });
}
