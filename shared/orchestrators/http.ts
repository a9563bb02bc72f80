import type { z } from "zod";
import { readBounded } from "../http/read-bounded.ts";
import { OrchestratorError, type OrchestratorErrorCode } from "./errors.ts";

/** JSON answers beyond this are refused: an upstream, or a proxy before it, is not trusted with our memory. */
export const MAX_JSON_BYTES = 8 * 1024 * 1024;
/** Of a refusal only so much is read; it is looked at for its reason and then dropped. */
const MAX_ERROR_BYTES = 64 * 1024;

export interface HttpOptions {
  /** What people call the upstream, for messages: `Portainer`, `Kubernetes`. */
  upstream: string;
  baseUrl: string;
  headers: Record<string, string>;
  fetch: typeof fetch;
  timeoutMs: number;
  /** Reads a refusal; null leaves it to the general rules. */
  explain?: (refusal: Refusal) => OrchestratorError | null;
}

/** An answer outside 2xx, before it is turned into an error. Its words must not travel further. */
export interface Refusal {
  status: number;
  /** The body as text, shortened. */
  text: string;
  /** The body came from the upstream itself and not from something between: it is a JSON object. */
  genuine: boolean;
  /** The request could change something. */
  mutates: boolean;
}

export interface HttpRequest {
  method?: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  path: string;
  query?: Record<string, string | number | boolean | undefined>;
  body?: unknown;
  contentType?: string;
  headers?: Record<string, string>;
  timeoutMs?: number;
  /** Statuses outside 2xx that are answers to this question, given back with `data: null`. */
  accept?: number[];
}

export interface HttpAnswer<T> {
  status: number;
  data: T;
}

/** One upstream, spoken to under limits of time and size. */
export interface HttpClient {
  /** Sends and parses; `data` is null for accepted statuses, 204 and empty bodies. */
  json<S extends z.ZodType>(
    request: HttpRequest,
    schema: S,
    signal: AbortSignal,
  ): Promise<HttpAnswer<z.output<S> | null>>;
  /** Sends where the answer's body does not matter. */
  send(request: HttpRequest, signal: AbortSignal): Promise<HttpAnswer<null>>;
  /** Opens a body and hands its chunks over until `onChunk` returns false. */
  stream(
    request: HttpRequest,
    onChunk: (chunk: Uint8Array) => boolean,
    signal: AbortSignal,
  ): Promise<HttpAnswer<null>>;
}

