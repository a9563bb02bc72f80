import { DockerError } from "./errors.ts";
import type { SwarmRestart, UpdateConfig } from "./compose_file.ts";
import type { Healthcheck } from "./types.ts";

/** Names and nesting are those of the Docker API, because clients read a service and send it back whole. */
export interface ContainerSpec {
  Image: string;
  Labels?: Record<string, string>;
  Command?: string[];
  Args?: string[];
  Env?: string[];
  Hostname?: string;
  Healthcheck?: Partial<Healthcheck>;
  StopGracePeriod?: number;
  StopSignal?: string;
  Mounts?: { Type: string; Source?: string; Target: string; ReadOnly?: boolean }[];
  Configs?: { ConfigID: string; ConfigName: string }[];
  Isolation?: string;
}

export interface TaskSpec {
  ContainerSpec: ContainerSpec;
  Resources?: {
    Limits?: { MemoryBytes?: number; NanoCPUs?: number };
    Reservations?: { MemoryBytes?: number; NanoCPUs?: number };
  };
  RestartPolicy?: Partial<SwarmRestart>;
  Networks?: { Target: string; Aliases?: string[] }[];
  ForceUpdate?: number;
  Runtime?: string;
}

export interface PortConfig {
  Protocol?: string;
  TargetPort: number;
  PublishedPort?: number;
  PublishMode?: string;
}

export interface ServiceSpec {
  Name: string;
  Labels: Record<string, string>;
  TaskTemplate: TaskSpec;
  Mode: { Replicated?: { Replicas: number }; Global?: Record<string, never> };
  UpdateConfig?: Partial<UpdateConfig>;
  RollbackConfig?: Partial<UpdateConfig>;
  EndpointSpec?: { Mode?: string; Ports?: PortConfig[] };
}

export type UpdateState =
  | "updating"
  | "paused"
  | "completed"
  | "rollback_started"
  | "rollback_paused"
  | "rollback_completed";

export interface Service {
  ID: string;
  Version: { Index: number };
  CreatedAt: string;
  UpdatedAt: string;
  Spec: ServiceSpec;
  PreviousSpec?: ServiceSpec;
  Endpoint: {
    Spec: { Mode?: string; Ports?: PortConfig[] };
    Ports?: PortConfig[];
    VirtualIPs: { NetworkID: string; Addr: string }[];
  };
  UpdateStatus?: { State: UpdateState; StartedAt: string; CompletedAt?: string; Message: string };
}

/** In the order in which a task goes through them. */
export const TASK_STATES = [
  "new",
  "pending",
  "assigned",
  "accepted",
  "preparing",
  "ready",
  "starting",
  "running",
  "complete",
  "shutdown",
  "failed",
  "rejected",
  "remove",
] as const;
export type TaskState = typeof TASK_STATES[number];

export interface Task {
  ID: string;
  Version: { Index: number };
  CreatedAt: string;
  UpdatedAt: string;
  Labels: Record<string, string>;
  Spec: TaskSpec;
  ServiceID: string;
  Slot: number;
  NodeID: string;
  Status: {
    Timestamp: string;
    State: TaskState;
    Message: string;
    Err?: string;
    ContainerStatus?: { ContainerID: string; PID: number; ExitCode: number };
    PortStatus: { Ports?: PortConfig[] };
  };
  DesiredState: "ready" | "running" | "shutdown" | "remove";
}

/** Whether a task has come to its end. */
export const isTerminal = (task: Task): boolean =>
  TASK_STATES.indexOf(task.Status.State) > TASK_STATES.indexOf("running");

/** Whether a task is meant to live. */
export const isWanted = (task: Task): boolean =>
  task.DesiredState === "running" || task.DesiredState === "ready";

/** How many tasks a service is to have. */
export const replicasOf = ({ Mode }: ServiceSpec): number => Mode.Replicated?.Replicas ?? 1;

/** Sorted keys, and nothing that stands for "not set": how Swarm's wire format sees a value. */
function canonical(value: unknown): unknown {
  if (Array.isArray(value)) return value.length > 0 ? value.map(canonical) : undefined;
  if (typeof value !== "object" || value === null) return value || undefined;
  const entries = Object.entries(value)
    .map(([key, item]) => [key, canonical(item)] as const)
    .filter(([, item]) => item !== undefined)
    .toSorted(([a], [b]) => a < b ? -1 : 1);
  return entries.length > 0 ? Object.fromEntries(entries) : undefined;
}

/** Whether two specifications ask for the same. */
export const sameSpec = (a: TaskSpec, b: TaskSpec): boolean =>
  JSON.stringify(canonical(a)) === JSON.stringify(canonical(b));

const invalid = (message: string) =>
  new DockerError(400, `rpc error: code = InvalidArgument desc = ${message}`);

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/**
 * Checks what a client sent as a service's specification as far as this engine relies on it.
 * @throws DockerError 400
 */
export function readServiceSpec(value: unknown): ServiceSpec {
  if (!isObject(value)) throw new DockerError(400, "invalid JSON: expected a service spec");
  const name = value["Name"];
  if (typeof name !== "string" || !/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(name)) {
    throw invalid("name must be valid as a DNS name component");
  }
  const template = value["TaskTemplate"];
  if (!isObject(template)) throw invalid("missing task template");
  const container = template["ContainerSpec"];
  if (!isObject(container)) throw invalid("missing container spec");
  if (typeof container["Image"] !== "string" || !container["Image"]) {
    throw invalid("ContainerSpec: image reference must be provided");
  }
  const env = container["Env"];
  if (env !== undefined && env !== null && !Array.isArray(env)) throw invalid("Env must be a list");
  const mode = isObject(value["Mode"]) ? value["Mode"] : {};
  const replicated = isObject(mode["Replicated"]) ? mode["Replicated"] : null;
  const replicas = replicated?.["Replicas"] ?? 1;
  if (typeof replicas !== "number" || !Number.isInteger(replicas) || replicas < 0) {
    throw invalid("Replicas must be a number that is not negative");
  }
  const spec = structuredClone(value) as unknown as ServiceSpec;
  spec.Labels = isObject(value["Labels"]) ? value["Labels"] as Record<string, string> : {};
  spec.Mode = isObject(mode["Global"]) ? { Global: {} } : { Replicated: { Replicas: replicas } };
  return spec;
}
