import {
  createLocalJWKSet,
  createRemoteJWKSet,
  decodeProtectedHeader,
  errors,
  type JSONWebKeySet,
  type JWTPayload,
  jwtVerify,
  type JWTVerifyGetKey,
  type JWTVerifyOptions,
} from "jose";
import { ApiError } from "../contract/errors.ts";

export interface TokenVerifierOptions {
  /** Accepted `iss` values, `${SUPABASE_URL}/auth/v1` among them. */
  issuers: string[];
  /** `SUPABASE_JWKS`: the keys as they were when the instance started. */
  jwks: JSONWebKeySet | null;
  /** Where the keys are now; asked when a token names a key that `jwks` lacks. */
  jwksUrl: URL | null;
  /** `SUPABASE_JWT_SECRET`: only projects that still sign with HS256 set it. */
  legacySecret: string | null;
  now?: () => Date;
}

export interface UserToken {
  userId: string;
  claims: JWTPayload;
  /** Unix milliseconds. */
  expiresAt: number;
}

export type TokenVerifier = (token: string) => Promise<UserToken>;

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

function invalid(reason: string, cause?: unknown): ApiError {
  return new ApiError("INVALID_JWT_TOKEN", "The bearer token is invalid or expired", {
    details: { credential: "jwt", reason },
    cause,
  });
}

/** Keys from the environment first, from the network only for a key that is not there. */
function publicKeys(options: TokenVerifierOptions): JWTVerifyGetKey {
  const local = options.jwks !== null && options.jwks.keys.length > 0
    ? createLocalJWKSet(options.jwks)
    : null;
  // jose keeps the answer and asks again at most every 30 seconds, so that a flood of unknown key
  // ids does not become a flood of requests.
  const remote = options.jwksUrl === null
    ? null
    : createRemoteJWKSet(options.jwksUrl, { timeoutDuration: 3000 });
  return async (header, token) => {
    if (local !== null) {
      try {
        return await local(header, token);
      } catch (error) {
        if (!(error instanceof errors.JWKSNoMatchingKey) || remote === null) throw error;
      }
    }
    if (remote === null) throw new errors.JWKSNoMatchingKey();
    try {
      return await remote(header, token);
    } catch (error) {
      if (error instanceof errors.JWKSNoMatchingKey) throw error;
      // With keys at hand, a token that fits none of them is refused, whatever the network does.
      if (local !== null) throw new errors.JWKSNoMatchingKey();
      throw new ApiError("SUPABASE_CONNECTION_ERROR", "The signing keys cannot be read", {
        headers: { "Retry-After": "5" },
        cause: error,
      });
    }
  };
}

function reasonOf(error: unknown): string {
  if (error instanceof errors.JWTExpired) return "expired";
  if (error instanceof errors.JWTClaimValidationFailed) return `claim ${error.claim}`;
  if (error instanceof errors.JWSSignatureVerificationFailed) return "signature";
  if (error instanceof errors.JWKSNoMatchingKey) return "unknown key";
  if (error instanceof errors.JOSEAlgNotAllowed || error instanceof errors.JOSENotSupported) {
    return "algorithm";
  }
  return "malformed";
}

/** Verified tokens that an instance remembers, about 1 kB each. */
const MAX_REMEMBERED = 5000;
/** How long a verification is believed; within it a key withdrawn from the JWKS still counts. */
const BELIEVED_MS = 60_000;

/**
 * Makes the judge of bearer tokens: ES256 or RS256 by the project's JWKS, HS256 only with the
 * legacy secret; expiry, issuer and audience checked; the role must be `authenticated` and the
 * subject a user id, so anon and service keys are no users.
 *
 * It remembers tokens it has verified. That is safe because a signature does not change: the memory
 * is keyed by the whole token, an entry ends with the token or after a minute, only valid tokens
 * get in, and their number is bounded. Rights are not remembered; SQL reads them for each request.
 *
 * @throws ApiError INVALID_JWT_TOKEN 401; SUPABASE_CONNECTION_ERROR 503 when no key can be read
 */
export function createTokenVerifier(options: TokenVerifierOptions): TokenVerifier {
  const now = options.now ?? (() => new Date());
  const keys = publicKeys(options);
  const secret = options.legacySecret === null
    ? null
    : new TextEncoder().encode(options.legacySecret);
  const remembered = new Map<string, { token: UserToken; until: number }>();

  async function verify(token: string): Promise<UserToken> {
    let payload: JWTPayload;
    try {
      const algorithm = decodeProtectedHeader(token).alg;
      const rules: JWTVerifyOptions = {
        issuer: options.issuers,
        audience: "authenticated",
        requiredClaims: ["exp", "sub"],
        currentDate: now(),
      };
      // The algorithm chooses the kind of key, never the other way round: a public key can thus not
      // be used as a shared secret.
      payload = algorithm === "HS256" && secret !== null
        ? (await jwtVerify(token, secret, { ...rules, algorithms: ["HS256"] })).payload
        : (await jwtVerify(token, keys, { ...rules, algorithms: ["ES256", "RS256"] })).payload;
    } catch (error) {
      if (error instanceof ApiError) throw error;
      throw invalid(reasonOf(error), error);
    }
    if (payload.role !== "authenticated") throw invalid("role");
    if (typeof payload.sub !== "string" || !UUID.test(payload.sub)) throw invalid("claim sub");
    return { userId: payload.sub, claims: payload, expiresAt: payload.exp! * 1000 };
  }

  return async (token) => {
    const moment = now().getTime();
    const known = remembered.get(token);
    if (known !== undefined) {
      if (moment < known.until) return known.token;
      remembered.delete(token);
    }
    const verified = await verify(token);
    if (remembered.size >= MAX_REMEMBERED) {
      remembered.delete(remembered.keys().next().value!);
    }
    const until = Math.min(verified.expiresAt, moment + BELIEVED_MS);
    remembered.set(token, { token: verified, until });
    return verified;
  };
}
