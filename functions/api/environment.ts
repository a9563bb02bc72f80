import type { JSONWebKeySet } from "jose";
import { firstKey, probeOptions } from "../../shared/health/environment.ts";
import type { ServiceProbeOptions } from "../../shared/health/services.ts";

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
  /** What of the surroundings is measured for `/api/health`. */
  probes: ServiceProbeOptions;
  poolSize: number;
  followMs: number | undefined;
}

/**
 * Reads the variables that hosted functions get. Beyond the platform's: `AUTH_ISSUERS`, further
 * accepted token issuers separated by commas, for a project whose functions see it under another
 * URL than its clients do (as under `supabase start`); `DATABASE_POOL_SIZE`; `FOLLOW_SECONDS`;
 * `CONTAINER_REGISTRY_URL` and `REDIS_URL`, further things whose health is watched.
 * @throws Error naming the variable that is missing
 */
export function readEnvironment(get: (name: string) => string | undefined): Environment {
  const required = (name: string): string => {
    const value = get(name);
    if (!value) throw new Error(`The environment variable ${name} is not set`);
    return value;
  };
  const projectUrl = required("SUPABASE_URL").replace(/\/$/, "");
  const secretKey = firstKey(get("SUPABASE_SECRET_KEYS")) ?? required("SUPABASE_SERVICE_ROLE_KEY");
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
    publishableKey: firstKey(get("SUPABASE_PUBLISHABLE_KEYS")) ?? get("SUPABASE_ANON_KEY") ??
      secretKey,
    probes: probeOptions(get),
    poolSize: Number(get("DATABASE_POOL_SIZE") ?? "10"),
    followMs: follow ? Number(follow) * 1000 : undefined,
  };
}
