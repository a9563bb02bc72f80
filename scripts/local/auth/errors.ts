/**
 * A refusal in Auth's terms: HTTP status, stable error code and a message for people. `cause` goes
 * to the log and never to the client.
 */
export class AuthError extends Error {
  override readonly name = "AuthError";

  /** @param reasons why a password is weak (`length`, `characters`); only with `weak_password` */
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly options: { cause?: unknown; reasons?: string[] } = {},
  ) {
    super(message, { cause: options.cause });
  }
}

export const badRequest = (code: string, message: string) => new AuthError(400, code, message);
export const forbidden = (code: string, message: string) => new AuthError(403, code, message);
export const notFound = (code: string, message: string) => new AuthError(404, code, message);
export const unprocessable = (code: string, message: string) => new AuthError(422, code, message);
export const tooMany = (code: string, message: string) => new AuthError(429, code, message);
export const internal = (message: string, cause?: unknown) =>
  new AuthError(500, "unexpected_failure", message, { cause });

export const API_VERSION_HEADER = "x-supabase-api-version";
const VERSION_WITH_CODES = "2024-01-01";

/**
 * The answer to a failed request. Clients that ask for API version 2024-01-01 or later get
 * `{code, message}` and the version back in a header, older ones `{code: status, error_code, msg}`.
 */
export function errorResponse(error: AuthError, request: Request, requestId: string): Response {
  const headers = new Headers({
    "content-type": "application/json",
    "x-sb-error-code": error.code,
  });
  const weakPassword = error.options.reasons &&
    { weak_password: { reasons: error.options.reasons } };
  if (asksForCodes(request.headers.get(API_VERSION_HEADER))) {
    headers.set(API_VERSION_HEADER, VERSION_WITH_CODES);
    const body = { code: error.code, message: error.message, ...weakPassword };
    return new Response(JSON.stringify(body), { status: error.status, headers });
  }
  const body = {
    code: error.status,
    error_code: error.code,
    msg: error.message,
    ...(error.status >= 500 && { error_id: requestId }),
    ...weakPassword,
  };
  return new Response(JSON.stringify(body), { status: error.status, headers });
}

function asksForCodes(version: string | null): boolean {
  if (version === null || !/^\d{4}-\d{2}-\d{2}$/.test(version)) return false;
  return !Number.isNaN(Date.parse(version)) && version >= VERSION_WITH_CODES;
}
