import {
  type Document,
  isMap,
  isScalar,
  parseDocument,
  stringify,
  type ToStringOptions,
} from "yaml";
import { OrchestratorError } from "./errors.ts";
import { cpuForDocker, memoryForDocker } from "./quantities.ts";
import {
  fromCandidateReference,
  toCandidateReference,
  variableReference,
} from "./stack-variables.ts";
import type {
  ClusterOptions,
  HealthCheck,
  StackDefinition,
  StackService,
  WorkloadSpec,
} from "./types.ts";

/**
 * The one service of an agent's stack, as seed 000 shows it; containers are called `<stack>-eliza-agent-1` (compose) or
 * `<stack>_eliza-agent.1` (Swarm).
 */
export const SERVICE = "eliza-agent";
/** The other name: two sets of replicas stand side by side under both while one takes over from the other. */
const OTHER_SERVICE = "eliza-agent-green";

export function otherService(name: string): string {
  return name === SERVICE ? OTHER_SERVICE : SERVICE;
}
/** Carried by every container, service and Kubernetes object of an agent. */
export const AGENT_LABEL = "agent-launchpad.agent";
export const REVISION_LABEL = "agent-launchpad.revision";
/** On a Swarm service: the restart it last carried out. */
export const RESTART_LABEL = "agent-launchpad.restart";

/**
 * The stack file for a standalone Docker engine. It holds no value of the environment, and nothing that changes with
 * the revision alone: compose would recreate every container for it.
 */
export function composeFile(
  spec: WorkloadSpec,
  options: ClusterOptions,
  name: string = SERVICE,
): string {
  return toYaml({
    services: mapServices(spec, name, (service) => ({
      ...commonService(service),
      restart: "unless-stopped",
      deploy: { replicas: service.replicas, resources: resources(service.resources) },
      // Without a host port each replica gets one of its own; with one a second replica could not start.
      ports: publishedPorts(service, options, {}),
      labels: labels(spec),
    })),
    ...resourcesOf(spec, { driver: "bridge" }),
  });
}

/** The stack file for a Swarm. */
export function swarmFile(
  spec: WorkloadSpec,
  options: ClusterOptions,
  name: string = SERVICE,
): string {
  const atOnce = spec.strategy === "recreate" ? 0 : Math.max(1, spec.maxUnavailable);
  return toYaml({
    // Docker 20.10 refuses a file without it.
    version: "3.8",
    services: mapServices(spec, name, (service) => {
      // When a batch covers every replica, stopping first would leave nobody to answer.
      const startFirst = spec.strategy !== "recreate" && atOnce >= service.replicas;
      return {
        ...commonService(service),
        deploy: {
          mode: "replicated",
          // Host ports come from no mesh, and a mesh is what a virtual address needs.
          endpoint_mode: options.publishMode === "host" ? "dnsrr" : undefined,
          replicas: service.replicas,
          labels: { ...labels(spec), [REVISION_LABEL]: String(spec.revision) },
          resources: resources(service.resources),
          restart_policy: { condition: "any", delay: "2s" },
          update_config: {
            parallelism: atOnce,
            order: startFirst ? "start-first" : "stop-first",
            failure_action: "rollback",
            monitor: "5s",
          },
          rollback_config: { parallelism: atOnce, order: "stop-first" },
        },
        ports: publishedPorts(service, options, { mode: options.publishMode ?? "ingress" }),
        labels: labels(spec),
      };
    }),
    ...resourcesOf(spec, { driver: "overlay" }),
  });
}

/** A service as the file has it: of a stack, or the one that an agent is. */
interface FileService extends Omit<StackService, "environment"> {
  /** Name in the container → name of the stack's variable that holds the value. */
  variables: Record<string, string>;
  /** The first of `ports` is told to the container as `PORT`. */
  tellsPort: boolean;
  healthCheckOff?: boolean;
}

