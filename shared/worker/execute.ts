import type {
  ClusterConnection,
  Orchestrator,
  WorkloadRef,
  WorkloadSpec,
  WorkloadState,
} from "../orchestrators/types.ts";
import { OrchestratorError } from "../orchestrators/errors.ts";
import type { Clock } from "./clock.ts";
import {
  BreakerOpen,
  LeaseLost,
  OperationCancelled,
  OperationFailure,
  toFailure,
  WorkerStopping,
} from "./failure.ts";
import type { Lease } from "./leases.ts";
import { type Log, withFields } from "./log.ts";
import { NOTHING_OBSERVED, observationOf } from "./observation.ts";
import { procedures } from "./operations/procedures.ts";
import { componentOf, overdue } from "./operations/rollout.ts";
import type { Step, Work } from "./operations/step.ts";
import type { Json, OperationKind, OperationPlan, Placement, StepRecord } from "./plan.ts";
import type { BreakerAnswer, Cluster, Effect, Queue } from "./queue.ts";
import { createRedactor } from "./redaction.ts";
import type { WorkerSettings } from "./settings.ts";
import { watched } from "./upstream.ts";
import { workloadRef, workloadSpec } from "./workload.ts";

export interface ExecutionTools {
  queue: Queue;
  orchestratorFor: (cluster: ClusterConnection) => Orchestrator;
  clock: Clock;
  log: Log;
  settings: WorkerSettings;
}

/** How a pass over an operation ended. */
export type PassResult = "succeeded" | "waiting" | "failed" | "cancelled" | "lost";

/**
 * Takes a claimed operation as far as it goes now: to its end, to a wait for upstream, or to a failure. What it did is
 * written as it happens, so that the next pass, of this worker or another, goes on from the real state.
 */
export async function executeOperation(lease: Lease, tools: ExecutionTools): Promise<PassResult> {
  const { operation } = lease;
  const log = withFields(tools.log, {
    operation_id: operation.id,
    ...(operation.stack_id === null
      ? { agent_id: operation.agent_id }
      : { stack_id: operation.stack_id }),
    kind: operation.kind,
    attempt: operation.attempts,
    request_id: operation.request_id,
  });
  if (operation.losses >= tools.settings.maxLosses) {
    const message = "The worker ended each time that it took the operation up";
    const failure = new OperationFailure("INTERNAL_ERROR", message, { losses: operation.losses });
    return await giveUp(lease, failure, "worker", { ...tools, log });
  }
  let fetched: Awaited<ReturnType<Queue["plan"]>>;
  try {
    fetched = await tools.queue.plan(operation);
  } catch (error) {
    // Without the plan there is nothing to write either; the lease ends and the operation is claimed again.
    log("error", "the operation's plan could not be read", { reason: reasonOf(error) });
    return "lost";
  }
  const { plan, breaker } = fetched;
  if (plan.cluster === null) return await withoutCluster(lease, { ...tools, log });
  let orchestrator: Orchestrator;
  try {
    orchestrator = tools.orchestratorFor(plan.cluster);
  } catch (error) {
    return await giveUp(lease, error, plan.cluster.kind, { ...tools, log });
  }
  return await pass(lease, { ...plan, cluster: plan.cluster }, { breaker, orchestrator }, {
    ...tools,
    log,
  });
}

/** Fails an operation before anything could be asked of its cluster. */
async function giveUp(
  { operation }: Lease,
  error: unknown,
  component: string,
  { queue, log }: ExecutionTools,
): Promise<PassResult> {
  try {
    await queue.write(operation, null, [{ is: "fail", failure: toFailure(error, component) }]);
    return "failed";
  } catch (second) {
    log("error", "the end of a pass could not be written", { reason: reasonOf(second) });
    return "lost";
  }
}

/** Nobody knows any more where the stack was: there is nothing left to remove, and nowhere to run anything. */
async function withoutCluster(lease: Lease, tools: ExecutionTools): Promise<PassResult> {
  const { operation } = lease;
  if (!isRemoval(operation.kind)) {
    const message = "The cluster is not connected any more";
    return await giveUp(lease, new OperationFailure("DEPLOYMENT_FAILED", message), "worker", tools);
  }
  try {
    await tools.queue.write(operation, null, [{
      is: "complete",
      result: { removed: false },
      placement: null,
      observation: null,
    }]);
    return "succeeded";
  } catch (error) {
    tools.log("error", "the end of a pass could not be written", { reason: reasonOf(error) });
    return "lost";
  }
}

type PlacedPlan = OperationPlan & { cluster: Cluster };

