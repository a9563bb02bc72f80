import { OrchestratorError } from "../../../shared/orchestrators/errors.ts";
import type {
  AutoscalerState,
  ContainerState,
  LogLine,
  Orchestrator,
  WorkloadRef,
  WorkloadSpec,
  WorkloadState,
} from "../../../shared/orchestrators/types.ts";

type Call = Exclude<keyof Orchestrator, "kind">;

/** What the next call of a kind does instead of simply working. */
export interface Fault {
  /** Whether the call takes effect before it goes wrong. */
  works?: boolean;
  /** What it throws, once `until` is over. */
  error?: Error;
  /** The call hangs until this resolves, or until the caller gives up. */
  until?: Promise<void>;
}

interface Workload {
  ref: WorkloadRef;
  spec: WorkloadSpec;
  revision: number;
  active: boolean;
  containers: ContainerState[];
  restarted: Set<string>;
  /** What stands beside it since a blue-green update. */
  candidate: { spec: WorkloadSpec; containers: ContainerState[] } | null;
  /** What the orchestrator itself decided, and the replicas it set. */
  autoscaler?: AutoscalerState & { desired: number };
}

/** A cluster in memory that does at once what it is told, but for the faults it was given. */
export interface ScriptedOrchestrator extends Orchestrator {
  readonly calls: Call[];
  readonly workloads: Map<string, Workload>;
  /** How often a workload was made. */
  created: number;
  /** While false, new containers stay in `starting`. */
  ready: boolean;
  fail(call: Call, ...faults: Fault[]): void;
  /** A log per container id. */
  readonly logsOf: Map<string, LogLine[]>;
}