/** `name` is that of the one service that an agent is. */
function servicesOf(spec: WorkloadSpec, name: string): FileService[] {
  if (spec.stack !== undefined) {
    return spec.stack.services.map(({ environment, ...service }) => ({
      ...service,
      variables: Object.fromEntries(
        Object.keys(environment).map((name) => [name, serviceVariable(service.name, name)]),
      ),
      tellsPort: false,
    }));
  }
  return [{
    name,
    image: spec.image,
    ...(spec.command === undefined ? {} : { command: spec.command }),
    replicas: spec.replicas,
    variables: Object.fromEntries(Object.keys(spec.environment).map((name) => [name, name])),
    resources: spec.resources,
    ports: spec.port === null ? [] : [spec.port],
    healthCheck: spec.healthCheck,
    healthCheckOff: spec.healthCheckOff,
    networks: [],
    volumes: [],
    tellsPort: true,
  }];
}

/** Services differ in what a variable of one name holds. No service's name has two dashes in a row, so none collide. */
function serviceVariable(service: string, name: string): string {
  return `${service.replaceAll("-", "_")}__${name}`;
}

/** The values that go into the stack's variables, by the names that its file refers to. */
export function environmentOf(spec: WorkloadSpec): Record<string, string> {
  if (spec.stack === undefined) return spec.environment;
  return Object.fromEntries(
    spec.stack.services.flatMap((service) =>
      Object.entries(service.environment).map(([name, value]) => [
        serviceVariable(service.name, name),
        value,
      ])
    ),
  );
}

/** Every image that the workload needs, once. */
export function imagesOf(spec: WorkloadSpec): string[] {
  return [...new Set(servicesOf(spec, SERVICE).map(({ image }) => image))];
}

function mapServices(
  spec: WorkloadSpec,
  name: string,
  describe: (service: FileService) => Record<string, unknown>,
): Record<string, unknown> {
  return Object.fromEntries(
    servicesOf(spec, name).map((service) => [service.name, describe(service)]),
  );
}

function publishedPorts(
  { ports }: FileService,
  options: ClusterOptions,
  rest: Record<string, string>,
): Record<string, unknown>[] | undefined {
  if (ports.length === 0 || options.publishMode === "none") return undefined;
  return ports.map((target) => ({ target, protocol: "tcp", ...rest }));
}

/** The networks and volumes of a stack; an agent declares none. */
function resourcesOf(
  spec: WorkloadSpec,
  { driver }: { driver: "bridge" | "overlay" },
): Record<string, unknown> {
  if (spec.stack === undefined) return {};
  const { networks, volumes }: StackDefinition = spec.stack;
  const named = <T extends { name: string }>(all: T[], describe: (one: T) => unknown) =>
    all.length === 0 ? undefined : Object.fromEntries(all.map((one) => [one.name, describe(one)]));
  const own = { [AGENT_LABEL]: spec.agentId };
  return {
    networks: named(networks, ({ encrypted }) => ({
      driver,
      driver_opts: encrypted && driver === "overlay" ? { encrypted: "true" } : undefined,
      labels: own,
    })),
    volumes: named(volumes, () => ({ driver: "local", labels: own })),
  };
}

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

/** Another replica count in the file of an agent, the rest as it is; null when it is not one that we wrote. */
export function withReplicas(file: string, replicas: number): string | null {
  const names = Object.keys(readServiceReplicas(file));
  if (names.length !== 1 || ![SERVICE, OTHER_SERVICE].includes(names[0]!)) return null;
  const document = parseDocument(file);
  document.setIn(["services", names[0], "deploy", "replicas"], replicas);
  return document.toString(FORMAT);
}

/** The file with the one service of another file beside its own; null when one of them is not one that we wrote. */
export function withCandidate(file: string, candidate: string): string | null {
  const [document, other] = [parseDocument(file), parseDocument(candidate)];
  const [names, added] = [file, candidate].map((one) => Object.keys(readServiceReplicas(one)));
  if (names!.length !== 1 || added!.length !== 1) return null;
  mapEnvironment(other, added![0]!, toCandidateReference);
  document.setIn(["services", added![0]], other.getIn(["services", added![0]]));
  return document.toString(FORMAT);
}

