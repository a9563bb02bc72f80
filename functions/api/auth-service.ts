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
  /**
   * Sets the address of a user at once, as an administrator does. Who may is not judged here.
   * @throws ApiError as `changeEmail`, but for INVALID_JWT_TOKEN
   */
  setEmail(userId: string, email: string): Promise<void>;
}

export interface AuthServiceOptions {
  projectUrl: string;
  /** A key of the project, for the gateway; rights come from the user's token. */
  apiKey: string;
  /** The project's secret key, by which Auth knows an administrator. */
  secretKey: string;
  fetch?: typeof fetch;
}

/** Auth of the project, over its own REST interface. */
export function createAuthService(options: AuthServiceOptions): AuthService {
  const send = options.fetch ?? fetch;

  /** @returns what Auth has against the address or the caller; null when it was changed */
  async function putEmail(
    path: string,
    credentials: { authorization: string; apikey: string },
    email: string,
  ): Promise<Refusal | null> {
    try {
      const response = await send(`${options.projectUrl}/auth/v1${path}`, {
        method: "PUT",
        headers: { ...credentials, "content-type": "application/json" },
        body: JSON.stringify({ email }),
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      const body: { error_code?: unknown } = await response.json().catch(() => ({}));
      return response.ok ? null : {
        status: response.status,
        code: String(body.error_code ?? ""),
        retryAfter: response.headers.get("retry-after"),
      };
    } catch (error) {
      throw unreachable(error);
    }
  }

  return {
    async changeEmail(authorization, email) {
      const credentials = { authorization, apikey: options.apiKey };
      const refusal = await putEmail("/user", credentials, email);
      if (refusal === null) return;
      if (refusal.status === 401 || refusal.status === 403) {
        throw new ApiError("INVALID_JWT_TOKEN", "The session of this token has ended", {
          details: { credential: "jwt", reason: "session" },
        });
      }
      throw errorOf(refusal);
    },
    async setEmail(userId, email) {
      const { secretKey } = options;
      const credentials = { authorization: `Bearer ${secretKey}`, apikey: secretKey };
      const refusal = await putEmail(`/admin/users/${userId}`, credentials, email);
      if (refusal !== null) throw errorOf(refusal);
    },
  };
}

interface Refusal {
  status: number;
  code: string;
  retryAfter: string | null;
}

/** Auth's refusal in our words: its own can quote the address. */
function errorOf({ status, code, retryAfter }: Refusal): ApiError {
  if (code === "email_exists") {
    return validationError({ email: "is the address of another user" });
  }
  switch (status) {
    case 400:
    case 422:
      return validationError({ email: "is not accepted as an address" });
    case 429:
      return new ApiError("RATE_LIMIT_EXCEEDED", "Rate limit exceeded", {
        details: { limit_type: "auth_requests" },
        headers: { "Retry-After": retryAfter ?? "60" },
      });
    default:
      return unreachable(new Error(`Auth answered ${status} ${code}`));
  }
}

function unreachable(cause: unknown): ApiError {
  return new ApiError("SUPABASE_CONNECTION_ERROR", "The auth service cannot be reached", {
    headers: { "Retry-After": "5" },
    cause,
  });
}
