import type { HealthCheck, StackService, WorkloadSpec } from "../orchestrators/types.ts";
import { OperationFailure } from "./failure.ts";
import { type OperationPlan, type ServicePlan, targetOf } from "./plan.ts";

/**
 * The workload that the plan of a stack describes. The same word that marks an agent's stack as its own, `agentId`, is
 * the stack's id here: ids are unique among both.
 *
 * @throws {OperationFailure} VALIDATION_ERROR when the stack's row is gone
 */
export function stackSpec(
  { stack, deployment, environment, operation }: OperationPlan,
): WorkloadSpec {
  if (stack === null || stack === undefined) {
    throw new OperationFailure("VALIDATION_ERROR", "The stack does not exist any more", {
      component: "worker",
    });
  }
  const services = Object.entries(stack.services).map(([name, service]) =>
    serviceOf(name, service, environment)
  );
  return {
    agentId: targetOf(operation),
    name: deployment.stack_name,
    image: services[0]!.image,
    replicas: services.reduce((sum, { replicas }) => sum + replicas, 0),
    environment: {},
    resources: {},
    port: null,
    healthCheck: null,
    labels: stack.labels,
    strategy: "rolling",
    maxUnavailable: 1,
    scaling: null,
    revision: stack.generation,
    stack: {
      services,
      networks: Object.entries(stack.networks).map(([name, { encrypted }]) => ({
        name,
        encrypted: encrypted === true,
      })),
      volumes: Object.keys(stack.volumes).map((name) => ({ name })),
    },
  };
}

function serviceOf(
  name: string,
  service: ServicePlan,
  given: Record<string, string>,
): StackService {
  return {
    name,
    image: service.image,
    ...(service.command === undefined ? {} : { command: service.command }),
    replicas: service.replicas,
    environment: environmentOf(service, given),
    resources: service.resources ?? {},
    ports: service.ports ?? [],
    healthCheck: service.health === undefined ? null : healthCheckOf(service.health),
    networks: service.networks ?? [],
    volumes: (service.volumes ?? []).map((text) => {
      const colon = text.indexOf(":");
      return { name: text.slice(0, colon), target: text.slice(colon + 1) };
    }),
  };
}

/** What the service says itself wins over what it is passed. A variable that was not given is left out. */
function environmentOf(
  service: ServicePlan,
  given: Record<string, string>,
): Record<string, string> {
  const environment: Record<string, string> = service.pass_environment === true ? { ...given } : {};
  for (const [name, value] of Object.entries(service.environment ?? {})) {
    const found = value === null ? given[name] : withVariables(value, given);
    if (found !== undefined) environment[name] = found;
  }
  return environment;
}

/** `${NAME}` with what was given for it, nothing when that is nothing. */
function withVariables(text: string, given: Record<string, string>): string {
  return text.replace(/\$\{([A-Za-z_][A-Za-z0-9_]*)\}/g, (_, name: string) => given[name] ?? "");
}

function healthCheckOf(health: NonNullable<ServicePlan["health"]>): HealthCheck {
  return {
    path: health.path,
    intervalSeconds: health.interval ?? 30,
    timeoutSeconds: health.timeout ?? 10,
    retries: health.retries ?? 3,
  };
}
