export interface ErrorFacts {
  status?: number;
  details?: Record<string, unknown> | null;
  hint?: string | null;
  requestId?: string | null;
  retryAfter?: number | null;
  cause?: unknown;
}

/**
 * The one error of the SDK. `code` is a code of the API (`AGENT_NOT_FOUND`, `VALIDATION_ERROR` …), or
 * for what got no answer of the API `NETWORK_ERROR`, `TIMEOUT`, `ABORTED` or `UNEXPECTED_ANSWER`.
 */
export class AgentLaunchpadError extends Error {
  override readonly name = "AgentLaunchpadError";
  readonly code: string;
  /** HTTP status; 0 when there was no answer. */
  readonly status: number;
  /** What can be acted on: bad fields by name, the id of the running operation … */
  readonly details: Record<string, unknown> | null;
  readonly hint: string | null;
  /** Under which the server's log has the request. */
  readonly requestId: string | null;
  /** Seconds after which to ask again. */
  readonly retryAfter: number | null;

  constructor(code: string, message: string, facts: ErrorFacts = {}) {
    super(message, facts.cause === undefined ? undefined : { cause: facts.cause });
    this.code = code;
    this.status = facts.status ?? 0;
    this.details = facts.details ?? null;
    this.hint = facts.hint ?? null;
    this.requestId = facts.requestId ?? null;
    this.retryAfter = facts.retryAfter ?? null;
  }
}

/** The error that an answer tells of. */
export async function errorOf(response: Response): Promise<AgentLaunchpadError> {
  const { status, headers } = response;
  const seconds = Number(headers.get("retry-after") ?? "x");
  const facts: ErrorFacts = {
    status,
    requestId: headers.get("x-request-id"),
    retryAfter: Number.isFinite(seconds) ? seconds : null,
  };
  const body = await response.json().catch(() => null);
  const said = body?.error;
  if (typeof said?.code !== "string") {
    return new AgentLaunchpadError("UNEXPECTED_ANSWER", `The API answered ${status}`, facts);
  }
  const { code, message, details, hint } = said;
  return new AgentLaunchpadError(code, String(message), { ...facts, details, hint });
}

/** What ended a request without an answer. */
export function errorWithoutAnswer(cause: unknown): AgentLaunchpadError {
  if (cause instanceof AgentLaunchpadError) return cause;
  const name = cause instanceof Error ? cause.name : "";
  if (name === "AbortError") {
    return new AgentLaunchpadError("ABORTED", "The request was ended", { cause });
  }
  return name === "TimeoutError"
    ? new AgentLaunchpadError("TIMEOUT", "The API did not answer in time", { cause })
    : new AgentLaunchpadError("NETWORK_ERROR", "The API cannot be reached", { cause });
}
