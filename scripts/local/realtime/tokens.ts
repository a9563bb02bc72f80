import { decodeJwt, errors } from "jose";
import type { TokenClaims, TokenVerifier } from "../keys.ts";

/** A token that is refused. `code` and message are Realtime's words. */
export class TokenError extends Error {
  override name = "TokenError";
  constructor(readonly code: string, message: string) {
    super(message);
  }
}

/** Claims of a token that may open a channel: both fields are required there. */
export type ChannelClaims = TokenClaims & { exp: number };

/** @throws {TokenError} */
export async function verifyChannelToken(
  verifyToken: TokenVerifier,
  token: string,
): Promise<ChannelClaims> {
  let claims: TokenClaims;
  try {
    claims = await verifyToken(token);
  } catch (error) {
    throw refusal(token, error);
  }
  if (typeof claims.exp !== "number") throw missingClaims();
  const late = secondsLate(claims.exp);
  if (late >= 0) throw expired(late);
  return { ...claims, exp: claims.exp };
}

function refusal(token: string, error: unknown): TokenError {
  let claims: { exp?: number; role?: unknown };
  try {
    claims = decodeJwt(token);
  } catch {
    return new TokenError("MalformedJWT", "The token provided is not a valid JWT");
  }
  if (error instanceof errors.JWTExpired && typeof claims.exp === "number") {
    return expired(secondsLate(claims.exp));
  }
  if (error instanceof errors.JWSSignatureVerificationFailed) {
    return new TokenError("JwtSignatureError", "Failed to validate JWT signature");
  }
  if (error instanceof errors.JOSEAlgNotAllowed || error instanceof errors.JOSENotSupported) {
    return new TokenError(
      "JwtSignerError",
      "Failed to generate JWT signer, check your JWT secret or JWKS configuration",
    );
  }
  if (error instanceof errors.JOSEError) {
    return new TokenError("MalformedJWT", "The token provided is not a valid JWT");
  }
  if (typeof claims.role !== "string") return missingClaims();
  return new TokenError("Unauthorized", "The role of the token is not allowed");
}

/** What a client hears when its token ran out. */
export function expired(seconds: number): TokenError {
  return new TokenError("InvalidJWTToken", `Token has expired ${seconds} seconds ago`);
}

export function secondsLate(exp: number): number {
  return Math.floor(Date.now() / 1000) - Math.ceil(exp);
}

function missingClaims(): TokenError {
  return new TokenError("InvalidJWTToken", "Fields `role` and `exp` are required in JWT");
}
