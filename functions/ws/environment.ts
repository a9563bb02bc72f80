import type { JSONWebKeySet } from "jose";

/** What the function needs from its surroundings, read once at start. */
export interface Environment {
  projectUrl: string;
  publishableKey: string;
  issuers: string[];
  jwks: JSONWebKeySet | null;
  jwksUrl: URL;
  legacySecret: string | null;
}

/**
 * Reads the variables that hosted functions get, and `AUTH_ISSUERS` as function api does.
 *
 * @throws Error naming the variable that is missing
 */
export function readEnvironment(get: (name: string) => string | undefined): Environment {
  const required = (name: string): string => {
    const value = get(name);
    if (!value) throw new Error(`The environment variable ${name} is not set`);
    return value;
  };
  const projectUrl = required("SUPABASE_URL").replace(/\/$/, "");
  const keys = JSON.parse(get("SUPABASE_PUBLISHABLE_KEYS") || "{}") as Record<string, string>;
  const jwks = get("SUPABASE_JWKS");
  return {
    projectUrl,
    publishableKey: keys.default ?? Object.values(keys)[0] ?? required("SUPABASE_ANON_KEY"),
    issuers: [
      `${projectUrl}/auth/v1`,
      ...(get("AUTH_ISSUERS") ?? "").split(",").map((each) => each.trim()).filter(Boolean),
    ],
    jwks: jwks ? JSON.parse(jwks) as JSONWebKeySet : null,
    jwksUrl: new URL(`${projectUrl}/auth/v1/.well-known/jwks.json`),
    legacySecret: get("SUPABASE_JWT_SECRET") || null,
  };
}
