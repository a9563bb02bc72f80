import type { WorkloadState } from "../../orchestrators/types.ts";
import { OperationFailure } from "../failure.ts";
import { done, type StepResult, waiting, type Work } from "./step.ts";

/**
 * Whether the rollout has come to its end: as many replicas ready as wanted, all of this revision.
 *
 * @throws {OperationFailure} DEPLOYMENT_FAILED or RESOURCE_EXHAUSTED when the orchestrator gave up, CONTAINER_UNHEALTHY when a
 *   container stays unhealthy longer than its start needs
 */
export function rollout(work: Work, state: WorkloadState): StepResult {
  // A Swarm that took the change back runs again, but not this revision, and will not by waiting.
  const takenBack = state.failure?.details.reason === "rolled_back";
  if (state.failure !== null && (state.status === "failed" || takenBack)) {
    throw new OperationFailure(state.failure.code, state.failure.message, {
      ...state.failure.details,
      stack_id: state.ref.stackId,
    });
  }
  // Where Kubernetes scales by itself, how many are wanted is its own decision within the bounds.
  if (state.settled && (work.spec.scaling !== null || state.ready >= work.spec.replicas)) {
    return done;
  }
  const sick = state.containers.find((container) => {
    if (container.health !== "unhealthy" || container.startedAt === null) return false;
    return work.clock.now() - Date.parse(container.startedAt) >
      work.settings.unhealthySeconds * 1000;
  });
  if (sick !== undefined) throw unhealthy(work, state);
  return waiting(`${state.ready} of ${work.spec.replicas} replicas ready`);
}

/** The failure of a rollout that had all its time. */
export function overdue(work: Work, state: WorkloadState | null): OperationFailure {
  const troubled = state?.containers.some((container) =>
    container.health === "unhealthy" || container.restartCount > 0 ||
    container.status === "restarting"
  );
  if (state !== null && troubled) return unhealthy(work, state);
  return new OperationFailure("DEPLOYMENT_FAILED", "The containers did not become ready in time", {
    component: componentOf(work),
    stack_id: work.ref.stackId,
    reason: "deadline exceeded",
    replicas_ready: state?.ready ?? 0,
    replicas_desired: work.spec.replicas,
  });
}

function unhealthy(work: Work, state: WorkloadState): OperationFailure {
  return new OperationFailure("CONTAINER_UNHEALTHY", "Container health check failed", {
    component: componentOf(work),
    stack_id: state.ref.stackId,
    replicas_ready: state.ready,
    replicas_desired: work.spec.replicas,
    containers: state.containers
      .filter((container) => container.health !== "healthy")
      .map((container) => ({
        id: container.id,
        name: container.name,
        status: container.status,
        health: container.health,
        restart_count: container.restartCount,
        exit_code: container.exitCode,
      })),
  });
}

/** Which part of the platform an error is about, as seed 000 names it. */
export function componentOf(work: Pick<Work, "plan">): string {
  return work.plan.cluster?.kind === "kubernetes" ? "kubernetes" : "portainer";
}
