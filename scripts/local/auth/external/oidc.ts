import { createHash } from "node:crypto";
import {
  createRemoteJWKSet,
  customFetch,
  errors as jose,
  type JWTPayload,
  jwtVerify,
  type JWTVerifyGetKey,
} from "jose";
import { z } from "zod";
import type { ExternalProviderSettings } from "../settings.ts";
import { fetchBounded, fetchJson, ProviderFault } from "./http.ts";
import {
  type ExternalProfile,
  type ExternalProvider,
  IdTokenRefused,
  profileFromClaims,
} from "./provider.ts";
import { authorizationUrl, exchangeCode } from "./tokens.ts";

const SCOPES = ["openid", "email", "profile"];
const HOUR_MS = 3600 * 1000;
/** Signed with a private key. HS256 would be signed with the secret that every client shares. */
const ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384"];

const address = z.url({ protocol: /^https?$/ });
const Discovery = z.object({
  issuer: z.string(),
  authorization_endpoint: address,
  token_endpoint: address,
  jwks_uri: address,
  userinfo_endpoint: address.nullish(),
  token_endpoint_auth_methods_supported: z.array(z.string()).nullish(),
});

interface Discovered {
  issuer: string;
  authorization: string;
  token: string;
  userinfo: string | null;
  secretIn: "header" | "body";
  keys: JWTVerifyGetKey;
}

/**
 * A provider that speaks OpenID Connect: found by its issuer, as `/.well-known/openid-configuration`
 * describes it.
 */
export function createOidcProvider(
  name: string,
  settings: ExternalProviderSettings,
  issuer: string,
  redirectUri: string,
): ExternalProvider {
  const client = { clientId: settings.clientId, secret: settings.secret, redirectUri };
  const discover = rememberFor(HOUR_MS, () => discovery(issuer));

  async function verify(idToken: string, accessToken: string | null) {
    const { issuer, keys } = await discover();
    const { payload, protectedHeader } = await jwtVerify(idToken, keys, {
      issuer,
      audience: client.clientId,
      algorithms: ALGORITHMS,
      requiredClaims: ["sub", "exp", "iat"],
      clockTolerance: 5,
    }).catch((error) => {
      if (error instanceof ProviderFault) throw error;
      throw new IdTokenRefused(describe(error), { cause: error });
    });
    if (Array.isArray(payload.aud) && payload.aud.length > 1 && payload.azp !== client.clientId) {
      throw new IdTokenRefused("the token was issued to another client");
    }
    if (accessToken !== null && payload.at_hash !== undefined) {
      if (payload.at_hash !== halfHash(protectedHeader.alg, accessToken)) {
        throw new IdTokenRefused("the token belongs to another access token");
      }
    }
    return { issuer, payload };
  }

  return {
    name,
    emailOptional: settings.emailOptional,
    async authorizationUrl(request) {
      const { authorization } = await discover();
      const url = new URL(authorizationUrl(authorization, client, request, SCOPES));
      url.searchParams.set("nonce", request.nonce);
      return url.href;
    },
    async exchange(code, codeVerifier) {
      const { token, secretIn } = await discover();
      return await exchangeCode(token, client, code, codeVerifier, secretIn);
    },
    async profile({ accessToken, idToken }, nonce) {
      if (idToken === null) throw new ProviderFault(`${issuer} gave no ID token`);
      const { issuer: found, payload } = await verify(idToken, accessToken);
      if (!settings.skipNonceCheck && payload.nonce !== nonce) {
        throw new IdTokenRefused("the token answers another request");
      }
      const { userinfo } = await discover();
      const claims = payload.email === undefined && userinfo !== null
        ? { ...await userInfo(userinfo, accessToken, payload), ...payload }
        : payload;
      return profileFromClaims(found, claims);
    },
    idTokens: {
      skipNonceCheck: settings.skipNonceCheck,
      async verify(idToken, accessToken): Promise<{ profile: ExternalProfile; nonce: string }> {
        const { issuer: found, payload } = await verify(idToken, accessToken);
        const nonce = typeof payload.nonce === "string" ? payload.nonce : "";
        return { profile: profileFromClaims(found, payload), nonce };
      },
    },
  };
}

async function discovery(issuer: string): Promise<Discovered> {
  const parsed = Discovery.safeParse(await fetchJson(`${issuer}/.well-known/openid-configuration`));
  if (!parsed.success) throw new ProviderFault(`${issuer} describes itself incompletely`);
  const found = parsed.data;
  // Whoever answers for another issuer could pass its people off as that one's.
  if (found.issuer.replace(/\/$/, "") !== issuer) {
    throw new ProviderFault(`${issuer} calls itself by another name`);
  }
  const methods = found.token_endpoint_auth_methods_supported ?? ["client_secret_basic"];
  const keys = createRemoteJWKSet(new URL(found.jwks_uri), {
    [customFetch]: (url, { headers, method, signal }) =>
      fetchBounded(url, { headers, method, signal }),
  });
  return {
    issuer: found.issuer,
    authorization: found.authorization_endpoint,
    token: found.token_endpoint,
    userinfo: found.userinfo_endpoint ?? null,
    secretIn: methods.includes("client_secret_basic") ? "header" : "body",
    keys,
  };
}

/** What the provider tells of the holder of an access token, when that is the token's subject. */
async function userInfo(
  endpoint: string,
  accessToken: string,
  { sub }: JWTPayload,
): Promise<Record<string, unknown>> {
  const answer = await fetchJson(endpoint, { headers: { authorization: `Bearer ${accessToken}` } });
  const claims = z.record(z.string(), z.unknown()).safeParse(answer);
  if (!claims.success || claims.data.sub !== sub) {
    throw new ProviderFault(`${new URL(endpoint).origin} tells of somebody else`);
  }
  return claims.data;
}

/** `at_hash`: the left half of the access token's hash, by the hash of the signature. */
function halfHash(algorithm: string, accessToken: string): string {
  const digest = createHash(`sha${algorithm.slice(-3)}`).update(accessToken).digest();
  return digest.subarray(0, digest.length / 2).toString("base64url");
}

function describe(error: unknown): string {
  if (error instanceof jose.JWTExpired) return "the token is expired";
  if (error instanceof jose.JWTClaimValidationFailed) return `the claim ${error.claim} is wrong`;
  if (error instanceof jose.JWSSignatureVerificationFailed) return "the signature is wrong";
  if (error instanceof jose.JWKSNoMatchingKey) return "the provider has no such key";
  if (error instanceof jose.JOSEAlgNotAllowed) return "the algorithm is not accepted";
  return "the token cannot be read";
}

/** Keeps an answer for a while; failures are asked for again, and who asks meanwhile waits along. */
function rememberFor<Value>(ms: number, ask: () => Promise<Value>): () => Promise<Value> {
  let known: { value: Promise<Value>; until: number } | null = null;
  return () => {
    if (known !== null && Date.now() < known.until) return known.value;
    const value = ask();
    const entry = { value, until: Date.now() + ms };
    known = entry;
    value.catch(() => {
      if (known === entry) known = null;
    });
    return value;
  };
}
