import { ApiError, validationError } from "../../shared/contract/errors.ts";

const TIMEOUT_MS = 10_000;

/** What the api asks of Supabase Auth in the name of a user. */
export interface AuthService {
  /**
   * Begins the change of the caller's address, which Auth has confirmed by mail where the project
   * wants that. The present address changes nothing.
   * @param authorization the caller's own `Authorization` header
   * @throws ApiError VALIDATION_ERROR for an address that is taken or refused, RATE_LIMIT_EXCEEDED,
   *   INVALID_JWT_TOKEN when the session has ended, SUPABASE_CONNECTION_ERROR
   */
  changeEmail(authorization: string, email: string): Promise<void>;
}

export interface AuthServiceOptions {
  projectUrl: string;
  /** A key of the project, for the gateway; rights come from the user's token. */
  apiKey: string;
  fetch?: typeof fetch;
}

/** Auth of the project, over its own REST interface. */
export function createAuthService(options: AuthServiceOptions): AuthService {
  const send = options.fetch ?? fetch;

  return {
    async changeEmail(authorization, email) {
      let response: Response;
      let body: { error_code?: unknown };
      try {
        response = await send(`${options.projectUrl}/auth/v1/user`, {
          method: "PUT",
          headers: {
            "Authorization": authorization,
            "apikey": options.apiKey,
            "Content-Type": "application/json",
          },
          body: JSON.stringify({ email }),
          signal: AbortSignal.timeout(TIMEOUT_MS),
        });
        body = await response.json().catch(() => ({}));
      } catch (error) {
        throw unreachable(error);
      }
      if (!response.ok) throw refusalOf(response, String(body.error_code ?? ""));
    },
  };
}

/** Auth's refusal in our words: its own can quote the address. */
function refusalOf(response: Response, code: string): ApiError {
  if (code === "email_exists") {
    return validationError({ email: "is the address of another user" });
  }
  switch (response.status) {
    case 400:
    case 422:
      return validationError({ email: "is not accepted as an address" });
    case 401:
    case 403:
      return new ApiError("INVALID_JWT_TOKEN", "The session of this token has ended", {
        details: { credential: "jwt", reason: "session" },
      });
    case 429:
      return new ApiError("RATE_LIMIT_EXCEEDED", "Rate limit exceeded", {
        details: { limit_type: "auth_requests" },
        headers: { "Retry-After": response.headers.get("retry-after") ?? "60" },
      });
    default:
      return unreachable(new Error(`Auth answered ${response.status} ${code}`));
  }
}

function unreachable(cause: unknown): ApiError {
  return new ApiError("SUPABASE_CONNECTION_ERROR", "The auth service cannot be reached", {
    headers: { "Retry-After": "5" },
    cause,
  });
}
