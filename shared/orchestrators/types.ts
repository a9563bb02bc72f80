import type { OrchestratorErrorCode } from "./errors.ts";
import type { Examination, ExaminationRequest } from "./posture.ts";

/** What a `clusters` row of this kind speaks. Which engine stands behind a Portainer is found out by asking it. */
export type ClusterKind = "portainer" | "kubernetes";

/** What really runs a workload; the value of `deployments.orchestrator`. */
export type OrchestratorKind =
  | "portainer-compose"
  | "portainer-swarm"
  | "portainer-kubernetes"
  | "kubernetes";

/** Where workloads go and how to get in. */
export interface ClusterConnection {
  id: string;
  name: string;
  kind: ClusterKind;
  /** Base address: of Portainer (without `/api`) or of the Kubernetes API server. */
  url: string;
  /** Portainer's environment id; ignored for Kubernetes. */
  endpointId: number | null;
  /** Kubernetes namespace (also behind Portainer); `default` when null. */
  namespace: string | null;
  /**
   * Portainer: the API key (`ptr_…`). Kubernetes: a bearer token, or a JSON object
   * `{"token"?, "ca"?, "clientCertificate"?, "clientKey"?}` with PEM texts.
   */
  credential: string;
  options: ClusterOptions;
}

/** Settings of a cluster that are no secret; unknown keys are ignored. */
export interface ClusterOptions {
  /** Kubernetes: PEM of the certificate authority that signed the API server's certificate. */
  ca?: string;
  /** Address under which people reach the console, when it differs from `url`. */
  consoleUrl?: string;
  /** Host under which published ports are reached, when neither the engine nor `url` tells. */
  publicHost?: string;
  /** Docker: how an agent's port gets out. `host` suits kernels without IPVS. Default `ingress`. */
  publishMode?: "ingress" | "host" | "none";
  /** Kubernetes: type of the Service. Default `ClusterIP`, which has no address outside the cluster. */
  serviceType?: "ClusterIP" | "NodePort" | "LoadBalancer";
  /** Portainer: the registry whose credentials pull the image. */
  registryId?: number;
  /** How long one request may take, in milliseconds. Default 30,000. */
  requestTimeoutMs?: number;
  /** How long a request that pulls images or starts containers may take, in milliseconds. Default 120,000. */
  deployTimeoutMs?: number;
}

/** An HTTP probe inside the container. */
export interface HealthCheck {
  path: string;
  intervalSeconds: number;
  timeoutSeconds: number;
  retries: number;
}

export interface Scaling {
  minReplicas: number;
  maxReplicas: number;
  /** Per cent of the requested CPU, 1–100. */
  targetCpu: number | null;
  /** Per cent of the requested memory, 1–100. */
  targetMemory: number | null;
}

/** One service of a stack that has several. */
export interface StackService {
  /** Lower-case letters and digits, joined by single dashes. */
  name: string;
  image: string;
  command?: string[];
  replicas: number;
  /** Secret, as `WorkloadSpec.environment`. */
  environment: Record<string, string>;
  resources: { memory?: string; cpu?: string };
  /** Published, each on a port that the engine chooses. */
  ports: number[];
  /** Of the first port. */
  healthCheck: HealthCheck | null;
  networks: string[];
  volumes: { name: string; target: string }[];
}

/** What a stack is made of; names without the stack's own before them. */
export interface StackDefinition {
  services: StackService[];
  /** Overlay networks on a Swarm, bridges on a standalone engine, which has nothing to encrypt. */
  networks: { name: string; encrypted: boolean }[];
  /** Of the driver `local`. */
  volumes: { name: string }[];
}

/**
 * How a change comes to what runs. `rolling`: replica by replica. `recreate`: all old ones go before new ones come.
 * `blue-green`: the new ones stand ready beside the old ones before they take over.
 */
export type Strategy = "rolling" | "recreate" | "blue-green";

