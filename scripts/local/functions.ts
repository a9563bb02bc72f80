import { existsSync } from "node:fs";
import { dirname, extname, join, sep } from "node:path";
import type { FunctionConfig, StackConfig } from "./config.ts";
import type { StackKeys } from "./keys.ts";
import type { Log } from "./log.ts";
import { isWebSocketUpgrade, proxyRequest, proxyWebSocket } from "./proxy.ts";
import type { HttpService } from "./service.ts";
import { ChildDownError, superviseChild, type SupervisedChild } from "./supervisor.ts";

export interface FunctionsOptions {
  config: StackConfig;
  keys: StackKeys;
  log: Log;
  /** Whether saving a file of `functions/` or `shared/` reloads what it concerns. */
  watch?: boolean;
  /** What `supabase secrets set` would hold; comes on top of the platform's own variables. */
  secrets?: Record<string, string>;
}

export interface FunctionsHost extends HttpService {
  readonly children: SupervisedChild[];
}

/** As hosted: a request that has got no answer after 150 s gets 504. */
const ANSWER_WITHIN_MS = 150_000;
/** Memory of a hosted function in MB. */
const MEMORY_LIMIT_MB = 256;
/** Editors save in several steps, and a git checkout touches many files. */
const QUIET_MS = 120;
const SOURCES = new Set([".ts", ".tsx", ".js", ".mjs", ".json"]);
/** Settings of our functions that may come from our own environment, as `supabase secrets` hosted. */
const PASSED_ON =
  /^(PORTAINER_|KUBERNETES_|AGENT_URL_TEMPLATE$|AUTH_ISSUERS$|DATABASE_POOL_SIZE$|FOLLOW_SECONDS$)/;
const NEEDED_BY_DENO =
  /^(PATH|HOME|DENO_DIR|XDG_CACHE_HOME|TMPDIR|LANG|TZ|DENO_CERT|DENO_TLS_CA_STORE|SSL_CERT_FILE|https?_proxy|HTTPS?_PROXY)$/;

/**
 * Serves the Edge Functions of `supabase/config.toml`, each in a Deno process of its own, so that
 * one that hangs, crashes or eats its memory leaves the others alone. `/NAME/…` goes to NAME.
 * Errors that are not a function's own have the platform's codes: `NOT_FOUND` 404, `BOOT_ERROR`
 * 503, `WORKER_ERROR` 502, `IDLE_TIMEOUT` 504.
 */
export function createFunctions(options: FunctionsOptions): Promise<FunctionsHost> {
  const { config, log } = options;
  const client = Deno.createHttpClient({ poolMaxIdlePerHost: 64 });
  const children = new Map(
    config.functions
      .filter((settings) => existsSync(settings.entrypoint))
      .map((settings) => [settings.name, startFunction(settings, options)]),
  );
  const stopWatching = options.watch === false ? () => {} : watchSources(config, children, log);

  return Promise.resolve({
    children: [...children.values()],
    fetch: async (request) => {
      const name = new URL(request.url).pathname.split("/", 2)[1] ?? "";
      const child = children.get(name);
      if (child === undefined) {
        return answer(404, "NOT_FOUND", "Requested function was not found");
      }
      try {
        const origin = `http://${config.host}:${await child.ready()}`;
        return isWebSocketUpgrade(request)
          ? await proxyWebSocket(request, origin, client, log)
          : await proxyWithin(ANSWER_WITHIN_MS, request, origin, client);
      } catch (error) {
        return failure(error, request, name);
      }
    },
    close: async () => {
      stopWatching();
      await Promise.all([...children.values()].map((child) => child.stop()));
      client.close();
    },
  });
}

function startFunction(settings: FunctionConfig, options: FunctionsOptions): SupervisedChild {
  const { config, log } = options;
  return superviseChild({
    name: settings.name,
    command: Deno.execPath(),
    args: [
      "run",
      "--quiet",
      "--no-prompt",
      "--cached-only",
      "--allow-net",
      "--allow-env",
      "--allow-sys",
      // As hosted: no files but the bundle's own, no processes, no native code.
      config.root.includes(",") ? "--allow-read" : `--allow-read=${config.root}`,
      "--unstable-no-legacy-abort",
      `--v8-flags=--max-old-space-size=${MEMORY_LIMIT_MB}`,
      `--config=${settings.importMap}`,
      join(import.meta.dirname!, "edge-runtime.ts"),
      settings.entrypoint,
    ],
    cwd: config.root,
    env: functionEnvironment(options),
    log: log.child(settings.name),
  });
}

