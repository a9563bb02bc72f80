import type {
  AgentRow,
  ContainerRow,
  DeploymentRow,
  MetricsRow,
  ReportedFacts,
} from "../../../shared/contract/facts.ts";
import { rounded } from "../../../shared/contract/measurements.ts";
import { secondsBetween } from "../../../shared/contract/times.ts";

const SIZES = ["B", "KB", "MB", "GB", "TB", "PB"];

/** Bytes as people read them, `150MB`, `2.5GB`; null stays null. */
export function sizeText(bytes: number | null): string | null {
  if (bytes === null) return null;
  // Rounded first: 1023.99 KB are 1MB, not 1024KB.
  let size = 0;
  while (size < SIZES.length - 1 && rounded(bytes / 1024 ** size, 1) >= 1024) size++;
  return `${rounded(bytes / 1024 ** size, size === 0 ? 0 : 1)}${SIZES[size]}`;
}

export function isRunning(container: ContainerRow): boolean {
  return container.status === "running";
}

/** Seconds since the longest-running container started; null when none runs. */
export function uptimeSeconds(deployment: DeploymentRow | null, now: Date): number | null {
  const ages = (deployment?.containers ?? []).filter(isRunning)
    .map((container) => secondsBetween(container.started_at, now))
    .filter((seconds) => seconds !== null);
  return ages.length === 0 ? null : Math.max(...ages);
}

/**
 * How long the agent takes to answer, such as `45ms`: as it says itself, else as its health check was
 * answered; null when neither is known.
 */
export function responseTime(
  deployment: DeploymentRow | null,
  metrics: MetricsRow | null,
  reported: ReportedFacts | null,
): string | null {
  if (typeof reported?.response_time_ms === "number") {
    return `${Math.round(reported.response_time_ms)}ms`;
  }
  const checks = deployment?.health.checks ?? [];
  const probe = checks.find((check) => check.name === "http_health") ?? checks[0];
  if (probe?.response_time) return probe.response_time;
  const milliseconds = metrics?.response_time_ms ?? null;
  return milliseconds === null ? null : `${Math.round(milliseconds)}ms`;
}

/** While these last, that no replica is ready yet is no fault. */
const COMING_UP = new Set(["queued", "deploying"]);

/** `HEALTHY` when all wanted replicas are ready; null where none are wanted. */
export function replicaHealth(deployment: DeploymentRow | null): string | null {
  if (deployment === null || deployment.state === "stopped") return null;
  const { replicas_desired: desired, replicas_ready: ready } = deployment;
  if (desired === 0) return null;
  if (ready >= desired) return "HEALTHY";
  if (COMING_UP.has(deployment.state)) return "STARTING";
  return ready > 0 ? "DEGRADED" : "UNHEALTHY";
}

/** The state to show: where the agent runs, or what it says of itself when it runs nowhere. */
export function stateOf(
  agent: Pick<AgentRow, "status">,
  deployment: Pick<DeploymentRow, "state"> | null,
): string {
  return deployment?.state ?? agent.status;
}