export function createHttpClient(options: HttpOptions): HttpClient {
  const base = options.baseUrl.replace(/\/+$/, "");

  async function exchange<T>(
    request: HttpRequest,
    signal: AbortSignal,
    read: (response: Response) => Promise<T>,
  ): Promise<HttpAnswer<T | null>> {
    const method = request.method ?? "GET";
    const mutates = method !== "GET";
    const deadline = new AbortController();
    const onAbort = () => deadline.abort(signal.reason);
    if (signal.aborted) throw aborted(signal, false);
    signal.addEventListener("abort", onAbort, { once: true });
    const timer = setTimeout(
      () => deadline.abort(new DOMException("time limit", "TimeoutError")),
      request.timeoutMs ?? options.timeoutMs,
    );
    let response: Response | undefined;
    try {
      const headers: Record<string, string> = {
        accept: "application/json",
        ...options.headers,
        ...request.headers,
      };
      const init: RequestInit = {
        method,
        headers,
        signal: deadline.signal,
        // A redirect would carry the credential to wherever it points.
        redirect: "manual",
      };
      if (request.body !== undefined) {
        headers["content-type"] = request.contentType ?? "application/json";
        init.body = JSON.stringify(request.body);
      }
      response = await options.fetch(base + request.path + queryString(request.query), init);
      if (request.accept?.includes(response.status)) return { status: response.status, data: null };
      if (!response.ok) throw await refused(response, mutates);
      if (response.status === 204) return { status: 204, data: null };
      return { status: response.status, data: await read(response) };
    } catch (error) {
      if (error instanceof OrchestratorError) throw error;
      if (signal.aborted) throw aborted(signal, mutates);
      if (deadline.signal.aborted) {
        throw unavailable("did not answer in time", "timeout", { ambiguous: mutates });
      }
      throw unavailable("cannot be reached", "unreachable", {
        ambiguous: mutates && (response !== undefined || !neverConnected(error)),
      });
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
      // Also ends bodies that nobody read to their end.
      deadline.abort();
      if (response?.body && !response.body.locked) await response.body.cancel().catch(() => {});
    }
  }

  function aborted(signal: AbortSignal, ambiguous: boolean): OrchestratorError {
    return new OrchestratorError("UPSTREAM_UNAVAILABLE", "The request was given up.", {
      ambiguous,
      details: { reason: "aborted" },
      cause: signal.reason,
    });
  }

  function unavailable(
    what: string,
    reason: string,
    init: { ambiguous: boolean; status?: number; retryAfterSeconds?: number },
  ): OrchestratorError {
    return new OrchestratorError("UPSTREAM_UNAVAILABLE", `${options.upstream} ${what}.`, {
      ambiguous: init.ambiguous,
      retryAfterSeconds: init.retryAfterSeconds,
      details: init.status === undefined ? { reason } : { reason, upstream_status: init.status },
    });
  }

  async function refused(response: Response, mutates: boolean): Promise<OrchestratorError> {
    const { status } = response;
    const { bytes } = await readBounded(response.body, MAX_ERROR_BYTES);
    const text = new TextDecoder().decode(bytes);
    const refusal: Refusal = { status, text, genuine: isJsonObject(text), mutates };
    const explained = options.explain?.(refusal);
    if (explained) return explained;

    if (status >= 300 && status < 400) {
      return unavailable("answers with a redirect; check the cluster's address", "redirected", {
        ambiguous: false,
        status,
      });
    }
    if (status === 401) {
      return failure("refused the credential; check the cluster's credential", "unauthorized", 401);
    }
    if (status === 403) {
      return failure(
        "does not allow this; check what the cluster's credential may do",
        "forbidden",
        403,
      );
    }
    // A gateway's own answer says nothing about what the upstream did with the request.
    const ambiguous = mutates && status >= 500 && (!refusal.genuine || status !== 500);
    if (status === 408 || status === 429 || status >= 500) {
      return unavailable("is not able to answer", "upstream_error", {
        ambiguous,
        status,
        retryAfterSeconds: retryAfter(response),
      });
    }
    return failure("refused the request", "refused", status);
  }

  function failure(what: string, reason: string, status: number): OrchestratorError {
    const code: OrchestratorErrorCode = "DEPLOYMENT_FAILED";
    return new OrchestratorError(code, `${options.upstream} ${what}.`, {
      retryable: false,
      details: { reason, upstream_status: status },
    });
  }

  return {
    json(request, schema, signal) {
      const mutates = (request.method ?? "GET") !== "GET";
      return exchange(request, signal, async (response) => {
        const { bytes, truncated } = await readBounded(response.body, MAX_JSON_BYTES);
        if (truncated) {
          throw unavailable("sent an answer beyond the size limit", "too_large", {
            ambiguous: mutates,
          });
        }
        if (bytes.length === 0) return null;
        let value: unknown;
        try {
          value = JSON.parse(new TextDecoder().decode(bytes));
        } catch {
          throw unavailable("answered with something that is not JSON", "not_json", {
            ambiguous: mutates,
          });
        }
        const parsed = schema.safeParse(value);
        if (!parsed.success) {
          // Paths only: zod's messages can quote what was received.
          throw new OrchestratorError(
            "UPSTREAM_UNAVAILABLE",
            `${options.upstream} answered in a form this version does not know.`,
            {
              ambiguous: mutates,
              details: {
                reason: "unknown_form",
                fields: parsed.error.issues.slice(0, 5).map((issue) => issue.path.join(".")),
              },
            },
          );
        }
        return parsed.data;
      });
    },
    send: (request, signal) => exchange(request, signal, () => Promise.resolve(null)),
    stream(request, onChunk, signal) {
      return exchange(request, signal, async (response) => {
        const reader = response.body?.getReader();
        if (!reader) return null;
        try {
          while (true) {
            const { done, value } = await reader.read();
            if (done || !onChunk(value)) return null;
          }
        } finally {
          await reader.cancel().catch(() => {});
        }
      });
    },
  };
}

function isJsonObject(text: string): boolean {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
}

function queryString(query: HttpRequest["query"]): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== undefined) parameters.set(name, String(value));
  }
  const text = parameters.toString();
  return text === "" ? "" : `?${text}`;
}

function retryAfter(response: Response): number | undefined {
  const value = response.headers.get("retry-after");
  if (value === null || !/^\d{1,5}$/.test(value)) return undefined;
  return Number(value);
}

/** True where the failure shows that no connection came about, so that nothing can have happened. */
function neverConnected(error: unknown): boolean {
  const codes = ["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH"];
  for (let current = error; current instanceof Error; current = current.cause) {
    const code = (current as { code?: unknown }).code;
    if (typeof code === "string" && codes.includes(code)) return true;
    // Deno's fetch has no code, only hyper's words.
    if (/tcp connect error|dns error|connection refused/i.test(current.message)) return true;
  }
  return false;
}