/** The file with no other service than this one. */
export function onlyService(file: string, name: string): string {
  const others = Object.keys(readServiceReplicas(file)).filter((other) => other !== name);
  if (others.length === 0) return file;
  const document = parseDocument(file);
  for (const other of others) document.deleteIn(["services", other]);
  return document.toString(FORMAT);
}

/** The file with the candidate alone, as if it had been written for it. */
export function promoted(file: string, name: string): string {
  const document = parseDocument(onlyService(file, name));
  mapEnvironment(document, name, fromCandidateReference);
  return document.toString(FORMAT);
}

function mapEnvironment(document: Document, service: string, change: (text: string) => string) {
  const environment = document.getIn(["services", service, "environment"]);
  if (!isMap(environment)) return;
  for (const { value } of environment.items) {
    if (isScalar(value) && typeof value.value === "string") value.value = change(value.value);
  }
}

/**
 * Whether replicas made from one file would differ in nothing from those made from the other: how many there are, how
 * they are rolled out and which revision they are called does not count.
 */
export function sameReplicas(a: string, b: string): boolean {
  return replicaText(a) === replicaText(b);
}

function replicaText(file: string): string {
  const document = parseDocument(file);
  for (const name of Object.keys(readServiceReplicas(file))) {
    for (const key of ["replicas", "update_config", "rollback_config"]) {
      document.deleteIn(["services", name, "deploy", key]);
    }
    if (document.hasIn(["services", name, "deploy", "labels", REVISION_LABEL])) {
      document.deleteIn(["services", name, "deploy", "labels", REVISION_LABEL]);
    }
  }
  return document.toString(FORMAT);
}

/** The replica count that a file of ours asks for, of all its services; null when it is not one that we wrote. */
export function readReplicas(file: string): number | null {
  const counts = Object.values(readServiceReplicas(file));
  return counts.length === 0 ? null : counts.reduce((sum, count) => sum + count, 0);
}

/** The same for each service; empty when it is not a file that we wrote. */
export function readServiceReplicas(file: string): Record<string, number> {
  const document = parseDocument(file);
  if (document.errors.length > 0) return {};
  const services = document.get("services");
  if (!isMap(services)) return {};
  const counts: Record<string, number> = {};
  for (const { key, value } of services.items) {
    const replicas = isMap(value) ? value.getIn(["deploy", "replicas"]) : null;
    if (typeof replicas !== "number") return {};
    counts[String(key)] = replicas;
  }
  return counts;
}

function commonService(service: FileService): Record<string, unknown> {
  const environment: Record<string, string> = {};
  const [port] = service.ports;
  if (service.tellsPort && port !== undefined) environment["PORT"] = String(port);
  for (const name of Object.keys(service.variables).sort()) {
    environment[name] = variableReference(service.variables[name]!);
  }
  return {
    image: literal(service.image),
    command: service.command?.map(literal),
    init: true,
    environment,
    networks: service.networks.length > 0 ? service.networks : undefined,
    volumes: service.volumes.length > 0
      ? service.volumes.map(({ name, target }) => ({
        type: "volume",
        source: name,
        target: literal(target),
      }))
      : undefined,
    healthcheck: service.healthCheck && port !== undefined
      ? healthCheck(service.healthCheck, port)
      : service.healthCheckOff
      ? { disable: true }
      : undefined,
  };
}

function labels(spec: WorkloadSpec): Record<string, string> {
  const result: Record<string, string> = {};
  for (const [name, value] of Object.entries(spec.labels)) {
    // Ours, compose's, Docker's and Portainer's own decide who owns what: nobody sets them from outside.
    if (/^(agent-launchpad|com\.docker|io\.portainer)\./i.test(name)) continue;
    result[name] = literal(value);
  }
  result[AGENT_LABEL] = spec.agentId;
  return result;
}

function resources(
  { cpu, memory }: WorkloadSpec["resources"],
): { limits: Record<string, string> } | undefined {
  const limits: Record<string, string> = {};
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