/** Everything an orchestrator needs to know to run an agent. */
export interface WorkloadSpec {
  agentId: string;
  /** Stack name: lower-case letters, digits and dashes, begins with a letter. */
  name: string;
  image: string;
  command?: string[];
  replicas: number;
  /** Secret. Kept in the stack's variables or a Kubernetes Secret, never in a stack file. */
  environment: Record<string, string>;
  /** Kubernetes quantities: `{ memory: "1Gi", cpu: "500m" }`. */
  resources: { memory?: string; cpu?: string };
  port: number | null;
  healthCheck: HealthCheck | null;
  /** Nor is the check that the image may come with to be made. */
  healthCheckOff?: boolean;
  labels: Record<string, string>;
  strategy: Strategy;
  /** How many replicas may be down at once during an update or a restart; at least 1. */
  maxUnavailable: number;
  /** Kubernetes scales by itself within these bounds. Docker cannot; there it is ignored. */
  scaling: Scaling | null;
  /** Written to the workload and read back by `inspect`. */
  revision: number;
  /**
   * Portainer with Docker only: these services run instead of the one that `image`, `command`, `environment`,
   * `resources`, `port` and `healthCheck` describe. `replicas` is the sum of theirs, `agentId` the stack's own id.
   */
  stack?: StackDefinition;
}

/** Names a workload. What `deploy` gives back is complete; keep it. */
export interface WorkloadRef {
  agentId: string;
  name: string;
  /** Portainer's stack id, or the Deployment's uid; null when not known yet. */
  stackId: string | null;
  namespace: string | null;
  /** Set by the drivers; callers that do not know it leave it out. */
  orchestrator?: OrchestratorKind;
  endpointId?: number | null;
  /** Of several services: `inspect` tells its networks and volumes too. */
  composed?: boolean;
  /** The orchestrator scales it by itself: `inspect` tells what it decided too. */
  autoscaled?: boolean;
}

export type ContainerStatus =
  | "created"
  | "running"
  | "restarting"
  | "exited"
  | "dead"
  | "paused";

export type ContainerHealth = "healthy" | "unhealthy" | "starting";

export interface ContainerState {
  /** Docker: container id. Kubernetes: pod name. What `logs` takes. */
  id: string;
  name: string;
  status: ContainerStatus;
  /** Null when the container has no health check. */
  health: ContainerHealth | null;
  image: string;
  /** RFC 3339; null when it never started. */
  startedAt: string | null;
  /** RFC 3339; null while it runs. */
  finishedAt: string | null;
  restartCount: number;
  exitCode: number | null;
  oomKilled: boolean;
  /** What the last health probe printed, when that is a JSON object: the agent's own report. */
  healthOutput: Record<string, unknown> | null;
  healthDurationMs: number | null;
  /** RFC 3339, end of the last probe. */
  healthCheckedAt: string | null;
  /** Of the set of replicas that is not reached yet; absent for all others. */
  candidate?: true;
  /** It is of an earlier revision and about to be replaced: its trouble is none of the present one's. */
  replaced?: true;
}

export interface ServicePort {
  published: number;
  target: number;
  protocol: "tcp" | "udp";
}

export interface ServiceState {
  id: string;
  name: string;
  image: string;
  replicas: { running: number; desired: number };
  ports: ServicePort[];
}

export interface NetworkState {
  name: string;
  driver: string;
  encrypted: boolean;
}

export interface VolumeState {
  name: string;
  driver: string;
}

export interface WorkloadFailure {
  code: OrchestratorErrorCode;
  message: string;
  /** `reason` is one of ours: image_not_found, crash_loop, out_of_memory, no_capacity, quota, progress_deadline, rolled_back, unhealthy, start_failed. `cause`: the reason for going back, where it is known. */
  details: { reason: string; container?: string; exit_code?: number; cause?: string };
}

/** What an orchestrator that scales by itself decided. */
export interface AutoscalerState {
  /** As many as it wants; null before its first decision. */
  replicas: number | null;
  /** In percent of what the containers may use; null when it could not measure. */
  metrics: { metric: "cpu" | "memory"; valuePercent: number | null; targetPercent: number }[];
  /** What kept it from scaling further. */
  limitedBy: "max_replicas" | "unmeasured" | "scaling_failed" | null;
}

