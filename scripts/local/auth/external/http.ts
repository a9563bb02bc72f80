import { readBounded } from "../../../../shared/http/read-bounded.ts";

/** What a provider said or did that it should not have; for the log, never for the client. */
export class ProviderFault extends Error {
  override readonly name = "ProviderFault";
}

/** As long as Auth waits for a provider. */
const TIMEOUT_MS = 10_000;
const MAX_BYTES = 1 << 20;

/**
 * `fetch` for talking to providers: bounded in time and size, and not to be sent elsewhere. The
 * address is never one that a client chose.
 *
 * @throws {ProviderFault} when nobody answers in time, or with a redirect or too much
 */
export async function fetchBounded(
  url: string | URL,
  init: RequestInit = {},
  timeoutMs = TIMEOUT_MS,
): Promise<Response> {
  const { origin } = new URL(url);
  const signal = AbortSignal.timeout(timeoutMs);
  try {
    const response = await fetch(url, { ...init, redirect: "error", signal });
    const { bytes, truncated } = await readBounded(response.body, MAX_BYTES);
    if (truncated) throw new ProviderFault(`${origin} answered with too much`);
    const { status, headers } = response;
    return new Response(status === 204 || status === 304 ? null : bytes, { status, headers });
  } catch (cause) {
    if (cause instanceof ProviderFault) throw cause;
    const reason = signal.aborted
      ? `did not answer within ${timeoutMs / 1000} s`
      : "could not be reached";
    throw new ProviderFault(`${origin} ${reason}`, { cause });
  }
}

/**
 * The JSON object or array that a provider answers with.
 *
 * @throws {ProviderFault} for any other answer
 */
export async function fetchJson(url: string | URL, init: RequestInit = {}): Promise<unknown> {
  const headers = new Headers(init.headers);
  headers.set("accept", "application/json");
  headers.set("user-agent", "agent-launchpad-local");
  const response = await fetchBounded(url, { ...init, headers });
  const { origin, pathname } = new URL(url);
  const text = await response.text();
  // Not the text itself: it may repeat a code or a secret.
  if (!response.ok) throw new ProviderFault(`${origin}${pathname} answered ${response.status}`);
  try {
    return JSON.parse(text);
  } catch {
    throw new ProviderFault(`${origin}${pathname} answered with something other than JSON`);
  }
}
