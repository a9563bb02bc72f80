import { validationError } from "./errors.ts";
import type { CreateAgentBody, ScaleAgentBody, UpdateAgentBody } from "./agent-requests.ts";

/** The canonical form that `create_agent` and `update_agent` take, whatever edition asked. */
export type AgentSpec = Record<string, unknown>;

/** `("discord", "guildId")` → `DISCORD_GUILD_ID`. */
function variableOf(platform: string, field: string): string {
  const snake = `${platform}_${field}`.replace(/([a-z0-9])([A-Z])/g, "$1_$2");
  return snake.replace(/[^A-Za-z0-9]+/g, "_").toUpperCase();
}

function addVariable(
  environment: Record<string, string | null>,
  faults: Record<string, string>,
  field: string,
  variable: string,
  value: string,
): void {
  const given = environment[variable];
  if (given !== undefined && given !== value) {
    faults[field] = `contradicts environment.${variable}`;
  }
  environment[variable] = value;
}

/**
 * Brings a body of any edition into the canonical form. Credentials of platforms (seed 001) and
 * `supabase_config.database_url` (seed 002) become environment variables, because only those are
 * kept as secrets; `replicas` moves out of `resources`.
 * @throws ApiError VALIDATION_ERROR when a credential contradicts the environment given beside it
 */
export function agentSpec(body: CreateAgentBody | UpdateAgentBody): AgentSpec {
  const {
    agentName,
    personality,
    selectedPlugins,
    platforms,
    resources,
    supabase_config,
    ...rest
  } = body;
  const spec: AgentSpec = { ...rest };
  const faults: Record<string, string> = {};
  const environment: Record<string, string | null> = { ...body.environment };

  if (agentName !== undefined) spec.name = agentName;
  if (personality !== undefined) spec.character = personality;
  if (selectedPlugins !== undefined) spec.plugins = selectedPlugins;

  if (Array.isArray(platforms)) {
    spec.platforms = [...new Set(platforms)];
  } else if (platforms !== undefined) {
    spec.platforms = Object.keys(platforms);
    for (const [platform, credentials] of Object.entries(platforms)) {
      for (const [field, value] of Object.entries(credentials)) {
        const at = `platforms.${platform}.${field}`;
        addVariable(environment, faults, at, variableOf(platform, field), value);
      }
    }
  }

  if (resources !== undefined) {
    const { replicas, ...perReplica } = resources;
    if (Object.keys(perReplica).length > 0) spec.resources = perReplica;
    if (replicas !== undefined) {
      if (body.replicas !== undefined && body.replicas !== replicas) {
        faults["resources.replicas"] = "contradicts replicas";
      }
      spec.replicas = replicas;
    }
  }

  if (supabase_config !== undefined) {
    const { database_url, ...config } = supabase_config;
    spec.supabase_config = config;
    if (database_url !== undefined) {
      const at = "supabase_config.database_url";
      addVariable(environment, faults, at, "SUPABASE_DATABASE_URL", database_url);
    }
  }

  if (Object.keys(faults).length > 0) throw validationError(faults);
  if (Object.keys(environment).length > 0) spec.environment = environment;
  return spec;
}

/** Seed 002's `scaling_policy` in the words of `agents.scaling`; null when there is none. */
export function scalingOf(
  body: Pick<ScaleAgentBody, "scaling_policy">,
): Record<string, number | null> | null {
  const policy = body.scaling_policy;
  if (policy === undefined) return null;
  const scaling: Record<string, number | null> = {};
  if (policy.min_replicas !== undefined) scaling.minReplicas = policy.min_replicas;
  if (policy.max_replicas !== undefined) scaling.maxReplicas = policy.max_replicas;
  if (policy.target_cpu !== undefined) scaling.targetCPU = policy.target_cpu;
  if (policy.target_memory !== undefined) scaling.targetMemory = policy.target_memory;
  return scaling;
}
