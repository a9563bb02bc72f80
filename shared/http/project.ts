import type { JSONWebKeySet } from "jose";

/** The project that a function belongs to, and by what it knows the tokens of the project's users. */
export interface Project {
  projectUrl: string;
  issuers: string[];
  jwks: JSONWebKeySet | null;
  jwksUrl: URL;
  legacySecret: string | null;
}

export type Variables = (name: string) => string | undefined;

/** @throws Error naming the variable when it is missing */
export function required(get: Variables, name: string): string {
  const value = get(name);
  if (!value) throw new Error(`The environment variable ${name} is not set`);
  return value;
}

/**
 * Reads the project from the variables that hosted functions get. Beyond the platform's: `AUTH_ISSUERS`, further
 * accepted token issuers separated by commas, for a project whose functions see it under another URL than its clients
 * do (as under `supabase start`).
 *
 * @throws Error naming the variable that is missing
 */
export function readProject(get: Variables): Project {
  const projectUrl = required(get, "SUPABASE_URL").replace(/\/$/, "");
  const jwks = get("SUPABASE_JWKS");
  return {
    projectUrl,
    issuers: [
      `${projectUrl}/auth/v1`,
      ...(get("AUTH_ISSUERS") ?? "").split(",").map((each) => each.trim()).filter(Boolean),
    ],
    jwks: jwks ? JSON.parse(jwks) as JSONWebKeySet : null,
    jwksUrl: new URL(`${projectUrl}/auth/v1/.well-known/jwks.json`),
    legacySecret: get("SUPABASE_JWT_SECRET") || null,
  };
}
