import { ApiError, type ErrorDetails, isErrorCode } from "../contract/errors.ts";

interface PostgresErrorFields {
  code: string;
  message: string;
  detail?: string;
  constraint_name?: string;
}

function isPostgresError(error: unknown): error is Error & PostgresErrorFields {
  return error instanceof Error && error.name === "PostgresError" && "code" in error;
}

// What postgres.js and Node's sockets say when there is no database to talk to.
const CONNECTION_CODES = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "EPIPE",
  "ENOTFOUND",
  "EAI_AGAIN",
  "ETIMEDOUT",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "CONNECT_TIMEOUT",
  "CONNECTION_CLOSED",
  "CONNECTION_ENDED",
  "CONNECTION_DESTROYED",
]);

// SQLSTATE classes: 08 connection, 53 out of connections, memory or disk, 57P shutting down,
// XX000 from a pooler that cannot reach its database.
function isConnectionState(state: string): boolean {
  return state.startsWith("08") || state.startsWith("53") || state.startsWith("57P");
}

function parseJson(text: unknown): Record<string, unknown> | null {
  if (typeof text !== "string") return null;
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? value as Record<string, unknown>
      : null;
  } catch {
    return null;
  }
}

/** Reads an error that SQL raised for the caller: state `PGRST`, body in the message. */
function raisedError(error: PostgresErrorFields): ApiError | null {
  const body = parseJson(error.message);
  const envelope = parseJson(error.detail);
  if (body === null || !isErrorCode(body.code) || typeof body.message !== "string") return null;
  const details = typeof body.details === "string" ? parseJson(body.details) : body.details;
  const headers: Record<string, string> = {};
  const given = envelope?.headers;
  if (typeof given === "object" && given !== null) {
    for (const [name, value] of Object.entries(given)) headers[name] = String(value);
  }
  return new ApiError(body.code, body.message, {
    details: (details ?? null) as ErrorDetails | null,
    status: typeof envelope?.status === "number" ? envelope.status : undefined,
    headers,
    hint: typeof body.hint === "string" ? body.hint : null,
  });
}

/**
 * Turns whatever a statement threw into the error class. Words of the database stay in `cause`:
 * they can name tables, policies and values.
 */
export function toApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  if (isPostgresError(error)) {
    if (error.code === "PGRST") {
      const raised = raisedError(error);
      if (raised !== null) return raised;
    }
    if (error.code === "42501") {
      return new ApiError("RLS_ACCESS_DENIED", "Access is denied", { cause: error });
    }
    if (error.code === "57014") {
      return new ApiError("SUPABASE_CONNECTION_ERROR", "The database took too long to answer", {
        headers: { "Retry-After": "5" },
        cause: error,
      });
    }
    if (isConnectionState(error.code)) return connectionError(error);
  }
  if (
    error instanceof Error && "code" in error && typeof error.code === "string" &&
    CONNECTION_CODES.has(error.code)
  ) {
    return connectionError(error);
  }
  return new ApiError("INTERNAL_ERROR", "Something went wrong", { cause: error });
}

function connectionError(cause: unknown): ApiError {
  return new ApiError("SUPABASE_CONNECTION_ERROR", "The database cannot be reached", {
    headers: { "Retry-After": "5" },
    cause,
  });
}
