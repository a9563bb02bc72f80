import type {
  Orchestrator,
  WorkloadRef,
  WorkloadSpec,
  WorkloadState,
} from "../../orchestrators/types.ts";
import type { Clock } from "../clock.ts";
import type { Json, OperationPlan, StepRecord } from "../plan.ts";
import type { WorkerSettings } from "../settings.ts";

/** What a step came to. */
export type StepResult =
  /** The state it wants is there. */
  | { is: "done" }
  /** Upstream is still at it: look again later. Not a failed attempt. */
  | { is: "waiting"; for: string };

export const done: StepResult = { is: "done" };
export const waiting = (what: string): StepResult => ({ is: "waiting", for: what });

/** What a step works with. Every upstream call goes through the breaker and ends with the lease. */
export interface Work {
  readonly plan: OperationPlan;
  readonly spec: WorkloadSpec;
  /** Where the workload stands; `deploy` fills it in. */
  readonly ref: WorkloadRef;
  readonly upstream: Orchestrator;
  readonly signal: AbortSignal;
  readonly clock: Clock;
  readonly settings: WorkerSettings;
  /** This step as recorded by earlier passes and earlier workers. */
  readonly step: StepRecord;
  /** Facts for this step's record. */
  note(facts: { [key: string]: Json | undefined }): void;
  /** What `look` found in this pass, or a new look when it has not been asked. */
  lately(): Promise<WorkloadState | null>;
  /** The real state, asked now; also what the deployment's row will show. Null: there is no such workload. */
  look(): Promise<WorkloadState | null>;
  /**
   * Makes a call with lasting effects. That it is about to be made is written down first: if the worker dies in it, the
   * next one knows that it may have worked or may still be working.
   */
  act<T>(call: string, make: () => Promise<T>): Promise<T>;
  /** Where `deploy` put the workload. */
  placed(ref: WorkloadRef): void;
  /** When an earlier operation on this agent began a call that it did not see the end of; null when none did. */
  cutOffCall(): Promise<Date | null>;
}

/** One named part of an operation: looks at the real state first and only then acts. */
export interface Step {
  readonly name: string;
  /** Makes no upstream call, so its record can travel with the next one. */
  readonly local?: boolean;
  /**
   * Brings the agent's present generation to the cluster. When the agent changes while the operation is under way,
   * the step is done again for what it is by then.
   */
  readonly applies?: boolean;
  run(work: Work): Promise<StepResult>;
}

/** An operation kind as a list of steps. */
export interface Procedure {
  readonly steps: readonly Step[];
  /** What `operations.result` says at the end, beside the revision that was rolled out. */
  result(work: Work): { [key: string]: Json | undefined };
}
