import { parseDocument, stringify, type ToStringOptions } from "yaml";
import { OrchestratorError } from "./errors.ts";
import { cpuForDocker, memoryForDocker } from "./quantities.ts";
import { variableReference } from "./stack-variables.ts";
import type { ClusterOptions, HealthCheck, WorkloadSpec } from "./types.ts";

/**
 * The one service of every stack, as seed 000 shows it; containers are called `<stack>-eliza-agent-1` (compose) or
 * `<stack>_eliza-agent.1` (Swarm).
 */
export const SERVICE = "eliza-agent";
/** Carried by every container, service and Kubernetes object of an agent. */
export const AGENT_LABEL = "agent-launchpad.agent";
export const REVISION_LABEL = "agent-launchpad.revision";
/** On a Swarm service: the restart it last carried out. */
export const RESTART_LABEL = "agent-launchpad.restart";

/**
 * The stack file for a standalone Docker engine. It holds no value of the environment, and nothing that changes with
 * the revision alone: compose would recreate every container for it.
 */
export function composeFile(spec: WorkloadSpec, options: ClusterOptions): string {
  return toYaml({
    services: {
      [SERVICE]: {
        ...commonService(spec),
        restart: "unless-stopped",
        deploy: { replicas: spec.replicas, resources: resources(spec) },
        // Without a host port each replica gets one of its own; with one a second replica could not start.
        ports: spec.port === null || options.publishMode === "none"
          ? undefined
          : [{ target: spec.port, protocol: "tcp" }],
        labels: labels(spec),
      },
    },
  });
}

/** The stack file for a Swarm. */
export function swarmFile(spec: WorkloadSpec, options: ClusterOptions): string {
  const atOnce = spec.strategy === "recreate" ? 0 : Math.max(1, spec.maxUnavailable);
  // When a batch covers every replica, stopping first would leave nobody to answer.
  const startFirst = spec.strategy === "rolling" && atOnce >= spec.replicas;
  const published = spec.port !== null && options.publishMode !== "none";
  return toYaml({
    // Docker 20.10 refuses a file without it.
    version: "3.8",
    services: {
      [SERVICE]: {
        ...commonService(spec),
        deploy: {
          mode: "replicated",
          // Host ports come from no mesh, and a mesh is what a virtual address needs.
          endpoint_mode: options.publishMode === "host" ? "dnsrr" : undefined,
          replicas: spec.replicas,
          labels: { ...labels(spec), [REVISION_LABEL]: String(spec.revision) },
          resources: resources(spec),
          restart_policy: { condition: "any", delay: "2s" },
          update_config: {
            parallelism: atOnce,
            order: startFirst ? "start-first" : "stop-first",
            failure_action: "rollback",
            monitor: "5s",
          },
          rollback_config: { parallelism: atOnce, order: "stop-first" },
        },
        ports: published
          ? [{
            target: spec.port as number,
            protocol: "tcp",
            mode: options.publishMode ?? "ingress",
          }]
          : undefined,
        labels: labels(spec),
      },
    },
  });
}

const REPLICAS = ["services", SERVICE, "deploy", "replicas"];

/** Every text in quotes, so that none is read as a number, a date or a word of YAML; no line is folded. */
const FORMAT = {
  defaultStringType: "QUOTE_DOUBLE",
  defaultKeyType: "PLAIN",
  lineWidth: 0,
} satisfies ToStringOptions;

/** Members that are undefined are left out. */
function toYaml(value: Record<string, unknown>): string {
  return stringify(value, { ...FORMAT, aliasDuplicateObjects: false });
}

/** Another replica count in a file of ours, the rest as it is; null when it is not one that we wrote. */
export function withReplicas(file: string, replicas: number): string | null {
  if (readReplicas(file) === null) return null;
  const document = parseDocument(file);
  document.setIn(REPLICAS, replicas);
  return document.toString(FORMAT);
}

/** The replica count that a file of ours asks for; null when it is not one that we wrote. */
export function readReplicas(file: string): number | null {
  const document = parseDocument(file);
  if (document.errors.length > 0) return null;
  const replicas = document.getIn(REPLICAS);
  return typeof replicas === "number" ? replicas : null;
}

function commonService(spec: WorkloadSpec): Record<string, unknown> {
  const environment: Record<string, string> = {};
  if (spec.port !== null) environment["PORT"] = String(spec.port);
  for (const name of Object.keys(spec.environment).sort()) {
    environment[name] = variableReference(name);
  }
  return {
    image: literal(spec.image),
    command: spec.command?.map(literal),
    init: true,
    environment,
    healthcheck: spec.healthCheck && spec.port !== null
      ? healthCheck(spec.healthCheck, spec.port)
      : undefined,
  };
}

function labels(spec: WorkloadSpec): Record<string, string> {
  const result: Record<string, string> = {};
  for (const [name, value] of Object.entries(spec.labels)) {
    // Ours, compose's and Docker's own decide who owns what: nobody sets them from outside.
    if (/^(agent-launchpad|com\.docker)\./.test(name)) continue;
    result[name] = literal(value);
  }
  result[AGENT_LABEL] = spec.agentId;
  return result;
}

function resources(spec: WorkloadSpec): { limits: Record<string, string> } | undefined {
  const limits: Record<string, string> = {};
  const { cpu, memory } = spec.resources;
  if (cpu !== undefined) limits["cpus"] = required(cpuForDocker(cpu), "cpu");
  if (memory !== undefined) limits["memory"] = required(memoryForDocker(memory), "memory");
  return Object.keys(limits).length === 0 ? undefined : { limits };
}

function required(value: string | null, resource: string): string {
  if (value !== null) return value;
  throw new OrchestratorError("DEPLOYMENT_FAILED", `The ${resource} limit is not a quantity.`, {
    retryable: false,
    details: { reason: "invalid_resources", resource },
  });
}

/** Both readers of stack files replace `$NAME`; `$$` stands for the character itself. */
function literal(text: string): string {
  return text.replaceAll("$", "$$$$");
}

function healthCheck(check: HealthCheck, port: number): Record<string, unknown> {
  return {
    test: ["CMD-SHELL", literal(probeCommand(check, port))],
    interval: `${check.intervalSeconds}s`,
    timeout: `${check.timeoutSeconds}s`,
    retries: check.retries,
    start_period: `${Math.max(5, check.intervalSeconds)}s`,
  };
}

/**
 * Fetches the agent's report and prints it, so that Docker keeps it in `State.Health.Log`. Images have one of curl,
 * wget or node; which one is tried in this order.
 */
function probeCommand(check: HealthCheck, port: number): string {
  const url = new URL(`http://127.0.0.1:${port}/`);
  url.pathname = check.path;
  // `new URL` leaves some characters that a shell reads.
  const quoted = `'${url.href.replaceAll("'", "%27")}'`;
  const seconds = Math.max(1, Math.floor(check.timeoutSeconds));
  const script =
    "fetch(process.argv[1]).then(async r=>{console.log(await r.text());process.exit(r.ok?0:1)},()=>process.exit(1))";
  return [
    `if command -v curl >/dev/null 2>&1; then curl -fsS -m ${seconds} ${quoted}`,
    `elif command -v wget >/dev/null 2>&1; then wget -q -T ${seconds} -O - ${quoted}`,
    `else node -e '${script}' ${quoted}; fi || exit 1`,
  ].join("; ");
}
