import { hkdfSync } from "node:crypto";
import { type JWTPayload, jwtVerify, SignJWT } from "jose";
import type { StackKeys } from "../keys.ts";
import { StorageError } from "./errors.ts";

export type UrlScope = "download" | "upload";

/** What a signed URL allows. */
export interface UrlClaims {
  /** `bucket/name` */
  url: string;
  /** Uploads: whom the object will belong to. */
  owner?: string;
  upsert?: boolean;
}

export interface UrlSigner {
  sign(scope: UrlScope, claims: UrlClaims, expiresIn: number): Promise<string>;
  /** @throws {StorageError} `InvalidJWT`, `InvalidSignature` when it is for another object or another use */
  verify(token: string, scope: UrlScope, url: string): Promise<UrlClaims & { exp: number }>;
}

/**
 * Signs URLs with a key of their own, made from the stack's: no token of a URL can pass for a user's,
 * and no user's token for that of a URL.
 */
export function createUrlSigner(keys: Pick<StackKeys, "signingKey">): UrlSigner {
  const key = new Uint8Array(hkdfSync("sha256", keys.signingKey.d!, "", "storage urls", 32));
  return {
    sign: (scope, claims, expiresIn) =>
      new SignJWT({ ...claims, scope })
        .setProtectedHeader({ alg: "HS256", typ: "JWT" })
        .setIssuedAt()
        .setExpirationTime(Math.floor(Date.now() / 1000) + expiresIn)
        .sign(key),
    async verify(token, scope, url) {
      let payload: JWTPayload;
      try {
        payload = (await jwtVerify(token, key, { algorithms: ["HS256"] })).payload;
      } catch (error) {
        throw new StorageError(400, "InvalidJWT", (error as Error).message);
      }
      if (payload.scope !== scope) {
        throw new StorageError(400, "InvalidSignature", `Token is not scoped for ${scope}`);
      }
      if (payload.url !== url) throw new StorageError(400, "InvalidSignature", "Invalid signature");
      return payload as unknown as UrlClaims & { exp: number };
    },
  };
}
