import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { once } from "node:events";
import { readBounded } from "../../../shared/http/read-bounded.ts";
import { DockerError, PortainerError } from "./errors.ts";

/** A request with its body read, and what routing found in it. */
export interface ApiRequest {
  method: string;
  /** Decoded path without the query. */
  path: string;
  query: URLSearchParams;
  header(name: string): string | null;
  body: Uint8Array<ArrayBuffer>;
  /** Aborted when the client goes away. */
  signal: AbortSignal;
}

export type Handler = (request: ApiRequest, params: string[]) => Promise<Response> | Response;

/** Larger than any stack file that Portainer takes. */
const LARGEST_BODY = 32 * 1024 * 1024;

/** A table of routes: methods and patterns whose groups become the handler's parameters. */
export class Router {
  readonly #routes: { method: string; pattern: RegExp; handler: Handler }[] = [];

  /** `:name` in the path takes one segment. */
  on(method: string, path: string, handler: Handler): void {
    const pattern = new RegExp(`^${path.replaceAll(/:\w+/g, "([^/]+)")}$`);
    this.#routes.push({ method, pattern, handler });
  }

  /** Null when no route fits; 405 is not told apart, as neither server does so. */
  route(request: ApiRequest, path = request.path): Promise<Response> | Response | null {
    for (const { method, pattern, handler } of this.#routes) {
      if (method !== request.method) continue;
      const match = pattern.exec(path);
      if (match) return handler(request, match.slice(1).map(decodeURIComponent));
    }
    return null;
  }
}

/** The JSON body. @throws PortainerError 400 */
export function jsonBody(request: ApiRequest): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(request.body) || "null");
  } catch (error) {
    throw new PortainerError(400, "Invalid request payload", (error as Error).message);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new PortainerError(400, "Invalid request payload", "EOF");
  }
  return value as Record<string, unknown>;
}

/** A field under any capitalisation: Go's decoder takes `name` for `Name`. */
export function field(body: Record<string, unknown>, name: string): unknown {
  const lower = name.toLowerCase();
  return body[name] ?? Object.entries(body).find(([key]) => key.toLowerCase() === lower)?.[1];
}

/** The JSON body of a call to the engine; none counts as an empty object. @throws DockerError 400 */
export function engineBody({ body }: ApiRequest): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(body) || "{}");
  } catch (error) {
    throw new DockerError(400, `invalid JSON: ${(error as Error).message}`);
  }
  if (value === null) return {};
  if (typeof value === "object" && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new DockerError(400, "invalid JSON: json: cannot unmarshal into an object");
}

/** A text of the engine's body, empty when it is missing. @throws DockerError 400 */
export function text(body: Record<string, unknown>, name: string): string {
  const value = field(body, name) ?? "";
  if (typeof value === "string") return value;
  throw new DockerError(
    400,
    `invalid JSON: json: cannot unmarshal into field ${name} of type string`,
  );
}

/** A map of texts of the engine's body, null when it is missing. @throws DockerError 400 */
export function stringMap(
  body: Record<string, unknown>,
  name: string,
): Record<string, string> | null {
  const value = field(body, name) ?? null;
  if (value === null) return null;
  if (
    typeof value === "object" && !Array.isArray(value) &&
    Object.values(value).every((item) => typeof item === "string")
  ) return value as Record<string, string>;
  throw new DockerError(
    400,
    `invalid JSON: json: cannot unmarshal into field ${name} of type map[string]string`,
  );
}

export const json = (value: unknown, status = 200, headers: Record<string, string> = {}) =>
  new Response(JSON.stringify(value), {
    status,
    headers: { "content-type": "application/json", ...headers },
  });

export const empty = (status = 204): Response => new Response(null, { status });

/** A body that is made while it is read and ends when the client goes. */
export function streamed(
  chunks: AsyncGenerator<Uint8Array>,
  contentType: string,
): Response {
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      const { done, value } = await chunks.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
    async cancel() {
      await chunks.return(undefined);
    },
  }, { highWaterMark: 0 });
  return new Response(body, { headers: { "content-type": contentType } });
}

function errorResponse(error: unknown, log: (line: string) => void): Response {
  if (error instanceof PortainerError) {
    return json({ message: error.message, details: error.details }, error.status);
  }
  if (error instanceof DockerError) return json({ message: error.message }, error.status);
  log(`internal error: ${error instanceof Error ? error.stack : String(error)}`);
  return json({ message: "internal error", details: "internal error" }, 500);
}

async function readBody(message: IncomingMessage): Promise<Uint8Array<ArrayBuffer>> {
  const { bytes, truncated } = await readBounded(message, LARGEST_BODY);
  if (truncated) throw new PortainerError(413, "Request body too large");
  return bytes;
}

async function send(response: Response, out: ServerResponse, signal: AbortSignal): Promise<void> {
  out.writeHead(response.status, Object.fromEntries(response.headers));
  out.flushHeaders();
  if (!response.body) {
    out.end();
    return;
  }
  const reader = response.body.getReader();
  const stop = () => reader.cancel().catch(() => {});
  signal.addEventListener("abort", stop, { once: true });
  try {
    while (!signal.aborted) {
      const { done, value } = await reader.read();
      if (done) break;
      if (!out.write(value)) await once(out, "drain", { signal });
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    signal.removeEventListener("abort", stop);
    out.end();
  }
}

/**
 * Serves a handler over HTTP. `node:http` and not `Deno.serve`, because the faults have to be able to cut a
 * connection without any answer.
 * @throws Error when the port is taken
 */
export async function listen(options: {
  hostname: string;
  port: number;
  log: (line: string) => void;
  handle: (request: ApiRequest, drop: () => void) => Promise<Response | null>;
}): Promise<{ port: number; server: Server }> {
  const server = createServer(async (message, out) => {
    const gone = new AbortController();
    out.on("close", () => gone.abort());
    out.on("error", () => gone.abort());
    let response: Response | null;
    try {
      const url = new URL(message.url ?? "/", "http://portainer");
      const request: ApiRequest = {
        method: message.method ?? "GET",
        path: url.pathname,
        query: url.searchParams,
        header: (name) => {
          const value = message.headers[name];
          return (Array.isArray(value) ? value[0] : value) ?? null;
        },
        body: await readBody(message),
        signal: gone.signal,
      };
      response = await options.handle(request, () => message.socket.destroy());
    } catch (error) {
      response = errorResponse(error, options.log);
    }
    if (!response || gone.signal.aborted) {
      await response?.body?.cancel();
      return;
    }
    try {
      await send(response, out, gone.signal);
    } catch (error) {
      options.log(`answer broken off: ${(error as Error).message}`);
      message.socket.destroy();
    }
  });
  server.requestTimeout = 0;
  server.listen(options.port, options.hostname);
  try {
    await once(server, "listening");
  } catch (error) {
    if ((error as { code?: string }).code !== "EADDRINUSE") throw error;
    throw new Error(`port ${options.port} is in use; set PORTAINER_PORT to another one`);
  }
  const address = server.address();
  return { server, port: typeof address === "object" && address ? address.port : options.port };
}
