/** Errors in PostgREST's form: `{code, message, details, hint}` and the status it gives each code. */

export interface RestError {
  status: number;
  code: string;
  message: string;
  details?: string | null;
  hint?: string | null;
  headers?: Record<string, string>;
}

/** Renders an error as PostgREST does. */
export function errorResponse(error: RestError): Response {
  const { status, code, message, details = null, hint = null, headers } = error;
  return Response.json({ code, details, hint, message }, {
    status,
    headers: { "content-type": "application/json; charset=utf-8", ...headers },
  });
}

/** The error as SQL raises one of PostgREST's own, which lite passes on as it is. */
export function dress(error: RestError): object {
  const { status, code, message, details = null, hint = null } = error;
  return {
    code: "PGRST",
    message: JSON.stringify({ code, message, details, hint }),
    detail: JSON.stringify({ status, headers: {} }),
  };
}

/** What a bearer token that is wrong or over gets. */
export function tokenError(cause: unknown): Response {
  const expired = (cause as { code?: string }).code === "ERR_JWT_EXPIRED";
  const message = expired ? "JWT expired" : "No suitable key or wrong key type";
  return errorResponse({
    status: 401,
    code: "PGRST301",
    message,
    details: expired ? null : "None of the keys was able to decode the JWT",
    headers: { "www-authenticate": `Bearer error="invalid_token", error_description="${message}"` },
  });
}

/** PostgREST's status for a SQL state; anonymous callers are asked to log in where others may not. */
export function statusOf(sqlState: string, anonymous: boolean): number {
  const exact: Record<string, number> = {
    "23503": 409,
    "23505": 409,
    "25006": 405,
    "21000": 400,
    "42883": 404,
    "42P01": 404,
    "42P17": 500,
    "42501": anonymous ? 401 : 403,
    "53400": 500,
    "57P01": 503,
    "P0001": 400,
  };
  const classes: Record<string, number> = {
    "08": 503,
    "09": 500,
    "0L": 403,
    "0P": 403,
    "25": 500,
    "28": 403,
    "2D": 500,
    "38": 500,
    "39": 500,
    "3B": 500,
    "40": 500,
    "53": 503,
    "54": 500,
    "55": 500,
    "57": 500,
    "58": 500,
    "F0": 500,
    "HV": 500,
    "P0": 500,
    "XX": 500,
  };
  return exact[sqlState] ?? classes[sqlState.slice(0, 2)] ?? 400;
}

/** What a request gets while the server restarts or cannot be reached. */
export const unreachable: RestError = {
  status: 503,
  code: "PGRST001",
  message: "Database client error. Retrying the connection.",
};