/** The environment of a hosted function, pointed at this stack. */
function functionEnvironment({ config, keys, secrets }: FunctionsOptions): Record<string, string> {
  const own = Object.entries(Deno.env.toObject());
  const pick = (pattern: RegExp) => Object.fromEntries(own.filter(([name]) => pattern.test(name)));
  return {
    ...pick(NEEDED_BY_DENO),
    // A proxy for the outside world must not see what the parts of the stack tell each other.
    NO_PROXY: [Deno.env.get("NO_PROXY"), config.host, "localhost"].filter(Boolean).join(","),
    NO_COLOR: "1",
    DENO_NO_UPDATE_CHECK: "1",
    ...secrets,
    ...pick(PASSED_ON),
    SUPABASE_URL: config.urls.api,
    SUPABASE_DB_URL: config.urls.db,
    SUPABASE_PUBLISHABLE_KEYS: JSON.stringify({ default: keys.publishable }),
    SUPABASE_SECRET_KEYS: JSON.stringify({ default: keys.secret }),
    SUPABASE_JWKS: JSON.stringify(keys.jwks),
    SUPABASE_ANON_KEY: keys.anon,
    SUPABASE_SERVICE_ROLE_KEY: keys.serviceRole,
  };
}

async function proxyWithin(
  milliseconds: number,
  request: Request,
  origin: string,
  client: Deno.HttpClient,
): Promise<Response> {
  const timeout = new AbortController();
  const late = setTimeout(() => timeout.abort(new IdleTimeout()), milliseconds);
  try {
    const signal = AbortSignal.any([request.signal, timeout.signal]);
    return await proxyRequest(request, origin, client, signal);
  } finally {
    clearTimeout(late);
  }
}

class IdleTimeout extends Error {}

function failure(error: unknown, request: Request, name: string): Response {
  if (error instanceof ChildDownError) {
    const headers = { "Retry-After": String(error.retryAfterSeconds) };
    return error.duringStart
      ? answer(
        503,
        "BOOT_ERROR",
        `Function ${name} failed to start (see the log of npm start)`,
        headers,
      )
      : answer(503, "WORKER_ERROR", `Function ${name} is being restarted`, headers);
  }
  if (error instanceof IdleTimeout) {
    return answer(504, "IDLE_TIMEOUT", `Function ${name} has not answered in time`);
  }
  // The client is gone; nobody reads this.
  if (request.signal.aborted) return new Response(null, { status: 499 });
  return answer(502, "WORKER_ERROR", `Function ${name} ended before it answered`);
}

function answer(status: number, code: string, message: string, headers?: HeadersInit): Response {
  return Response.json({ code, message }, { status, ...(headers && { headers }) });
}

/** Reloads a function when its own folder changed, and all of them when `shared/` did. */
function watchSources(
  config: StackConfig,
  children: Map<string, SupervisedChild>,
  log: Log,
): () => void {
  const shared = join(config.root, "shared") + sep;
  const folders = new Map(
    config.functions.map(({ name, entrypoint }) => [dirname(entrypoint) + sep, name]),
  );
  const paths = [shared, ...folders.keys()].filter((path) => existsSync(path));
  if (paths.length === 0) return () => {};
  const watcher = Deno.watchFs(paths);
  const changed = new Set<string>();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const reload = () => {
    for (const name of changed) {
      log.info(`reloading ${name}`);
      void children.get(name)?.restart();
    }
    changed.clear();
  };
  void (async () => {
    for await (const event of watcher) {
      if (event.kind === "access") continue;
      for (const path of event.paths.filter((path) => SOURCES.has(extname(path)))) {
        const own = [...folders].find(([folder]) => path.startsWith(folder));
        for (const name of own ? [own[1]] : children.keys()) changed.add(name);
        clearTimeout(timer);
        timer = setTimeout(reload, QUIET_MS);
      }
    }
  })();
  return () => {
    clearTimeout(timer);
    watcher.close();
  };
}
