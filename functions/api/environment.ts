import { firstKey, probeOptions } from "../../shared/health/environment.ts";
import { type Project, readProject, required, type Variables } from "../../shared/http/project.ts";
import type { ServiceProbeOptions } from "../../shared/health/services.ts";

/** What the function needs from its surroundings, read once at start. */
export interface Environment extends Project {
  databaseUrl: string;
  secretKey: string;
  /** What goes with a user's token through the project's gateway. */
  publishableKey: string;
  /** What of the surroundings is measured for `/api/health`. */
  probes: ServiceProbeOptions;
  poolSize: number;
  followMs: number | undefined;
}

/**
 * Beyond what `readProject` takes: `DATABASE_POOL_SIZE`; `FOLLOW_SECONDS`; `CONTAINER_REGISTRY_URL` and `REDIS_URL`, further
 * things whose health is watched.
 * @throws Error naming the variable that is missing
 */
export function readEnvironment(get: Variables): Environment {
  const secretKey = firstKey(get("SUPABASE_SECRET_KEYS")) ??
    required(get, "SUPABASE_SERVICE_ROLE_KEY");
  const follow = get("FOLLOW_SECONDS");
  return {
    ...readProject(get),
    databaseUrl: required(get, "SUPABASE_DB_URL"),
    secretKey,
    publishableKey: firstKey(get("SUPABASE_PUBLISHABLE_KEYS")) ?? get("SUPABASE_ANON_KEY") ??
      secretKey,
    probes: probeOptions(get),
    poolSize: Number(get("DATABASE_POOL_SIZE") ?? "10"),
    followMs: follow ? Number(follow) * 1000 : undefined,
  };
}
