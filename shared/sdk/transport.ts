import type { Edition } from "../contract/editions.ts";
import { type Endpoint, type EndpointName, ENDPOINTS } from "../contract/endpoints.ts";
import type { BodyOf, QueryOf } from "../contract/operations.ts";
import { type AgentLaunchpadError, errorOf, errorWithoutAnswer } from "./error.ts";

export interface TransportOptions {
  /** Before `/api`. */
  baseUrl: string;
  edition: Edition;
  /** Headers that prove who asks, read anew for each request. */
  credentials: () => Promise<Record<string, string>>;
  /** How often a request that is safe to repeat is repeated. */
  retries: number;
  timeoutMs: number;
  fetch: typeof fetch;
}

export interface RequestOptions {
  /** Ends the request. */
  signal?: AbortSignal;
  /** Of a POST: the same key carries it out once. By default each call has one of its own. */
  idempotencyKey?: string;
}

export interface RequestInput<Name extends EndpointName> extends RequestOptions {
  id?: string;
  query?: QueryOf<Name>;
  body?: BodyOf<Name>;
}

/** The longest that a request waits to be repeated; a fuller window of the rate limit is an error. */
const LONGEST_WAIT_MS = 20_000;
/** With a key these would answer before they looked: what they do can be repeated without one. */
const WITHOUT_KEY: readonly EndpointName[] = ["scanAgent", "joinChannel"];

/** The edition that is asked for: the client's own, or the newest that knows the endpoint. */
export function editionFor(name: EndpointName, own: Edition): Edition {
  const documented: readonly Edition[] = ENDPOINTS[name].documented;
  return documented.includes(own) ? own : documented.at(-1)!;
}

/** Sends requests of the endpoints and repeats those that are safe to repeat. */
export class Transport {
  readonly #options: TransportOptions;

  constructor(options: TransportOptions) {
    this.#options = options;
  }

  /** @throws AgentLaunchpadError */
  async json<Name extends EndpointName>(name: Name, input: RequestInput<Name>): Promise<unknown> {
    const answer = await this.response(name, input);
    return await answer.json().catch((error) => {
      throw errorWithoutAnswer(error);
    });
  }

  /**
   * The answer, whose body is still to be read.
   * @throws AgentLaunchpadError for any that is no success
   */
  async response<Name extends EndpointName>(
    name: Name,
    input: RequestInput<Name>,
    further: Record<string, string> = {},
  ): Promise<Response> {
    const endpoint: Endpoint = ENDPOINTS[name];
    const { baseUrl, edition, credentials, retries } = this.#options;
    const url = new URL(
      baseUrl + endpoint.path.replace("{id}", encodeURIComponent(input.id ?? "")),
    );
    for (const [key, value] of Object.entries(input.query ?? {})) {
      if (value !== undefined) url.searchParams.set(key, textOf(value));
    }
    const headers: Record<string, string> = {
      ...further,
      "API-Version": String(editionFor(name, edition)),
    };
    if (input.body !== undefined) headers["Content-Type"] = "application/json";
    const isPost = endpoint.method === "POST";
    if (isPost && (input.idempotencyKey !== undefined || !WITHOUT_KEY.includes(name))) {
      headers["Idempotency-Key"] = input.idempotencyKey ?? crypto.randomUUID();
    }
    const repeatable = endpoint.method === "GET" || isPost;
    for (let attempt = 0;; attempt++) {
      const error = await this.#attempt(url, endpoint.method, input, async () => ({
        ...headers,
        ...await credentials(),
      }));
      if (error instanceof Response) return error;
      const wait = attempt < retries ? waitBefore(error, attempt, repeatable) : null;
      if (wait === null || input.signal?.aborted) throw error;
      await pause(wait, input.signal);
    }
  }

  async #attempt(
    url: URL,
    method: string,
    { body, signal }: RequestInput<EndpointName>,
    headers: () => Promise<Record<string, string>>,
  ): Promise<Response | AgentLaunchpadError> {
    const timeout = new AbortController();
    const timer = setTimeout(
      () => timeout.abort(new DOMException("The API did not answer in time", "TimeoutError")),
      this.#options.timeoutMs,
    );
    try {
      const answer = await this.#options.fetch(url, {
        method,
        headers: await headers(),
        body: body === undefined ? undefined : JSON.stringify(body),
        signal: signal === undefined ? timeout.signal : AbortSignal.any([signal, timeout.signal]),
      });
      return answer.ok ? answer : await errorOf(answer);
    } catch (error) {
      return errorWithoutAnswer(error);
    } finally {
      clearTimeout(timer);
    }
  }
}

function textOf(value: unknown): string {
  return value instanceof Date ? value.toISOString() : String(value);
}

/** Milliseconds after which the request is sent again; null when that helps nothing or is not safe. */
function waitBefore(
  { code, status, retryAfter }: AgentLaunchpadError,
  attempt: number,
  repeatable: boolean,
): number | null {
  // A request that a limit refused did nothing; a quota says of no time that it would help.
  const refused = status === 429 && retryAfter !== null;
  const passing = [0, 502, 503, 504].includes(status) || code === "IDEMPOTENCY_KEY_IN_FLIGHT";
  if (!refused && !(repeatable && passing)) return null;
  const wait = retryAfter === null ? 250 * 2 ** attempt * (0.5 + Math.random()) : retryAfter * 1000;
  return wait <= LONGEST_WAIT_MS ? wait : null;
}

/** Waits, but not longer than until the signal. */
export function pause(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    signal?.addEventListener("abort", done);
    if (signal?.aborted) done();
  });
}
