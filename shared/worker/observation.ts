import { z } from "zod";
import type { ContainerState, WorkloadState } from "../orchestrators/types.ts";
import type { Redactor } from "./redaction.ts";

/** What `private.observe_deployment` and `private.observe_stack` take. */
export interface Observation {
  replicas_ready: number;
  containers: ObservedContainer[];
  services: WorkloadState["services"];
  health: ObservedHealth;
  url: string | null;
  /** Of an agent that its orchestrator scales by itself. */
  autoscaler?: ObservedAutoscaler;
  /** Of a stack. */
  networks?: WorkloadState["networks"];
  volumes?: WorkloadState["volumes"];
}

/** What `private.observe_autoscaler` takes. */
export interface ObservedAutoscaler {
  /** What the workload is set to, and what the autoscaler wants. */
  desired: number;
  replicas: number | null;
  metrics: { metric: "cpu" | "memory"; value_percent: number | null; target_percent: number }[];
  limited_by: string | null;
}

/** One element of `deployments.containers`. */
export interface ObservedContainer {
  id: string;
  name: string;
  status: ContainerState["status"];
  health: ContainerState["health"];
  image: string;
  started_at: string | null;
  finished_at: string | null;
  restart_count: number;
  exit_code: number | null;
  oom_killed: boolean;
}

/** `deployments.health` (seed 000). */
export interface ObservedHealth {
  status: "healthy" | "unhealthy" | "starting" | "unknown";
  last_check: string | null;
  checks: { name: string; status: "passing" | "failing"; response_time: string | null }[];
}

/** More checks than this in an agent's own report are cut off: the report is the agent's, not ours. */
const MOST_CHECKS = 20;

const reportedCheck = z.object({
  name: z.string().min(1).max(100),
  status: z.enum(["passing", "failing"]),
  response_time_ms: z.number().nonnegative().nullish(),
});

/**
 * A look at a workload in the columns of `deployments` or `stacks`, without the secrets an agent may have reported.
 *
 * @param urlTemplate where agents are reached, with `{agent}` and `{name}`; null: the address the driver found
 */
export function observationOf(
  state: WorkloadState,
  redactor: Redactor,
  urlTemplate: string | null,
): Observation {
  return redactor.data({
    replicas_ready: state.ready,
    containers: state.containers.map(observedContainer),
    services: state.services,
    health: healthOf(state),
    url: urlTemplate === null ? state.url : urlTemplate
      .replaceAll("{agent}", state.ref.agentId).replaceAll("{name}", state.ref.name),
    ...(state.autoscaler === undefined ? {} : { autoscaler: observedAutoscaler(state) }),
    ...(state.networks === undefined ? {} : { networks: state.networks }),
    ...(state.volumes === undefined ? {} : { volumes: state.volumes }),
  });
}

/** Nothing is there. */
export const NOTHING_OBSERVED: Observation = {
  replicas_ready: 0,
  containers: [],
  services: [],
  health: { status: "unknown", last_check: null, checks: [] },
  url: null,
};

function observedAutoscaler({ autoscaler, desired }: WorkloadState): ObservedAutoscaler {
  const { replicas, metrics, limitedBy } = autoscaler!;
  return {
    desired,
    replicas,
    metrics: metrics.map(({ metric, valuePercent, targetPercent }) => ({
      metric,
      value_percent: valuePercent,
      target_percent: targetPercent,
    })),
    limited_by: limitedBy,
  };
}

function observedContainer(container: ContainerState): ObservedContainer {
  return {
    id: container.id,
    name: container.name,
    status: container.status,
    health: container.health,
    image: container.image,
    started_at: container.startedAt,
    finished_at: container.finishedAt,
    restart_count: container.restartCount,
    exit_code: container.exitCode,
    oom_killed: container.oomKilled,
  };
}

function healthOf(state: WorkloadState): ObservedHealth {
  // A candidate that is not well yet takes nothing from those that are reached.
  const probed = state.containers.filter((container) =>
    container.health !== null && container.candidate === undefined
  );
  const lastCheck = probed.map((container) => container.healthCheckedAt)
    .filter((time) => time !== null).sort().at(-1) ?? null;
  return { status: statusOf(probed, state), last_check: lastCheck, checks: checksOf(probed) };
}

function statusOf(probed: ContainerState[], state: WorkloadState): ObservedHealth["status"] {
  if (probed.length === 0) return statusOfUnprobed(state);
  if (probed.some((container) => container.health === "unhealthy")) return "unhealthy";
  if (probed.some((container) => container.health === "starting")) return "starting";
  return state.ready < state.desired ? "starting" : "healthy";
}

/** What runs without a health check may be well or not; what should run and does not is not well. */
function statusOfUnprobed(state: WorkloadState): ObservedHealth["status"] {
  const own = state.containers.filter((container) => container.candidate === undefined);
  const wanted = state.status !== "inactive" && state.desired > 0;
  if (!wanted || own.some((container) => container.status === "running")) return "unknown";
  const fell = state.failure !== null || own.some((container) => container.restartCount > 0);
  return fell ? "unhealthy" : "starting";
}

/**
 * The probe itself and what the agent reported of its parts, over all replicas: failing where one fails, and
 * the slowest response time.
 */
function checksOf(probed: ContainerState[]): ObservedHealth["checks"] {
  const checks = new Map<string, { failing: boolean; slowest: number | null }>();
  const add = (name: string, failing: boolean, milliseconds: number | null) => {
    const known = checks.get(name) ?? { failing: false, slowest: null };
    checks.set(name, {
      failing: known.failing || failing,
      slowest: milliseconds === null ? known.slowest : Math.max(known.slowest ?? 0, milliseconds),
    });
  };
  for (const container of probed) {
    if (container.health === "starting" && container.healthCheckedAt === null) continue;
    add("http_health", container.health === "unhealthy", container.healthDurationMs);
    for (const check of reportedChecks(container.healthOutput)) {
      if (check.name === "http_health") continue;
      add(check.name, check.status === "failing", check.response_time_ms ?? null);
    }
  }
  return [...checks].slice(0, MOST_CHECKS).map(([name, { failing, slowest }]) => ({
    name,
    status: failing ? "failing" : "passing",
    response_time: slowest === null ? null : `${Math.round(slowest)}ms`,
  }));
}

function reportedChecks(report: Record<string, unknown> | null): z.infer<typeof reportedCheck>[] {
  if (report === null || !Array.isArray(report.checks)) return [];
  return report.checks.slice(0, MOST_CHECKS).flatMap((check) => {
    const parsed = reportedCheck.safeParse(check);
    return parsed.success ? [parsed.data] : [];
  });
}
