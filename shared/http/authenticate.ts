import { ApiError } from "../contract/errors.ts";
import type { CredentialKind } from "../contract/editions.ts";
import type { Caller } from "../database/caller.ts";
import type { Database } from "../database/connect.ts";
import { authenticateApiKey, type MisuseListener } from "./api-keys.ts";
import type { TokenVerifier } from "./tokens.ts";

/** Which credential a request carries, before it is known to be good. */
export function credentialKind(headers: Headers): CredentialKind {
  if (headers.has("x-api-key")) return "api_key";
  return headers.has("authorization") ? "jwt" : "none";
}

export interface Authenticated {
  caller: Caller;
  /** Unix milliseconds at which the credential ends. */
  expiresAt: number;
}

export interface AuthenticateDependencies {
  sql: Database;
  verifyToken: TokenVerifier;
  now: () => Date;
  onMisusedKey?: MisuseListener;
}

/**
 * Finds out who asks: a user's access token (`Authorization: Bearer`) or an API key (`X-API-Key`).
 * The project's `apikey` header identifies no user and is not read. A credential that is present
 * and wrong is an error; nobody becomes anonymous by sending a bad one.
 * @throws ApiError AUTHENTICATION_FAILED 401 without or with two credentials, INVALID_JWT_TOKEN 401,
 * INVALID_API_KEY 401, SUPABASE_CONNECTION_ERROR 503
 */
export async function authenticate(
  headers: Headers,
  dependencies: AuthenticateDependencies,
): Promise<Authenticated> {
  const authorization = headers.get("authorization");
  const apiKey = headers.get("x-api-key");
  if (authorization !== null && apiKey !== null) {
    throw new ApiError(
      "AUTHENTICATION_FAILED",
      "Send either a bearer token or an API key, not both",
      { details: { credential: "both" } },
    );
  }
  if (apiKey !== null) {
    const known = await authenticateApiKey(
      dependencies.sql,
      apiKey,
      dependencies.now(),
      dependencies.onMisusedKey,
    );
    return {
      caller: {
        userId: known.user_id,
        apiKeyId: known.key_id,
        agentId: known.agent_id,
        claims: null,
      },
      expiresAt: Date.parse(known.expires_at),
    };
  }
  if (authorization === null) {
    throw new ApiError("AUTHENTICATION_FAILED", "Authentication is required", {
      details: { credential: "none" },
    });
  }
  const bearer = /^bearer +([^\s]+) *$/i.exec(authorization);
  if (bearer === null) {
    throw new ApiError("INVALID_JWT_TOKEN", "The Authorization header is not a bearer token", {
      details: { credential: "jwt", reason: "malformed" },
    });
  }
  const token = await dependencies.verifyToken(bearer[1]!);
  return {
    caller: { userId: token.userId, apiKeyId: null, agentId: null, claims: token.claims },
    expiresAt: token.expiresAt,
  };
}
