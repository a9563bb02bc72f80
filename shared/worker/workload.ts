import type { HealthCheck, Scaling, WorkloadRef, WorkloadSpec } from "../orchestrators/types.ts";
import { durationSeconds, HEALTH_INTERVAL_SECONDS } from "../contract/durations.ts";
import { OperationFailure } from "./failure.ts";
import { type OperationPlan, targetOf } from "./plan.ts";
import { stackSpec } from "./stack-workload.ts";

/**
 * The workload that a plan describes.
 *
 * @throws {OperationFailure} VALIDATION_ERROR naming every field that no orchestrator could run
 */
export function workloadSpec(plan: OperationPlan): WorkloadSpec {
  const { agent, deployment, operation, template } = plan;
  if (operation.stack_id !== null) return stackSpec(plan);
  if (agent === null || template === null) {
    const field = agent === null ? "agent" : "portainer.template";
    throw invalid([{ field, message: "does not exist" }]);
  }
  if (typeof deployment.stack_name !== "string") {
    throw invalid([{ field: "deployment", message: "does not exist" }]);
  }
  const spec: WorkloadSpec = {
    agentId: agent.id,
    name: deployment.stack_name,
    image: template.image,
    ...(template.command === null ? {} : { command: template.command }),
    replicas: agent.replicas,
    environment: { ...identity(agent, template), ...plan.environment },
    resources: agent.resources ?? {},
    port: template.port,
    healthCheck: healthCheck(agent, template),
    ...(isUnchecked(agent) ? { healthCheckOff: true } : {}),
    labels: template.labels ?? {},
    strategy: strategyOf(operation.request, agent.portainer?.deployment_strategy),
    maxUnavailable: maxUnavailableOf(operation.request),
    scaling: scalingOf(agent),
    revision: agent.generation,
  };
  const faults = faultsOf(spec);
  if (faults.length > 0) throw invalid(faults);
  return spec;
}

function invalid(fields: { field: string; message: string }[]): OperationFailure {
  return new OperationFailure("VALIDATION_ERROR", "The agent's configuration cannot be deployed", {
    component: "worker",
    fields,
  });
}

type Agent = NonNullable<OperationPlan["agent"]>;
type Template = NonNullable<OperationPlan["template"]>;

/** Where the deployment's row says the workload stands. */
export function workloadRef(plan: OperationPlan): WorkloadRef {
  const { deployment } = plan;
  return {
    agentId: targetOf(plan.operation),
    name: deployment.stack_name,
    stackId: deployment.stack_id,
    namespace: deployment.namespace,
    ...(plan.operation.stack_id === null ? {} : { composed: true }),
  };
}

/** What tells a container which agent it is; the agent's own environment wins over these. */
function identity(agent: Agent, template: Template): Record<string, string> {
  const facts: Record<string, string | null> = {
    AGENT_ID: agent.id,
    AGENT_NAME: agent.name,
    AGENT_DESCRIPTION: agent.description,
    AGENT_FRAMEWORK: agent.framework,
    AGENT_MODEL: agent.model,
    AGENT_SYSTEM_PROMPT: agent.system_prompt,
    AGENT_CHARACTER: json(agent.character),
    AGENT_SETTINGS: json(agent.settings),
    AGENT_PLUGINS: list(agent.plugins),
    AGENT_PLATFORMS: list(agent.platforms),
    AGENT_SUPABASE_CONFIG: json(agent.supabase_config),
    PORT: template.port === null ? null : String(template.port),
  };
  return Object.fromEntries(
    Object.entries(facts).filter((fact): fact is [string, string] =>
      fact[1] !== null && fact[1] !== ""
    ),
  );
}

function json(value: unknown): string | null {
  const empty = value === null || value === undefined ||
    (typeof value === "object" && Object.keys(value).length === 0);
  return empty ? null : JSON.stringify(value);
}

function list(values: string[] | null): string | null {
  return values === null || values.length === 0 ? null : values.join(",");
}

function isUnchecked(agent: Agent): boolean {
  return agent.portainer?.health_checks?.enabled === false;
}

function healthCheck(agent: Agent, template: Template): HealthCheck | null {
  const wanted = agent.portainer?.health_checks;
  if (template.health_path === null || template.port === null || isUnchecked(agent)) {
    return null;
  }
  const intervalSeconds = durationSeconds(wanted?.interval) ?? HEALTH_INTERVAL_SECONDS;
  return {
    path: template.health_path,
    intervalSeconds,
    timeoutSeconds: durationSeconds(wanted?.timeout) ?? Math.min(10, intervalSeconds),
    retries: wanted?.retries ?? 3,
  };
}

function strategyOf(
  request: OperationPlan["operation"]["request"],
  usual: string | undefined,
): WorkloadSpec["strategy"] {
  const asked = request.strategy ?? request.restart_policy ?? usual;
  return asked === "recreate" || asked === "blue-green" ? asked : "rolling";
}

function maxUnavailableOf(request: OperationPlan["operation"]["request"]): number {
  return typeof request.max_unavailable === "number" && request.max_unavailable >= 1
    ? request.max_unavailable
    : 1;
}

/** A policy without a target has nothing that an orchestrator could scale by. */
function scalingOf({ scaling }: Agent): Scaling | null {
  const { targetCPU: targetCpu, targetMemory } = scaling ?? {};
  if (!scaling || (targetCpu ?? targetMemory ?? null) === null) return null;
  return {
    minReplicas: scaling.minReplicas,
    maxReplicas: scaling.maxReplicas,
    targetCpu: targetCpu ?? null,
    targetMemory: targetMemory ?? null,
  };
}

const QUANTITY = /^\d+(?:\.\d+)?(?:m|k|M|G|T|Ki|Mi|Gi|Ti)?$/;

/** The last look before anything is asked of a cluster; the database has checked all this before. */
function faultsOf(spec: WorkloadSpec): { field: string; message: string }[] {
  const faults: { field: string; message: string }[] = [];
  const expect = (ok: boolean, field: string, message: string) => {
    if (!ok) faults.push({ field, message });
  };
  expect(/^[a-z][a-z0-9-]{0,62}$/.test(spec.name), "portainer.stack_name", "is not a stack name");
  expect(spec.image.length > 0, "portainer.template", "names no image");
  expect(
    Number.isInteger(spec.replicas) && spec.replicas >= 0,
    "replicas",
    "is not a whole number",
  );
  for (const name of ["memory", "cpu"] as const) {
    const value = spec.resources[name];
    expect(value === undefined || QUANTITY.test(value), `resources.${name}`, "is not a quantity");
  }
  for (const name of Object.keys(spec.environment)) {
    expect(/^[A-Za-z_][A-Za-z0-9_]*$/.test(name), `environment.${name}`, "is not a variable name");
  }
  return faults;
}
