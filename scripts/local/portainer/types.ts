/** A container's health check in Docker's own terms; times in nanoseconds, 0 for Docker's default. */
export interface Healthcheck {
  Test: string[];
  Interval: number;
  Timeout: number;
  StartPeriod: number;
  StartInterval: number;
  Retries: number;
}

export interface HealthResult {
  Start: string;
  End: string;
  ExitCode: number;
  Output: string;
}

export interface Health {
  Status: "starting" | "healthy" | "unhealthy";
  FailingStreak: number;
  Log: HealthResult[];
}

/** A port of a container and where it shows on the host; `published` 0 asks for any free one. */
export interface PortMapping {
  target: number;
  published: number | null;
  protocol: "tcp" | "udp";
  /** Swarm only: `host` publishes for each task and not for the service. */
  mode?: "ingress" | "host";
}

export interface RestartPolicy {
  Name: "no" | "always" | "on-failure" | "unless-stopped";
  MaximumRetryCount: number;
}

export interface Mount {
  type: "volume" | "bind" | "tmpfs";
  source: string;
  target: string;
  readOnly: boolean;
}

/** What a container is made of; it never changes while the container lives. */
export interface ContainerConfig {
  id: string;
  name: string;
  /** Milliseconds since the epoch. */
  created: number;
  image: string;
  imageId: string;
  /** Arguments after the image's entrypoint. */
  command: string[];
  entrypoint: string[] | null;
  /** `NAME=value` entries; they may hold secrets and are never logged. */
  env: string[];
  labels: Record<string, string>;
  ports: PortMapping[];
  restart: RestartPolicy;
  /** Limit in bytes; 0 for none. */
  memory: number;
  /** Limit in billionths of a core; 0 for none. */
  nanoCpus: number;
  healthcheck: Healthcheck | null;
  networks: string[];
  mounts: Mount[];
  stopGraceMs: number;
  stopSignal: string;
  hostname: string;
}

export type ContainerStatus = "created" | "running" | "paused" | "restarting" | "exited" | "dead";

export interface ContainerState {
  status: ContainerStatus;
  pid: number;
  /** The operating system's start time of `pid`, by which a later life tells a reused pid. */
  pidStart: string | null;
  exitCode: number;
  oomKilled: boolean;
  error: string;
  startedAt: string;
  finishedAt: string;
  restartCount: number;
  /** A user stopped or killed it: the restart policy no longer applies. */
  manuallyStopped: boolean;
  health: Health | null;
  /** Host ports that the mappings got, in their order. */
  publishedPorts: (number | null)[];
}

export interface ContainerRecord {
  config: ContainerConfig;
  state: ContainerState;
}