/** A set of replicas that stands beside the one that is reached, until `promote` or an update to the latter. */
export interface CandidateState {
  revision: number | null;
  desired: number;
  ready: number;
  /** Every one of its replicas is there and ready. */
  settled: boolean;
  /** It will not become ready by waiting. */
  failed: boolean;
  /** Why it is failed or unhealthy. */
  failure: WorkloadFailure | null;
}

/** `desired`, `ready`, `url` and `failure` are about the replicas that are reached. */
export interface WorkloadState {
  ref: WorkloadRef;
  /** `inactive`: stopped on purpose. `failed`: it will not become ready by waiting. */
  status: "active" | "inactive" | "deploying" | "failed";
  /** The revision last written by `deploy`, `update`, `scale` or `start`; null when unreadable. */
  revision: number | null;
  desired: number;
  /** Containers that run and, where they have a health check, pass it. */
  ready: number;
  /**
   * The rollout is over: exactly `desired` replicas of the present revision exist and are ready (or it is stopped), and
   * no candidate stands beside them.
   */
  settled: boolean;
  candidate: CandidateState | null;
  /** The candidate's too. */
  containers: ContainerState[];
  services: ServiceState[];
  /** For an `autoscaled` workload only. */
  autoscaler?: AutoscalerState;
  /** For a `composed` workload only. */
  networks?: NetworkState[];
  /** For a `composed` workload only; on a Swarm those of the manager that was asked. */
  volumes?: VolumeState[];
  url: string | null;
  consoleUrl: string | null;
  /** Why it is failed or unhealthy; null when nothing is known to be wrong. */
  failure: WorkloadFailure | null;
}

/** Makes a restart safe to repeat: replicas that restarted for this request are left alone the second time. */
export interface RestartRequest {
  /** Names the request, for instance the operation's id. */
  id: string;
  /** RFC 3339, when it was asked for. */
  requestedAt: string;
}

export interface LogOptions {
  /** RFC 3339 with nanoseconds; only lines strictly later are given. */
  since?: string;
  /** Only the last so many lines. Without it reading begins at the oldest. */
  tail?: number;
  /** Upper bound of what is read. */
  limitBytes: number;
}

export interface LogLine {
  /** RFC 3339 with nanoseconds, as the engine wrote it. */
  timestamp: string;
  /** Kubernetes does not tell. */
  stream: "stdout" | "stderr" | null;
  message: string;
}

export interface LogPage {
  /** Oldest first. */
  lines: LogLine[];
  /** The limit cut the answer short; go on with the last line's timestamp as `since`. */
  truncated: boolean;
}

export interface ContainerMetrics {
  /** As in `ContainerState`. */
  containerId: string;
  containerName: string;
  /** RFC 3339, when it was measured. */
  timestamp: string;
  /** Cores in use; null when the engine has no second sample yet. */
  cpuUsage: number | null;
  /** Cores; null when unlimited or unknown. */
  cpuLimit: number | null;
  /** Bytes, without the page cache. */
  memoryUsage: number | null;
  memoryLimit: number | null;
  /** Bytes since the container started; null where the engine does not tell. */
  networkRx: number | null;
  networkTx: number | null;
}

/** What a cluster has and uses, in cores and bytes; null for what it does not tell. */
export interface ClusterFigures {
  pods: {
    total: number;
    running: number | null;
    pending: number | null;
    failed: number | null;
  } | null;
  /** Of a Docker engine, also those that are not ours. */
  containers: { total: number; running: number; stopped: number | null } | null;
  cpu: { total: number | null; used: number | null };
  memory: { total: number | null; used: number | null };
}

export interface ClusterHealth {
  status: "up" | "degraded" | "down";
  /** Of Portainer or of the Kubernetes API server. */
  version: string | null;
  orchestrator: OrchestratorKind | null;
  nodes: { ready: number; total: number } | null;
  responseTimeMs: number;
  /** Why it is not `up`, in our words. */
  message: string | null;
  /** Absent when the cluster is down. */
  figures?: ClusterFigures;
}

