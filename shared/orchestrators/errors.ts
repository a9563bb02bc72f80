/** What went wrong, in the codes of the documented API. */
export type OrchestratorErrorCode =
  | "DEPLOYMENT_FAILED"
  | "RESOURCE_EXHAUSTED"
  | "CONTAINER_UNHEALTHY"
  | "UPSTREAM_UNAVAILABLE";

export interface OrchestratorErrorInit {
  /** The same call may succeed later without anybody changing anything. */
  retryable?: boolean;
  /** The request may have taken effect although it failed: look at the real state before acting. */
  ambiguous?: boolean;
  /** What the upstream asked for (`Retry-After`), in seconds. */
  retryAfterSeconds?: number;
  /** Facts of ours about the failure. Never an upstream's words, never a secret. */
  details?: Record<string, unknown>;
  cause?: unknown;
}

/** The documented HTTP status of each code. */
const STATUS: Record<OrchestratorErrorCode, number> = {
  DEPLOYMENT_FAILED: 500,
  RESOURCE_EXHAUSTED: 503,
  CONTAINER_UNHEALTHY: 503,
  UPSTREAM_UNAVAILABLE: 503,
};

/**
 * The one error that drivers throw. `message` and `details` are safe to show to the agent's owner: they are
 * written by us and hold neither what the upstream said nor any credential.
 */
export class OrchestratorError extends Error {
  override readonly name = "OrchestratorError";
  readonly code: OrchestratorErrorCode;
  readonly status: number;
  readonly retryable: boolean;
  readonly ambiguous: boolean;
  readonly retryAfterSeconds: number | undefined;
  readonly details: Record<string, unknown>;

  constructor(code: OrchestratorErrorCode, message: string, init: OrchestratorErrorInit = {}) {
    super(message, init.cause === undefined ? undefined : { cause: init.cause });
    this.code = code;
    this.status = STATUS[code];
    this.retryable = init.retryable ?? code !== "DEPLOYMENT_FAILED";
    this.ambiguous = init.ambiguous ?? false;
    this.retryAfterSeconds = init.retryAfterSeconds;
    this.details = init.details ?? {};
  }
}
