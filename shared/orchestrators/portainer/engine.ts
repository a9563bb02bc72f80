import type {
  ContainerMetrics,
  OrchestratorKind,
  RestartRequest,
  WorkloadRef,
  WorkloadSpec,
  WorkloadState,
} from "../types.ts";
import type { Endpoint, PortainerApi, Stack, StackContent } from "./api.ts";

/** What carries a stack's label although no stack of this name is recorded, or beside it. */
export interface Remains {
  own: number;
  foreign: number;
  /** Unix milliseconds of the engine's clock, when the newest of them was made. */
  newest: number;
}

/** Names one attempt to create a stack. */
export interface Claim {
  id: string;
  agentId: string;
  /** Unix milliseconds. */
  at: number;
}

/** Whose mark stands on the engine already. */
export interface Holder {
  /** Empty when the mark does not tell. */
  id: string;
  /** Unix milliseconds; 0 when the mark does not tell. */
  since: number;
}

/** Where a container runs and what it is called, once its owner is certain. */
export interface LocatedContainer {
  id: string;
  name: string;
  node: string | null;
  tty: boolean;
}

export interface EngineContext {
  api: PortainerApi;
  endpoint: Endpoint;
  /** Base of `http://host:port`. */
  publicHost: string;
  consoleUrl(stack: Stack): string;
  now(): number;
  sleep(milliseconds: number, signal: AbortSignal): Promise<void>;
}

/** Whose stack it is. */
export type OwnedStack = Pick<WorkloadSpec, "name" | "agentId">;

/** What differs between a standalone engine and a Swarm. */
export interface DockerEngine {
  readonly orchestrator: OrchestratorKind;
  /** Null for a standalone engine. */
  readonly swarmId: string | null;
  /** Only a Swarm replaces replicas one after the other by itself. */
  readonly rolls: boolean;
  /** `service` names the one service that an agent is. */
  render(spec: WorkloadSpec, service?: string): StackContent;
  remains(name: string, agentId: string, signal: AbortSignal): Promise<Remains>;
  /** Removes what carries the agent's label under this stack name. */
  clean(name: string, agentId: string, signal: AbortSignal): Promise<void>;
  /** Removes the volumes of a stack that is gone, its own only. */
  removeVolumes(name: string, owner: string, signal: AbortSignal): Promise<void>;
  /**
   * Nothing that the stack file asks for is missing and nothing else is there, so that sending it again would change
   * nothing. `replicas` are those of each service.
   */
  intact(
    spec: WorkloadSpec,
    replicas: Record<string, number>,
    signal: AbortSignal,
  ): Promise<boolean>;
  /** Ends what belongs to none of these services. */
  prune(of: OwnedStack, services: string[], signal: AbortSignal): Promise<void>;
  /** Ends every replica and settles when none runs. What is sent next brings them back. */
  drain(spec: WorkloadSpec, signal: AbortSignal): Promise<void>;
  /**
   * Marks on the engine that this stack is about to be created, so that another process sees it before anything else
   * is to be seen. Null when the mark was set, else whose stands. An engine that does not let us counts as marked.
   */
  claim(name: string, claim: Claim, signal: AbortSignal): Promise<Holder | null>;
  /** Takes the mark of this id away, or, for null, whoever set it. */
  unclaim(name: string, id: string | null, signal: AbortSignal): Promise<void>;
  /** Makes ready what the stack needs: the images on a standalone engine, a free network name on a Swarm. */
  prepare(spec: WorkloadSpec, signal: AbortSignal): Promise<void>;
  /** Not of the candidate. */
  restart(
    spec: WorkloadSpec,
    stack: Stack | null,
    request: RestartRequest | undefined,
    signal: AbortSignal,
  ): Promise<void>;
  /** `stack` is null while a create is under way or its record was lost. */
  inspect(
    ref: WorkloadRef,
    stack: Stack | null,
    signal: AbortSignal,
  ): Promise<WorkloadState | null>;
  /** Null when there is no such container of this agent. */
  locate(
    ref: WorkloadRef,
    containerId: string,
    signal: AbortSignal,
  ): Promise<LocatedContainer | null>;
  metrics(ref: WorkloadRef, signal: AbortSignal): Promise<ContainerMetrics[]>;
}