/**
 * Runs agents somewhere. Every method looks at the real state before it acts, so that each may be repeated after
 * a failure, a time-out or a crash of the caller; none ever touches what does not carry the agent's label.
 *
 * All of them throw {@link OrchestratorError} and nothing else, also when `signal` aborts (`details.reason` is
 * `aborted`, `ambiguous` says whether a change was under way).
 */
export interface Orchestrator {
  readonly kind: ClusterKind;
  /** Creates the workload or, where the same agent's is there already, brings it to `spec`. Does not wait for readiness. */
  deploy(spec: WorkloadSpec, signal: AbortSignal): Promise<WorkloadRef>;
  /**
   * Brings the workload to `spec`; a stopped one stays stopped until `start`. Where `inspect` tells of a candidate
   * afterwards, as it does for `blue-green` and on a standalone Docker engine for `rolling` too, nothing of what runs
   * was touched: it takes over with `promote` once it is settled, and an update to what runs already takes it away.
   * `deploy` does the same to a workload that runs.
   */
  update(ref: WorkloadRef, spec: WorkloadSpec, signal: AbortSignal): Promise<void>;
  /**
   * Makes the candidate of `spec.revision` the one that is reached, and removes the other. Nothing happens when there is
   * no candidate of this revision: it has been promoted before, or taken away.
   */
  promote(ref: WorkloadRef, spec: WorkloadSpec, signal: AbortSignal): Promise<void>;
  /** Takes a candidate away, whatever its revision; what is reached is not touched. Nothing happens without one. */
  abandon(ref: WorkloadRef, signal: AbortSignal): Promise<void>;
  /** Changes `spec.replicas` and `spec.scaling` only; running replicas are not restarted. */
  scale(ref: WorkloadRef, spec: WorkloadSpec, signal: AbortSignal): Promise<void>;
  /**
   * Replaces or restarts the replicas, at most `spec.maxUnavailable` at once (`recreate`: all at once). Swarm and
   * Kubernetes roll on by themselves: poll `inspect`. Compose has to be led through it: the promise settles when the
   * last one is restarted; after an interruption a repeat with the same `request` goes on where it stopped.
   */
  restart(
    ref: WorkloadRef,
    spec: WorkloadSpec,
    signal: AbortSignal,
    request?: RestartRequest,
  ): Promise<void>;
  /** Starts a stopped workload as `spec` describes it. */
  start(ref: WorkloadRef, spec: WorkloadSpec, signal: AbortSignal): Promise<void>;
  stop(ref: WorkloadRef, signal: AbortSignal): Promise<void>;
  /** Removes everything of the workload; no error when nothing is left. */
  remove(ref: WorkloadRef, signal: AbortSignal): Promise<void>;
  /** The real state, or null when there is no such workload of this agent. */
  inspect(ref: WorkloadRef, signal: AbortSignal): Promise<WorkloadState | null>;
  logs(
    ref: WorkloadRef,
    containerId: string,
    options: LogOptions,
    signal: AbortSignal,
  ): Promise<LogPage>;
  /** One sample per running container; null when the cluster has no metrics (Kubernetes without metrics-server). */
  metrics(ref: WorkloadRef, signal: AbortSignal): Promise<ContainerMetrics[] | null>;
  /** For a security scan: how the containers are set up and what is known of their images; null without a workload. */
  examine?(
    ref: WorkloadRef,
    request: ExaminationRequest,
    signal: AbortSignal,
  ): Promise<Examination | null>;
  /** Never throws for an unreachable cluster: that is what it reports. */
  health(signal: AbortSignal): Promise<ClusterHealth>;
}

/** What a test passes in instead of the network and the time. */
export interface OrchestratorDependencies {
  fetch?: typeof fetch;
  now?: () => number;
  sleep?: (milliseconds: number, signal: AbortSignal) => Promise<void>;
}
