import { createHash, timingSafeEqual } from "node:crypto";
import { createLocalJWKSet, type JSONWebKeySet, jwtVerify } from "jose";

/**
 * Judges who may wake the worker: one of the project's secret keys or its service-role key, in `apikey` or as a bearer
 * token, or a token that the project signed for `service_role`.
 *
 * @param environment SUPABASE_SECRET_KEYS, SUPABASE_SERVICE_ROLE_KEY and SUPABASE_JWKS, as functions get them
 */
export function createAuthorizer(
  environment: Record<string, string | undefined>,
): (request: Request) => Promise<boolean> {
  const secrets = [
    ...Object.values(parsed<Record<string, string>>(environment.SUPABASE_SECRET_KEYS) ?? {}),
    environment.SUPABASE_SERVICE_ROLE_KEY ?? "",
  ].filter((key) => key !== "").map(digest);
  const jwks = parsed<JSONWebKeySet>(environment.SUPABASE_JWKS);
  const keys = jwks === null ? null : createLocalJWKSet(jwks);

  async function isServiceRole(token: string): Promise<boolean> {
    if (keys === null || token.split(".").length !== 3) return false;
    try {
      const { payload } = await jwtVerify(token, keys, {
        algorithms: ["ES256", "RS256"],
        requiredClaims: ["exp"],
      });
      return payload.role === "service_role";
    } catch {
      return false;
    }
  }

  return async (request) => {
    const bearer = /^bearer +(\S+)$/i.exec(request.headers.get("authorization") ?? "")?.[1];
    const given = [request.headers.get("apikey"), bearer].filter((key) => typeof key === "string");
    for (const key of given) {
      const asked = digest(key);
      // Digests are of one length and every one is compared: the time tells nothing about a key.
      let known = false;
      for (const secret of secrets) known = timingSafeEqual(secret, asked) || known;
      if (known || await isServiceRole(key)) return true;
    }
    return false;
  };
}

function digest(key: string): Uint8Array {
  return createHash("sha256").update(key).digest();
}

function parsed<T>(json: string | undefined): T | null {
  return json === undefined || json === "" ? null : JSON.parse(json) as T;
}
