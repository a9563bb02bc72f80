/**
 * Every error code of the five API references with its documented status, and our own.
 * One list: SQL raises these words, functions render them, clients may switch on them.
 */

/** Code → HTTP status. The comment says which reference documents it. */
export const ERROR_STATUS = {
  // 000, the unified API
  AUTHENTICATION_FAILED: 401,
  AUTHORIZATION_FAILED: 403,
  AGENT_NOT_FOUND: 404, // 000, 001, 002, 003
  DEPLOYMENT_FAILED: 500, // 000, 001, 002
  RESOURCE_EXHAUSTED: 503,
  VALIDATION_ERROR: 400, // 000, 001, 002, 003
  RATE_LIMIT_EXCEEDED: 429, // 000, 002
  CONTAINER_UNHEALTHY: 503,
  // 001, the first REST API
  INVALID_API_KEY: 401,
  INSUFFICIENT_PERMISSIONS: 403, // 001, 002
  RESOURCE_LIMIT_EXCEEDED: 429, // 001, 002
  SECURITY_SCAN_FAILED: 422, // 001, 002
  // 002, the Supabase edition
  INVALID_JWT_TOKEN: 401,
  RLS_ACCESS_DENIED: 403,
  SUPABASE_CONNECTION_ERROR: 503,
  REAL_TIME_SUBSCRIPTION_FAILED: 422,
  // 003, agents for swarms
  AGENT_LIMIT_REACHED: 403,
  INVALID_FRAMEWORK: 400,
  INVALID_MODEL: 400,
  PERMISSION_DENIED: 403,
  // ours: 004 documents no codes, and these situations have none in the others
  OPERATION_IN_PROGRESS: 409,
  INVALID_STATE: 409,
  IDEMPOTENCY_KEY_REUSED: 422,
  IDEMPOTENCY_KEY_IN_FLIGHT: 409,
  REVISION_NOT_FOUND: 404,
  API_KEY_NOT_FOUND: 404,
  NOT_FOUND: 404,
  METHOD_NOT_ALLOWED: 405,
  UNSUPPORTED_MEDIA_TYPE: 415,
  PAYLOAD_TOO_LARGE: 413,
  UPSTREAM_UNAVAILABLE: 503,
  INTERNAL_ERROR: 500,
} as const;

export type ErrorCode = keyof typeof ERROR_STATUS;

/** True for a word of the list, so that text from outside never becomes a code unchecked. */
export function isErrorCode(word: unknown): word is ErrorCode {
  return typeof word === "string" && Object.hasOwn(ERROR_STATUS, word);
}

export type ErrorDetails = Record<string, unknown>;

export interface ApiErrorOptions {
  /** What a client can act on: bad fields by name, the running operation's id, … */
  details?: ErrorDetails | null;
  /** Only where the status differs from the documented one of the code. */
  status?: number;
  headers?: Record<string, string>;
  hint?: string | null;
  cause?: unknown;
}

/**
 * The one error class. Its message and details are shown to callers: never put an upstream's
 * words, a secret or a stack into them; the `cause` is for the log.
 */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly code: ErrorCode;
  readonly status: number;
  readonly details: ErrorDetails | null;
  readonly headers: Record<string, string>;
  readonly hint: string | null;

  constructor(code: ErrorCode, message: string, options: ApiErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.status = options.status ?? ERROR_STATUS[code];
    this.details = options.details ?? null;
    this.headers = options.headers ?? {};
    this.hint = options.hint ?? null;
  }
}

/** `VALIDATION_ERROR` naming every bad field: `{ "resources.memory": "must be …" }`. */
export function validationError(fields: Record<string, string>): ApiError {
  const names = Object.keys(fields);
  return new ApiError("VALIDATION_ERROR", `Invalid request: ${names.join(", ")}`, {
    details: fields,
  });
}