async function pass(
  lease: Lease,
  plan: PlacedPlan,
  { breaker, orchestrator }: { breaker: BreakerAnswer; orchestrator: Orchestrator },
  tools: ExecutionTools,
): Promise<PassResult> {
  const { operation } = lease;
  const { queue, clock, settings, log } = tools;
  const redactor = createRedactor([...Object.values(plan.environment), plan.cluster.credential]);
  const { upstream, verdict } = watched(orchestrator);
  const records = new Map(operation.steps.map((step) => [step.name, { ...step }]));
  const deadline = Date.parse(operation.started_at ?? operation.created_at) +
    settings.deadlineSeconds * 1000;

  /** What is not written yet; of a step only the last word. */
  const unwritten = new Map<string, StepRecord>();
  let unplaced: Placement | null = null;
  let seen: WorkloadState | null | undefined;
  let unobserved = false;
  let placed = JSON.stringify(placementOf(plan));

  /** What was found out since the last writing, now taken to be written. */
  const news = () => {
    const nothingNew = seen === null && (plan.deployment.containers ?? []).length === 0;
    const observation = !unobserved || seen === undefined || nothingNew
      ? null
      : seen === null
      ? NOTHING_OBSERVED
      : observationOf(seen, redactor, plan.cluster.agentUrlTemplate);
    const taken = { steps: [...unwritten.values()], placement: unplaced, observation };
    const heard: Effect[] = verdict.ok === null
      ? []
      : [{ is: "breaker", ok: verdict.ok, error: verdict.error }];
    unwritten.clear();
    unplaced = null;
    unobserved = false;
    verdict.ok = null;
    return { ...taken, heard };
  };
  const flush = async (...last: Effect[]) => {
    lease.assertHeld();
    const { steps, placement, observation, heard } = news();
    const all: Effect[] = [];
    if (steps.length > 0) all.push({ is: "steps", steps });
    if (placement !== null) all.push({ is: "placement", placement });
    if (observation !== null) all.push({ is: "observation", observation });
    await queue.write(operation, plan.cluster.id, [...all, ...last, ...heard]);
  };
  /** The end of the operation is the end of all its steps. */
  const complete = async (result: { [key: string]: Json | undefined }) => {
    lease.assertHeld();
    const { placement, observation, heard } = news();
    await queue.write(operation, plan.cluster.id, [
      { is: "complete", result, placement, observation },
      ...heard,
    ]);
  };
  const record = ({ name, status, detail }: StepRecord) => {
    unwritten.set(name, { name, status, detail: detail && { ...detail } });
  };

  let spec: WorkloadSpec | null = null;
  let ref: WorkloadRef = workloadRef(plan);
  const place = (where: WorkloadRef, consoleUrl: string | null) => {
    if (isRemoval(operation.kind)) return;
    const placement = {
      stack_id: where.stackId,
      stack_name: where.name,
      namespace: where.namespace,
      endpoint_id: where.endpointId ?? null,
      orchestrator: where.orchestrator ?? null,
      url: null,
      console_url: consoleUrl,
    };
    const text = JSON.stringify(placement);
    if (text === placed) return;
    placed = text;
    unplaced = placement;
  };
  const look = async () => {
    seen = await upstream.inspect(ref, lease.signal);
    unobserved = true;
    if (seen !== null) {
      // Also what an earlier pass created without living to write it down.
      ref = seen.ref;
      place(seen.ref, seen.consoleUrl);
    }
    return seen;
  };
  const workOn = (step: StepRecord): Work => ({
    plan,
    get spec() {
      return spec ??= workloadSpec(plan);
    },
    get ref() {
      return ref;
    },
    upstream,
    signal: lease.signal,
    clock,
    settings,
    step,
    look,
    lately: async () => seen ?? await look(),
    note: (facts) => {
      step.detail = { ...step.detail, ...facts };
    },
    act: async (call, make) => {
      step.status = "in_progress";
      step.detail = { ...step.detail, call, called_at: timeOf(clock), returned: false };
      record(step);
      await flush();
      lease.assertHeld();
      const result = await make();
      step.detail = { ...step.detail, returned: true };
      record(step);
      return result;
    },
    placed: (where) => {
      ref = where;
      place(where, null);
    },
    cutOffCall: () => queue.cutOffCall(operation),
  });

  let current: StepRecord | null = null;
  try {
    if (!breaker.allowed) throw new BreakerOpen(breaker.retryAt ?? clock.now() + 30_000);
    const procedure = procedures[operation.kind];
    let work = workOn({ name: "", status: "pending" });
    for (const step of procedure.steps) {
      current = records.get(step.name) ?? { name: step.name, status: "pending" };
      if (current.status === "completed" && !isOutdated(step, current, plan)) continue;
      if (current.status !== "in_progress") {
        current.status = "in_progress";
        record(current);
      }
      work = workOn(current);
      const result = await step.run(work);
      if (result.is === "waiting") {
        if (clock.now() >= deadline) throw overdue(work, seen ?? null);
        current.detail = { ...current.detail, waiting_for: result.for };
        if (current.detail.waiting_since === undefined) {
          current.detail.waiting_since = timeOf(clock);
        }
        if (changed(operation, current)) record(current);
        await flush({ is: "postpone", milliseconds: pollDelay(current, clock.now()) });
        return "waiting";
      }
      current.status = "completed";
      if (step.applies) work.note({ generation: work.spec.revision });
      record(current);
    }
    await complete(procedure.result(work));
    log("info", "operation succeeded", {
      milliseconds: clock.now() - Date.parse(operation.created_at),
    });
    return "succeeded";
  } catch (error) {
    return await endPass(error);
  }

  async function endPass(error: unknown): Promise<PassResult> {
    const reason = lease.signal.aborted ? lease.signal.reason : error;
    try {
      if (reason instanceof LeaseLost) {
        log("warn", "lease lost, left to another worker");
        return "lost";
      }
      if (reason instanceof OperationCancelled) {
        log("info", "operation cancelled");
        await queue.giveBack(operation);
        return "cancelled";
      }
      if (reason instanceof WorkerStopping) {
        await queue.write(operation, plan.cluster.id, [{ is: "postpone", milliseconds: 0 }]);
        return "waiting";
      }
      if (reason instanceof BreakerOpen && clock.now() < deadline) {
        const milliseconds = Math.max(250, Math.min(reason.retryAt, deadline) - clock.now());
        await flush({ is: "postpone", milliseconds });
        log("info", "waiting for the cluster's circuit breaker", { milliseconds });
        return "waiting";
      }
      const failure = toFailure(outOfTime(reason), componentOf({ plan }));
      if (current !== null && current.status === "in_progress") {
        // The settle time of a call that may still be at work begins when we stopped waiting for it.
        const cutOff = error instanceof OrchestratorError && error.ambiguous;
        current.detail = cutOff
          ? { ...current.detail, called_at: timeOf(clock) }
          : withoutCall(current.detail);
        current.status = "failed";
        record(current);
      }
      log(failure.retryable ? "warn" : "error", "operation attempt failed", {
        code: failure.error.code,
        retryable: failure.retryable,
        reason: redactor.text(reasonOf(reason)),
      });
      await flush({ is: "fail", failure: { ...failure, error: redactor.data(failure.error) } });
      return "failed";
    } catch (second) {
      log("error", "the end of a pass could not be written", { reason: reasonOf(second) });
      return "lost";
    }
  }

  function outOfTime(reason: unknown): unknown {
    return reason instanceof BreakerOpen
      ? new OperationFailure("UPSTREAM_UNAVAILABLE", "The cluster did not answer in time", {
        reason: "circuit breaker open",
      })
      : reason;
  }
}

