import type { ServiceProbeOptions } from "./services.ts";

/** The project's default key out of the JSON of a variable such as `SUPABASE_SECRET_KEYS`. */
export function firstKey(json: string | undefined): string | undefined {
  if (!json) return undefined;
  const keys = JSON.parse(json) as Record<string, string>;
  return keys.default ?? Object.values(keys)[0];
}

/**
 * What the environment of a function names for the probes: the project, `CONTAINER_REGISTRY_URL` and
 * `REDIS_URL`. The publishable key is enough for all but the number of Realtime's connections.
 */
export function probeOptions(get: (name: string) => string | undefined): ServiceProbeOptions {
  return {
    projectUrl: (get("SUPABASE_URL") ?? "").replace(/\/$/, ""),
    apiKey: firstKey(get("SUPABASE_PUBLISHABLE_KEYS")) ?? get("SUPABASE_ANON_KEY") ?? "",
    secretKey: firstKey(get("SUPABASE_SECRET_KEYS")) ?? get("SUPABASE_SERVICE_ROLE_KEY") ?? null,
    registryUrl: get("CONTAINER_REGISTRY_URL") || null,
    redisUrl: get("REDIS_URL") || null,
  };
}
