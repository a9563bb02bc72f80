import {
  createLocalJWKSet,
  decodeProtectedHeader,
  errors as jose,
  importJWK,
  type JWK,
  type JWTPayload,
  jwtVerify,
  SignJWT,
} from "jose";
import type { AuthContext, Db } from "./context.ts";
import { forbidden, internal } from "./errors.ts";
import { callHook } from "./hooks.ts";
import type { PostgresHook } from "./settings.ts";
import type { UserRow } from "./users.ts";

/** Signs access tokens with the stack's ES256 key and checks them. */
export interface AccessTokenSigner {
  sign(claims: Record<string, unknown>): Promise<string>;
  /** @throws {AuthError} `bad_jwt` (403) for anything but a valid token of this stack */
  verify(token: string): Promise<JWTPayload>;
  jwks: { keys: JWK[] };
}

/** How somebody proved who they are; ends up in the token's `amr`. */
export type AuthenticationMethod =
  | "password"
  | "otp"
  | "token_refresh"
  | "anonymous"
  | "magiclink"
  | "recovery"
  | "invite"
  | "email/signup"
  | "email_change"
  | "oauth";

export function createSigner(signingKey: JWK, jwks: { keys: JWK[] }): AccessTokenSigner {
  const privateKey = importJWK(signingKey, "ES256");
  const publicKeys = createLocalJWKSet(jwks);
  return {
    jwks,
    async sign(claims) {
      return await new SignJWT(claims)
        .setProtectedHeader({ alg: "ES256", kid: signingKey.kid, typ: "JWT" })
        .sign(await privateKey);
    },
    async verify(token) {
      try {
        return (await jwtVerify(token, publicKeys, { algorithms: ["ES256"] })).payload;
      } catch (error) {
        throw forbidden(
          "bad_jwt",
          `invalid JWT: unable to parse or verify signature, ${describe(error, token)}`,
        );
      }
    },
  };
}

function describe(error: unknown, token: string): string {
  if (error instanceof jose.JWTExpired) return "token has invalid claims: token is expired";
  if (error instanceof jose.JWTClaimValidationFailed) {
    return error.claim === "nbf"
      ? "token has invalid claims: token is not valid yet"
      : "token has invalid claims";
  }
  const header = readHeader(token);
  if (header === null) return "token is malformed";
  if (error instanceof jose.JOSEAlgNotAllowed || error instanceof jose.JOSENotSupported) {
    return `token signature is invalid: signing method ${header.alg} is invalid`;
  }
  if (error instanceof jose.JWKSNoMatchingKey) {
    return "token is unverifiable: error while executing keyfunc: " +
      `unrecognized JWT kid ${header.kid ?? "<nil>"} for algorithm ${header.alg}`;
  }
  if (error instanceof jose.JWSSignatureVerificationFailed) return "token signature is invalid";
  return "token is malformed";
}

function readHeader(token: string): { alg: string; kid?: string } | null {
  try {
    const { alg, kid } = decodeProtectedHeader(token);
    // Repeated in a message, so bounded: both come from whoever sent the token.
    const short = (value: unknown) => String(value).replace(/[^\w.-]/g, "").slice(0, 64);
    return { alg: short(alg), ...(kid !== undefined && { kid: short(kid) }) };
  } catch {
    return null;
  }
}

export interface AccessToken {
  token: string;
  /** Unix seconds. */
  expiresAt: number;
  /** Seconds. */
  expiresIn: number;
}

/**
 * The access token of a session, with every claim of Auth, after the `custom_access_token` hook
 * has had its say. Runs in the caller's transaction, so that a hook's refusal undoes the sign-in.
 *
 * @throws {AuthError} what the hook asked for, or 500 when it failed or left claims out
 */
export async function issueAccessToken(
  context: AuthContext,
  sql: Db,
  user: UserRow,
  sessionId: string,
  method: AuthenticationMethod,
): Promise<AccessToken> {
  const { settings } = context;
  const amr = await sql<{ method: string; timestamp: number }[]>`
    select authentication_method as method,
      floor(extract(epoch from updated_at))::integer as timestamp
    from auth.mfa_amr_claims where session_id = ${sessionId}
    order by updated_at desc`;
  const issuedAt = Math.floor(Date.now() / 1000);
  const expiresAt = issuedAt + settings.jwtExpiry;
  const claims = {
    iss: context.baseUrl,
    sub: user.id,
    aud: user.aud,
    exp: expiresAt,
    iat: issuedAt,
    email: user.email ?? "",
    phone: user.phone ?? "",
    app_metadata: user.raw_app_meta_data ?? {},
    user_metadata: user.raw_user_meta_data ?? {},
    role: user.role,
    aal: amr.some((entry) => SECOND_FACTORS.has(entry.method)) ? "aal2" : "aal1",
    amr: amr.map(({ method, timestamp }) => ({ method, timestamp })),
    session_id: sessionId,
    is_anonymous: user.is_anonymous,
  };
  const final = settings.accessTokenHook === null
    ? claims
    : await claimsByHook(context, sql, settings.accessTokenHook, {
      user_id: user.id,
      claims,
      authentication_method: method,
    });
  return {
    token: await context.signer.sign(final),
    expiresAt,
    expiresIn: expiresAt - issuedAt,
  };
}

const SECOND_FACTORS = new Set(["totp", "mfa/phone", "mfa/webauthn"]);

/** The claims as the hook wants them. */
async function claimsByHook(
  context: AuthContext,
  sql: Db,
  hook: PostgresHook,
  event: Record<string, unknown>,
): Promise<Record<string, unknown>> {
  const { claims } = await callHook<{ claims: Record<string, unknown> }>(context, sql, hook, event);
  if (claims === undefined) throw internal("output claims field is missing");
  checkClaims(claims);
  return claims;
}

/** Claims that a token cannot do without, by type; `?` marks those a hook may leave out. */
const CLAIM_TYPES: Record<string, string> = {
  aud: "string|array",
  exp: "integer",
  iat: "integer",
  sub: "string",
  email: "string",
  phone: "string",
  role: "string",
  aal: "string",
  session_id: "string",
  is_anonymous: "",
  jti: "?string",
  iss: "?string",
  nbf: "?integer",
  app_metadata: "?object",
  user_metadata: "?object",
  amr: "?array",
  client_id: "?string",
};

function checkClaims(claims: Record<string, unknown>): void {
  const faults: string[] = [];
  for (const [name, wanted] of Object.entries(CLAIM_TYPES)) {
    const value = claims[name];
    const types = wanted.replace("?", "");
    if (value === undefined) {
      if (!wanted.startsWith("?")) faults.push(`- (root): ${name} is required`);
    } else if (types !== "" && !types.split("|").includes(typeOf(value))) {
      faults.push(`- ${name}: Invalid type. Expected: ${types}, given: ${typeOf(value)}`);
    }
  }
  if (faults.length > 0) {
    throw internal(
      `output claims do not conform to the expected schema: \n${faults.join("\n")}\n`,
    );
  }
}

function typeOf(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  return Number.isInteger(value) ? "integer" : typeof value;
}
