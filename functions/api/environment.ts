import type { JSONWebKeySet } from "jose";

/** What the function needs from its surroundings, read once at start. */
export interface Environment {
  databaseUrl: string;
  projectUrl: string;
  issuers: string[];
  jwks: JSONWebKeySet | null;
  jwksUrl: URL;
  legacySecret: string | null;
  secretKey: string;
  /** What goes with a user's token through the project's gateway. */
  publishableKey: string;
  poolSize: number;
  followMs: number | undefined;
}

function firstOf(json: string | undefined): string | undefined {
  if (!json) return undefined;
  const keys = JSON.parse(json) as Record<string, string>;
  return keys.default ?? Object.values(keys)[0];
}

/**
 * Reads the variables that hosted functions get. Beyond the platform's: `AUTH_ISSUERS`, further
 * accepted token issuers separated by commas, for a project whose functions see it under another
 * URL than its clients do (as under `supabase start`); `DATABASE_POOL_SIZE`; `FOLLOW_SECONDS`.
 * @throws Error naming the variable that is missing
 */
export function readEnvironment(get: (name: string) => string | undefined): Environment {
  const required = (name: string): string => {
    const value = get(name);
    if (!value) throw new Error(`The environment variable ${name} is not set`);
    return value;
  };
  const projectUrl = required("SUPABASE_URL").replace(/\/$/, "");
  const secretKey = firstOf(get("SUPABASE_SECRET_KEYS")) ?? required("SUPABASE_SERVICE_ROLE_KEY");
  const jwks = get("SUPABASE_JWKS");
  const follow = get("FOLLOW_SECONDS");
  return {
    databaseUrl: required("SUPABASE_DB_URL"),
    projectUrl,
    issuers: [
      `${projectUrl}/auth/v1`,
      ...(get("AUTH_ISSUERS") ?? "").split(",").map((each) => each.trim()).filter(Boolean),
    ],
    jwks: jwks ? JSON.parse(jwks) as JSONWebKeySet : null,
    jwksUrl: new URL(`${projectUrl}/auth/v1/.well-known/jwks.json`),
    legacySecret: get("SUPABASE_JWT_SECRET") || null,
    secretKey,
    publishableKey: firstOf(get("SUPABASE_PUBLISHABLE_KEYS")) ?? get("SUPABASE_ANON_KEY") ??
      secretKey,
    poolSize: Number(get("DATABASE_POOL_SIZE") ?? "10"),
    followMs: follow ? Number(follow) * 1000 : undefined,
  };
}