export function createScriptedOrchestrator(): ScriptedOrchestrator {
  const faults = new Map<Call, Fault[]>();
  const calls: Call[] = [];
  const workloads = new Map<string, Workload>();
  const logsOf = new Map<string, LogLine[]>();
  let number = 0;

  async function perform<T>(call: Call, signal: AbortSignal, effect: () => T): Promise<T> {
    calls.push(call);
    const fault = faults.get(call)?.shift();
    if (fault === undefined) return effect();
    if (fault.works) effect();
    if (fault.until !== undefined) {
      await Promise.race([
        fault.until,
        new Promise<never>((_, reject) => {
          signal.addEventListener("abort", () =>
            reject(
              new OrchestratorError("UPSTREAM_UNAVAILABLE", "broken off", {
                ambiguous: true,
                details: { reason: "aborted" },
              }),
            ));
        }),
      ]);
    }
    if (fault.error !== undefined) throw fault.error;
    return effect();
  }

  function container(spec: WorkloadSpec): ContainerState {
    number++;
    return {
      id: `container-${number}`,
      name: `${spec.name}-${number}`,
      status: "running",
      health: self.ready ? "healthy" : "starting",
      image: spec.image,
      startedAt: new Date().toISOString(),
      finishedAt: null,
      restartCount: 0,
      exitCode: null,
      oomKilled: false,
      healthOutput: null,
      healthDurationMs: null,
      healthCheckedAt: null,
    };
  }

  function bring(workload: Workload, spec: WorkloadSpec, anew: boolean) {
    workload.candidate = null;
    workload.spec = spec;
    workload.revision = spec.revision;
    if (anew) workload.containers = [];
    while (workload.containers.length < spec.replicas) workload.containers.push(container(spec));
    workload.containers.length = spec.replicas;
  }

  const known = (name: string) => {
    const workload = workloads.get(name);
    if (workload === undefined) throw new OrchestratorError("DEPLOYMENT_FAILED", "no such stack");
    return workload;
  };

  const self: ScriptedOrchestrator = {
    kind: "portainer",
    calls,
    workloads,
    logsOf,
    created: 0,
    ready: true,
    fail: (call, ...more) => faults.set(call, [...faults.get(call) ?? [], ...more]),
    deploy: (spec, signal) =>
      perform("deploy", signal, () => {
        let workload = workloads.get(spec.name);
        if (workload === undefined) {
          self.created++;
          workload = {
            ref: {
              agentId: spec.agentId,
              name: spec.name,
              stackId: String(++number),
              namespace: null,
              orchestrator: "portainer-compose",
              endpointId: 1,
            },
            spec,
            revision: spec.revision,
            active: true,
            containers: [],
            restarted: new Set(),
            candidate: null,
          };
          workloads.set(spec.name, workload);
        }
        bring(workload, spec, false);
        return workload.ref;
      }),
    update: (ref, spec, signal) =>
      perform("update", signal, () => {
        const workload = known(ref.name);
        if (spec.strategy !== "blue-green" || workload.revision === spec.revision) {
          return bring(workload, spec, true);
        }
        const containers = Array.from({ length: spec.replicas }, () => container(spec));
        workload.candidate = { spec, containers };
      }),
    promote: (ref, spec, signal) =>
      perform("promote", signal, () => {
        const workload = known(ref.name);
        const { candidate } = workload;
        if (candidate?.spec.revision !== spec.revision) return;
        Object.assign(workload, candidate, { revision: spec.revision, candidate: null });
      }),
    abandon: (ref, signal) =>
      perform("abandon", signal, () => {
        const workload = workloads.get(ref.name);
        if (workload !== undefined) workload.candidate = null;
      }),
    scale: (ref, spec, signal) =>
      perform("scale", signal, () => bring(known(ref.name), spec, false)),
    restart: (ref, spec, signal, request) =>
      perform("restart", signal, () => {
        const workload = known(ref.name);
        if (workload.restarted.has(request!.id)) return;
        workload.restarted.add(request!.id);
        bring(workload, spec, true);
      }),
    start: (ref, spec, signal) =>
      perform("start", signal, () => {
        const workload = known(ref.name);
        workload.active = true;
        bring(workload, spec, true);
      }),
    stop: (ref, signal) =>
      perform("stop", signal, () => {
        const workload = known(ref.name);
        workload.active = false;
        workload.containers = workload.containers.map((each) => ({
          ...each,
          status: "exited",
          health: null,
        }));
      }),
    remove: (ref, signal) => perform("remove", signal, () => void workloads.delete(ref.name)),
    inspect: (ref, signal) =>
      perform("inspect", signal, () => {
        const workload = workloads.get(ref.name);
        return workload === undefined ? null : stateOf(workload, ref);
      }),
    logs: (_ref, id, { since, tail, limitBytes }, signal) =>
      perform("logs", signal, () => {
        const all = logsOf.get(id) ?? [];
        let lines = since === undefined ? all : all.filter((line) => line.timestamp > since);
        if (tail !== undefined) lines = lines.slice(-tail);
        let size = 0;
        const fitting = lines.findIndex((line) => (size += line.message.length + 32) > limitBytes);
        return fitting === -1
          ? { lines, truncated: false }
          : { lines: lines.slice(0, fitting), truncated: true };
      }),
    metrics: (ref, signal) =>
      perform("metrics", signal, () =>
        known(ref.name).containers.map((each) => ({
          containerId: each.id,
          containerName: each.name,
          timestamp: new Date().toISOString(),
          cpuUsage: 0.25,
          cpuLimit: 0.5,
          memoryUsage: 100,
          memoryLimit: 1000,
          networkRx: 1,
          networkTx: 2,
        }))),
    health: (signal) =>
      perform("health", signal, () => ({
        status: "up",
        version: "2.23.0",
        orchestrator: "portainer-compose",
        nodes: null,
        responseTimeMs: 1,
        message: null,
      })),
  };

  function stateOf(workload: Workload, asked: WorkloadRef): WorkloadState {
    const { ref, spec, revision, active, containers, autoscaler, candidate } = workload;
    const shownOf = (all: ContainerState[]) =>
      all.map((each) =>
        each.health === "starting" && self.ready ? { ...each, health: "healthy" as const } : each
      );
    const readyOf = (all: ContainerState[]) =>
      all.filter((each) => each.status === "running" && each.health === "healthy");
    const shown = shownOf(containers);
    const ready = readyOf(shown);
    const beside = shownOf(candidate?.containers ?? []);
    return {
      ref,
      status: !active ? "inactive" : ready.length === spec.replicas ? "active" : "deploying",
      revision,
      desired: active ? autoscaler?.desired ?? spec.replicas : 0,
      ready: ready.length,
      settled: !active || (ready.length === spec.replicas && candidate === null),
      candidate: candidate && {
        revision: candidate.spec.revision,
        desired: candidate.spec.replicas,
        ready: readyOf(beside).length,
        settled: readyOf(beside).length === candidate.spec.replicas,
        failed: false,
        failure: null,
      },
      containers: [...shown, ...beside.map((each) => ({ ...each, candidate: true as const }))],
      services: [],
      url: null,
      consoleUrl: null,
      failure: null,
      ...(asked.autoscaled && autoscaler ? { autoscaler } : {}),
    };
  }
  return self;
}

/** Errors as the drivers throw them. */
export const upstreamErrors = {
  down: () =>
    new OrchestratorError("UPSTREAM_UNAVAILABLE", "Portainer cannot be reached", {
      retryable: true,
      details: { reason: "unreachable" },
    }),
  timedOut: () =>
    new OrchestratorError("UPSTREAM_UNAVAILABLE", "Portainer did not answer in time", {
      retryable: true,
      ambiguous: true,
      details: { reason: "timeout" },
    }),
  refused: () =>
    new OrchestratorError("DEPLOYMENT_FAILED", "The image does not exist", {
      details: { reason: "image_not_found" },
    }),
};