function isRemoval(kind: OperationKind): boolean {
  return kind === "delete" || kind === "delete_stack";
}

/** The placement as the deployment's row has it. */
function placementOf({ deployment }: OperationPlan): Placement {
  return {
    stack_id: deployment.stack_id,
    stack_name: deployment.stack_name,
    namespace: deployment.namespace,
    endpoint_id: deployment.endpoint_id,
    orchestrator: deployment.orchestrator,
    url: null,
    console_url: deployment.console_url ?? null,
  };
}

/** Quick at first, so that an operation ends soon after its containers are ready; then a tenth of the time waited. */
function pollDelay(step: StepRecord, now: number): number {
  const since = step.detail?.waiting_since;
  const waited = typeof since === "string" ? now - Date.parse(since) : 0;
  return Math.min(5000, Math.max(150, waited / 10));
}

/** Whether the agent changed after this step had brought it to the cluster. */
function isOutdated(step: Step, record: StepRecord, { agent }: OperationPlan): boolean {
  return step.applies === true && agent !== null && record.detail?.generation !== agent.generation;
}

/** Whether a step's record says more than what the database holds. */
function changed(operation: OperationPlan["operation"], step: StepRecord): boolean {
  const stored = operation.steps.find((entry) => entry.name === step.name);
  return stored?.status !== step.status ||
    stored.detail?.waiting_for !== step.detail?.waiting_for ||
    stored.detail?.returned !== step.detail?.returned;
}

function timeOf(clock: Clock): string {
  return new Date(clock.now()).toISOString();
}

function withoutCall(detail: StepRecord["detail"]): StepRecord["detail"] {
  if (detail === null || detail === undefined) return detail;
  const { call: _call, called_at: _calledAt, returned: _returned, ...rest } = detail;
  return rest;
}

/** For our own log: no upstream's words, which might hold a secret. */
function reasonOf(error: unknown): string {
  if (error instanceof OrchestratorError) return `${error.code}: ${error.message}`;
  if (error instanceof Error) return `${error.name}: ${error.message}`.slice(0, 300);
  return typeof error;
}
