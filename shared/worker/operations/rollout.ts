import type { CandidateState, ContainerState, WorkloadState } from "../../orchestrators/types.ts";
import { OperationFailure } from "../failure.ts";
import { bringUpToDate } from "./bring-up-to-date.ts";
import { done, type StepResult, waiting, type Work } from "./step.ts";
import { mayStillBeWorking } from "./unsettled-call.ts";

/** Whether the workload, or its candidate where there is one, has been given what the agent is now. */
export function isUpToDate({ revision, candidate }: WorkloadState, { spec }: Work): boolean {
  return (candidate === null ? revision : candidate.revision) === spec.revision;
}

/**
 * Whether the rollout has come to its end: as many replicas ready as wanted, all of this revision, and reached. Replicas
 * that came up beside those that were there take over as soon as all of them are ready.
 *
 * @throws {OperationFailure} DEPLOYMENT_FAILED or RESOURCE_EXHAUSTED when the orchestrator gave up, CONTAINER_UNHEALTHY when a
 *   container stays unhealthy longer than its start needs
 */
export async function rollout(work: Work, state: WorkloadState): Promise<StepResult> {
  if (state.candidate !== null) return await takeOver(work, state, state.candidate);
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
  stopAtSickness(work, state);
  return waiting(`${state.ready} of ${work.spec.replicas} replicas ready`);
}

async function takeOver(
  work: Work,
  state: WorkloadState,
  candidate: CandidateState,
): Promise<StepResult> {
  if (!isUpToDate(state, work)) {
    // Left by an operation that was given up.
    if (!mayStillBeWorking(work, "update")) await bringUpToDate(work);
    return waiting("the replicas of another revision to go");
  }
  if (candidate.failed && candidate.failure !== null) {
    const { code, message, details } = candidate.failure;
    throw new OperationFailure(code, message, { ...details, stack_id: state.ref.stackId });
  }
  if (!candidate.settled) {
    stopAtSickness(work, state);
    return waiting(`${candidate.ready} of ${candidate.desired} new replicas ready`);
  }
  if (mayStillBeWorking(work, "promote")) return waiting("the new replicas to take over");
  await work.act("promote", () => work.upstream.promote(work.ref, work.spec, work.signal));
  const after = await work.look();
  return after === null || after.candidate !== null
    ? waiting("the new replicas to take over")
    : await rollout(work, after);
}

/** @throws {OperationFailure} CONTAINER_UNHEALTHY */
function stopAtSickness(work: Work, state: WorkloadState): void {
  const sick = ofThisRevision(state).find((container) => {
    if (container.health !== "unhealthy" || container.startedAt === null) return false;
    return work.clock.now() - Date.parse(container.startedAt) >
      work.settings.unhealthySeconds * 1000;
  });
  if (sick !== undefined) throw unhealthy(work, state);
}

/** The containers that the operation is about: where there is a candidate, its own, and none that is being replaced. */
function ofThisRevision({ containers, candidate }: WorkloadState): ContainerState[] {
  return containers.filter((container) =>
    (container.candidate === true) === (candidate !== null) && container.replaced !== true
  );
}

/** The failure of a rollout that had all its time. */
export function overdue(work: Work, state: WorkloadState | null): OperationFailure {
  const troubled = state !== null &&
    ofThisRevision(state).some((container) =>
      container.health === "unhealthy" || container.restartCount > 0 ||
      container.status === "restarting"
    );
  if (troubled) return unhealthy(work, state);
  return new OperationFailure("DEPLOYMENT_FAILED", "The containers did not become ready in time", {
    component: componentOf(work),
    stack_id: work.ref.stackId,
    reason: "deadline exceeded",
    replicas_ready: (state?.candidate ?? state)?.ready ?? 0,
    replicas_desired: work.spec.replicas,
  });
}

function unhealthy(work: Work, state: WorkloadState): OperationFailure {
  return new OperationFailure("CONTAINER_UNHEALTHY", "Container health check failed", {
    component: componentOf(work),
    stack_id: state.ref.stackId,
    replicas_ready: (state.candidate ?? state).ready,
    replicas_desired: work.spec.replicas,
    containers: ofThisRevision(state)
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
