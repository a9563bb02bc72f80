import type {
  CandidateState,
  ContainerState,
  OrchestratorKind,
  ServicePort,
  ServiceState,
  WorkloadFailure,
  WorkloadRef,
  WorkloadState,
} from "../types.ts";
import { type Stack, STACK_DEPLOYING, STACK_INACTIVE } from "./api.ts";
import type { EngineContext } from "./engine.ts";
import { describeNetworks } from "./networks.ts";
import { describeVolumes } from "./volumes.ts";

/** The replicas that are reached, or those of the candidate. */
export interface ReplicaSet {
  revision: number | null;
  desired: number;
  containers: ContainerState[];
  /** The engine is still at work on it. */
  changing: boolean;
  failure: WorkloadFailure | null;
  /** That waiting will not mend it. */
  hopeless: boolean;
}

export function isReady(container: ContainerState): boolean {
  return container.status === "running" &&
    (container.health === null || container.health === "healthy");
}

/** Marks the containers of a candidate. */
export function asCandidate(containers: ContainerState[]): ContainerState[] {
  return containers.map((container) => ({ ...container, candidate: true }));
}

/** What an engine found, as a workload's state. */
export async function workloadState(
  context: EngineContext,
  orchestrator: OrchestratorKind,
  ref: WorkloadRef,
  stack: Stack | null,
  found: {
    reached: ReplicaSet;
    candidate: ReplicaSet | null;
    services: ServiceState[];
    ports: ServicePort[];
    /** Of a stopped stack: nothing of it is left that runs. */
    ended: boolean;
    /** Carried by the stack's networks and volumes. */
    label: string;
  },
  signal: AbortSignal,
): Promise<WorkloadState> {
  const { reached, candidate, services, ports, label } = found;
  const inactive = stack?.Status === STACK_INACTIVE;
  const unfinished = stack === null || stack.Status === STACK_DEPLOYING;
  const done = !unfinished && isComplete(reached);
  return {
    ref: {
      ...ref,
      stackId: stack ? String(stack.Id) : null,
      orchestrator,
      endpointId: context.api.endpointId,
    },
    status: inactive ? "inactive" : reached.hopeless ? "failed" : done ? "active" : "deploying",
    revision: reached.revision,
    desired: reached.desired,
    ready: reached.containers.filter(isReady).length,
    settled: inactive ? found.ended : done && reached.failure === null && candidate === null,
    candidate: candidate && candidateState(candidate, unfinished),
    containers: [...reached.containers, ...asCandidate(candidate?.containers ?? [])],
    services,
    ...(ref.composed
      ? {
        networks: await describeNetworks(context, label, signal),
        volumes: await describeVolumes(context, label, ref.agentId, signal),
      }
      : {}),
    url: ports[0] ? `http://${context.publicHost}:${ports[0].published}` : null,
    consoleUrl: stack && context.consoleUrl(stack),
    failure: reached.failure,
  };
}

function candidateState(set: ReplicaSet, unfinished: boolean): CandidateState {
  return {
    revision: set.revision,
    desired: set.desired,
    ready: set.containers.filter(isReady).length,
    settled: !unfinished && isComplete(set) && set.failure === null,
    failed: set.hopeless,
    failure: set.failure,
  };
}

/** As many as there shall be, all ready. */
function isComplete({ changing, containers, desired }: ReplicaSet): boolean {
  return !changing && containers.length === desired && containers.every(isReady);
}
