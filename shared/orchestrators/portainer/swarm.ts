import { isDeepStrictEqual } from "node:util";
import { z } from "zod";
import { mapLimited } from "../concurrency.ts";
import {
  failure,
  failureError,
  type FailureReason,
  recogniseReason,
  workloadMissing,
} from "../failures.ts";
import {
  AGENT_LABEL,
  environmentOf,
  RESTART_LABEL,
  REVISION_LABEL,
  swarmFile,
} from "../stack-file.ts";
import { plainValue, readMark, stackVariables } from "../stack-variables.ts";
import type {
  ClusterOptions,
  ContainerState,
  ContainerStatus,
  ServicePort,
  ServiceState,
  WorkloadFailure,
  WorkloadSpec,
} from "../types.ts";
import { type Endpoint, STACK_INACTIVE } from "./api.ts";
import { claimConfig, unclaimConfig } from "./claims.ts";
import { candidateOf, sameCounts, serviceMark, serviceOf } from "./colors.ts";
import {
  belongsTo,
  containerLimits,
  inspectContainer,
  publishedPorts,
  toContainerState,
} from "./containers.ts";
import type { DockerEngine, EngineContext } from "./engine.ts";
import { listNetworks, removeNetworks } from "./networks.ts";
import { readDockerMetrics } from "./metrics.ts";
import { hasReason } from "./stacks.ts";
import { isReady, type ReplicaSet, workloadState } from "./state.ts";
import { removeVolumes } from "./volumes.ts";

const NAMESPACE_LABEL = "com.docker.stack.namespace";
/** So many ended tasks of one slot, and waiting will not help. Swarm keeps five. */
const FAILED_TASKS = 3;
/** How long tasks that are told to stop may take; Docker kills them after ten seconds. */
const TEARDOWN_MS = 20_000;
const POLL_MS = 300;
/** Of a task that has a container, or is about to. */
const LIVE_STATES = new Set(["assigned", "accepted", "preparing", "ready", "starting", "running"]);
/** How often a service that changes under our hands is read again. */
const VERSION_ATTEMPTS = 5;

const port = z.object({
  Protocol: z.string().default("tcp"),
  TargetPort: z.number(),
  PublishedPort: z.number().optional(),
});

const service = z.object({
  ID: z.string(),
  CreatedAt: z.string().optional(),
  Version: z.object({ Index: z.number() }),
  // Sent back whole on an update, so nothing of it may be dropped.
  Spec: z.looseObject({
    Name: z.string(),
    Labels: z.record(z.string(), z.string()).nullish(),
    Mode: z.looseObject({
      Replicated: z.looseObject({ Replicas: z.number().optional() }).optional(),
    }).optional(),
    TaskTemplate: z.looseObject({
      ForceUpdate: z.number().optional(),
      ContainerSpec: z.looseObject({ Image: z.string().default("") }).optional(),
    }),
    UpdateConfig: z.looseObject({}).nullish(),
  }),
  Endpoint: z.object({ Ports: z.array(port).nullish() }).nullish(),
  UpdateStatus: z.object({ State: z.string().optional() }).nullish(),
});

type Service = z.output<typeof service>;

const task = z.object({
  ID: z.string(),
  ServiceID: z.string().default(""),
  CreatedAt: z.string().default(""),
  Slot: z.number().default(0),
  NodeID: z.string().default(""),
  DesiredState: z.string().default(""),
  Spec: z.object({ ForceUpdate: z.number().optional(), ContainerSpec: z.unknown() }).nullish(),
  Status: z.object({
    State: z.string(),
    Timestamp: z.string().optional(),
    Err: z.string().optional(),
    ContainerStatus: z.object({
      ContainerID: z.string().optional(),
      ExitCode: z.number().optional(),
    }).nullish(),
  }),
});

type Task = z.output<typeof task>;

/** A Swarm: the engine keeps the replicas and rolls updates itself. */
export function createSwarmEngine(
  context: EngineContext,
  options: ClusterOptions,
  swarmId: string,
): DockerEngine {
  const { api } = context;

  async function listServices(name: string, signal: AbortSignal): Promise<Service[]> {
    const { data } = await api.docker.json(
      {
        path: "/services",
        query: { filters: JSON.stringify({ label: [`${NAMESPACE_LABEL}=${name}`] }) },
      },
      z.array(service),
      signal,
    );
    return data ?? [];
  }

  async function ownServices(name: string, agentId: string, signal: AbortSignal) {
    const all = await listServices(name, signal);
    return all.filter(({ Spec }) => belongsTo(Spec.Labels, agentId));
  }

  /** Changes services; null leaves one as it is. One that changed meanwhile is read again. */
  async function changeServices(
    spec: WorkloadSpec,
    which: (one: Service) => boolean,
    change: (one: Service) => Record<string, unknown> | null,
    signal: AbortSignal,
  ): Promise<void> {
    for (let attempt = 1;; attempt++) {
      const services = (await ownServices(spec.name, spec.agentId, signal)).filter(which);
      if (services.length === 0) throw workloadMissing(spec.name);
      try {
        for (const one of services) {
          const body = change(one);
          if (body === null) continue;
          await api.docker.send(
            {
              method: "POST",
              path: `/services/${one.ID}/update`,
              query: { version: one.Version.Index },
              body,
            },
            signal,
          );
        }
        return;
      } catch (error) {
        if (!hasReason(error, "conflict") || attempt === VERSION_ATTEMPTS) throw error;
      }
    }
  }

  async function listTasks(services: Service[], signal: AbortSignal): Promise<Task[]> {
    if (services.length === 0) return [];
    const { data } = await api.docker.json(
      {
        path: "/tasks",
        query: { filters: JSON.stringify({ service: services.map(({ ID }) => ID) }) },
      },
      z.array(task),
      signal,
    );
    return data ?? [];
  }

  /** Names of the nodes, which Portainer's agent takes to find the right one; none without an agent. */
  async function nodeNames(signal: AbortSignal): Promise<Map<string, string>> {
    if (!behindAgent(context.endpoint)) return new Map();
    const { data } = await api.docker.json(
      { path: "/nodes", accept: [403] },
      z.array(z.object({
        ID: z.string(),
        Description: z.object({ Hostname: z.string().default("") }).nullish(),
      })),
      signal,
    );
    return new Map((data ?? []).map(({ ID, Description }) => [ID, Description?.Hostname ?? ""]));
  }

  async function runningTasks(name: string, agentId: string, signal: AbortSignal) {
    const services = await ownServices(name, agentId, signal);
    const [tasks, nodes] = [await listTasks(services, signal), await nodeNames(signal)];
    const current = presentTasks(tasks).map((one) => ({
      task: one,
      name: `${taskService(one, services)?.Spec.Name ?? name}.${one.Slot}`,
      node: nodes.get(one.NodeID) || null,
    }));
    return { services, tasks, current };
  }

  /** A task tells its exit code only; its container, which Swarm keeps for a while, tells of the memory. */
  async function explainLoop(
    found: WorkloadFailure | null,
    tasks: Task[],
    signal: AbortSignal,
  ): Promise<WorkloadFailure | null> {
    if (found?.details.reason !== "crash_loop" || found.details.exit_code !== 137) return found;
    const ids = tasks
      .filter(({ Status }) => Status.ContainerStatus?.ExitCode === 137)
      .sort((a, b) => (a.CreatedAt < b.CreatedAt ? 1 : -1))
      .flatMap(({ Status }) => Status.ContainerStatus?.ContainerID ?? []);
    const nodes = await nodeNames(signal);
    for (const id of ids.slice(0, 2)) {
      const node = tasks.find(({ Status }) => Status.ContainerStatus?.ContainerID === id)?.NodeID;
      const container = await inspectContainer(api, id, nodes.get(node ?? "") || null, signal);
      if (container?.State.OOMKilled) return failure("out_of_memory", { exitCode: 137 });
    }
    return found;
  }

  return {
    orchestrator: "portainer-swarm",
    swarmId,
    rolls: true,

    render: (spec, service) => ({
      file: swarmFile(spec, options, service),
      variables: stackVariables(
        { ...spec, service: serviceMark(service) },
        environmentOf(spec),
        plainValue,
      ),
    }),

    async remains(name, agentId, signal) {
      const all = await listServices(name, signal);
      const own = all.filter(({ Spec }) => belongsTo(Spec.Labels, agentId));
      return {
        own: own.length,
        foreign: all.length - own.length,
        newest: Math.max(0, ...all.map(({ CreatedAt }) => Date.parse(CreatedAt ?? "") || 0)),
      };
    },

    async clean(name, agentId, signal) {
      const services = await ownServices(name, agentId, signal);
      for (const { ID } of services) {
        await api.docker.send({ method: "DELETE", path: `/services/${ID}`, accept: [404] }, signal);
      }
      if (services.length > 0) await removeNetworks(context, `${NAMESPACE_LABEL}=${name}`, signal);
    },

    removeVolumes: (name, owner, signal) =>
      removeVolumes(context, `${NAMESPACE_LABEL}=${name}`, owner, signal),

    async intact(spec, replicas, signal) {
      const services = await ownServices(spec.name, spec.agentId, signal);
      return sameCounts(
        Object.fromEntries(services.map((one) => [
          one.Spec.Name.slice(spec.name.length + 1),
          replicasOf([one]),
        ])),
        replicas,
      );
    },

    // `docker stack deploy` does it itself, as Portainer is told to tell it.
    prune: () => Promise.resolve(),

    async drain(spec, signal) {
      await changeServices(spec, () => true, ({ Spec }) => ({
        ...Spec,
        Mode: { ...Spec.Mode, Replicated: { ...Spec.Mode?.Replicated, Replicas: 0 } },
      }), signal);
      const until = context.now() + TEARDOWN_MS;
      while (true) {
        const services = await ownServices(spec.name, spec.agentId, signal);
        const tasks = await listTasks(services, signal);
        if (!tasks.some(({ Status }) => LIVE_STATES.has(Status.State))) return;
        if (context.now() >= until) throw failureError("not_ending");
        await context.sleep(POLL_MS, signal);
      }
    },

    claim: (name, claim, signal) => claimConfig(api, name, claim, signal),
    unclaim: (name, id, signal) => unclaimConfig(api, name, id, signal),

    // Images are the nodes' affair. But a stack that was just stopped leaves a network that the manager has forgotten
    // and the engine still lists while its tasks end; a service that is created then is refused.
    async prepare(spec, signal) {
      if ((await listServices(spec.name, signal)).length > 0) return;
      const until = context.now() + TEARDOWN_MS;
      const label = `${NAMESPACE_LABEL}=${spec.name}`;
      while ((await listNetworks(context, label, signal)).length > 0) {
        if (context.now() >= until) return await removeNetworks(context, label, signal);
        await context.sleep(POLL_MS, signal);
      }
    },

    async restart(spec, stack, request, signal) {
      const candidate = candidateOf(stack);
      await changeServices(
        spec,
        (one) => candidate === null || !isNamed(one, spec.name, candidate.service),
        ({ Spec }) => {
          if (request && Spec.Labels?.[RESTART_LABEL] === request.id) return null;
          return {
            ...Spec,
            Labels: request ? { ...Spec.Labels, [RESTART_LABEL]: request.id } : Spec.Labels,
            UpdateConfig: {
              ...Spec.UpdateConfig,
              Parallelism: spec.strategy === "recreate" ? 0 : Math.max(1, spec.maxUnavailable),
            },
            TaskTemplate: {
              ...Spec.TaskTemplate,
              ForceUpdate: (Spec.TaskTemplate.ForceUpdate ?? 0) + 1,
            },
          };
        },
        signal,
      );
    },

    async inspect(ref, stack, signal) {
      const { services, tasks, current } = await runningTasks(ref.name, ref.agentId, signal);
      if (stack === null && services.length === 0) return null;
      const inactive = stack?.Status === STACK_INACTIVE;
      const details = await mapLimited(current, 8, async ({ task, node }) => {
        const id = task.Status.ContainerStatus?.ContainerID;
        return id ? await inspectContainer(api, id, node, signal) : null;
      });
      const containers = current.map(({ task, name }, index) => {
        const container = details[index];
        return fromTask(
          task,
          name,
          services,
          tasks,
          container ? toContainerState(container, name) : null,
        );
      });
      const mark = stack && readMark(stack.Env);
      const candidate = inactive ? undefined : mark?.candidate;
      const reachedService = stack && !ref.composed ? serviceOf({ variables: stack.Env }) : null;
      // Of two sets the one that the record does not know yet is about to become a candidate.
      const isReached = (one: Service) =>
        reachedService === null || isNamed(one, ref.name, reachedService);
      const setOf = async (own: Service[], revision: number | null): Promise<ReplicaSet> => {
        const isOwn = (one: Task) => own.includes(taskService(one, services)!);
        const ownTasks = tasks.filter(isOwn);
        // An update begins a moment after it was asked for. Until then there is only what it is to replace, whose
        // trouble is not its own.
        const isNew = (one: Task) =>
          isOwn(one) && isOfPresentSpec(one, taskService(one, services)!);
        const present = containers.flatMap((container, index) => {
          const { task } = current[index]!;
          if (!isOwn(task)) return [];
          return isNew(task) ? [container] : [{ ...container, replaced: true as const }];
        });
        const desired = inactive ? 0 : replicasOf(own);
        const states = own.map((one) => one.UpdateStatus?.State ?? "completed");
        const undone = own.find((one) => one.UpdateStatus?.State?.startsWith("rollback"));
        const found = inactive ? null : await explainLoop(
          findFailure(
            present.filter(({ replaced }) => !replaced),
            tasks.filter(isNew),
            undone === undefined ? null : failure("rolled_back", {
              cause: causeOf(ownTasks.filter((one) => !isNew(one))),
            }),
          ),
          ownTasks,
          signal,
        );
        return {
          revision: undone === undefined ? revision : labelledRevision(undone),
          desired,
          containers: present,
          changing: own.length === 0 ||
            states.some((one) => one !== "completed" && one !== "rollback_completed") ||
            current.some(({ task }) => isOwn(task) && !isNew(task)),
          failure: found,
          hopeless: found !== null && found.details.reason !== "rolled_back" &&
            present.filter(isReady).length < desired,
        };
      };
      const reached = services.filter(isReached);
      const others = services.filter((one) => !isReached(one));
      const states = [...reached, ...others].map((one): ServiceState => {
        const isOwn = current.map(({ task }) => taskService(task, services) === one);
        const own = details.filter((_, index) => isOwn[index]);
        const ingress = servicePorts(one);
        return {
          id: one.ID,
          name: one.Spec.Name,
          image: imageOf(one),
          replicas: {
            running: containers.filter(({ status }, index) => isOwn[index] && status === "running")
              .length,
            desired: inactive ? 0 : replicasOf([one]),
          },
          ports: ingress.length > 0
            ? ingress
            : publishedPorts(own.filter((container) => container !== null)),
        };
      });
      return await workloadState(context, "portainer-swarm", ref, stack, {
        reached: await setOf(reached, mark?.revision ?? null),
        candidate: candidate
          ? await setOf(others, candidate.revision)
          : others.length > 0 && !inactive
          ? { ...await setOf(others, null), changing: true }
          : null,
        services: states,
        ports: states.slice(0, reached.length).flatMap(({ ports }) => ports),
        ended: services.length === 0,
        label: `${NAMESPACE_LABEL}=${ref.name}`,
      }, signal);
    },

    async locate(ref, containerId, signal) {
      const { current } = await runningTasks(ref.name, ref.agentId, signal);
      const found = current.find(({ task }) =>
        task.Status.ContainerStatus?.ContainerID === containerId
      );
      const container = await inspectContainer(api, containerId, found?.node ?? null, signal);
      if (!container || !belongsTo(container.Config.Labels, ref.agentId)) return null;
      return {
        id: containerId,
        name: found?.name ?? container.Name.replace(/^\//, ""),
        node: found?.node ?? null,
        tty: container.Config.Tty,
      };
    },

    async metrics(ref, signal) {
      const { current } = await runningTasks(ref.name, ref.agentId, signal);
      const measured = await mapLimited(current, 8, async ({ task, name, node }) => {
        const id = task.Status.ContainerStatus?.ContainerID;
        if (!id || task.Status.State !== "running") return null;
        const container = await inspectContainer(api, id, node, signal);
        return container && { id, name, node, limits: containerLimits(container) };
      });
      return await readDockerMetrics(
        api,
        measured.filter((one) => one !== null),
        context.now,
        signal,
      );
    },
  };
}

/** Types 2 and 4 are Portainer's agent, which reaches every node of the Swarm. */
function behindAgent(endpoint: Endpoint): boolean {
  return endpoint.Type === 2 || endpoint.Type === 4;
}

function taskService(one: Task, services: Service[]): Service | undefined {
  return services.find(({ ID }) => ID === one.ServiceID) ?? services[0];
}

function replicasOf(services: Service[]): number {
  return services.reduce((sum, one) => sum + (one.Spec.Mode?.Replicated?.Replicas ?? 0), 0);
}

/** Whether it is this service of the stack. */
function isNamed(one: Service, stack: string, service: string): boolean {
  return one.Spec.Name === `${stack}_${service}`;
}

/** A service that was just changed says nothing of an update until Swarm begins it: its tasks do. */
function isOfPresentSpec({ Spec: spec }: Task, { Spec: { TaskTemplate } }: Service): boolean {
  if (!spec) return true;
  return (spec.ForceUpdate ?? 0) === (TaskTemplate.ForceUpdate ?? 0) &&
    isDeepStrictEqual(spec.ContainerSpec, TaskTemplate.ContainerSpec);
}

/** Slots are counted in each service. */
function placeOf(one: Task): string {
  return `${one.ServiceID} ${String(one.Slot).padStart(6, "0")}`;
}

/** Of every slot the newest task, as long as it is meant to run. */
function presentTasks(tasks: Task[]): Task[] {
  const newest = new Map<string, Task>();
  for (const one of tasks) {
    const known = newest.get(placeOf(one));
    if (!known || rank(one) > rank(known)) newest.set(placeOf(one), one);
  }
  return [...newest.values()]
    .filter(({ DesiredState }) => DesiredState === "running" || DesiredState === "ready")
    .sort((a, b) => (placeOf(a) < placeOf(b) ? -1 : 1));

  // During an update a slot's next task is there before the old one has ended.
  function rank(one: Task): string {
    return `${
      one.DesiredState === "running" || one.DesiredState === "ready" ? 1 : 0
    }${one.CreatedAt}`;
  }
}

function fromTask(
  one: Task,
  name: string,
  services: Service[],
  tasks: Task[],
  container: ContainerState | null,
): ContainerState {
  const restartCount = failedBefore(one, tasks).length + (container?.restartCount ?? 0);
  if (container) return { ...container, restartCount };
  const status = taskStatus(one.Status.State);
  const running = status === "running";
  return {
    id: one.Status.ContainerStatus?.ContainerID ?? one.ID,
    name,
    status,
    health: null,
    image: imageOf(taskService(one, services)),
    startedAt: running ? one.Status.Timestamp ?? null : null,
    finishedAt: status === "exited" ? one.Status.Timestamp ?? null : null,
    restartCount,
    exitCode: status === "exited" ? one.Status.ContainerStatus?.ExitCode ?? null : null,
    oomKilled: false,
    healthOutput: null,
    healthDurationMs: null,
    healthCheckedAt: null,
  };
}

function failedBefore(one: Task, tasks: Task[]): Task[] {
  return tasks.filter((other) =>
    other.ID !== one.ID && placeOf(other) === placeOf(one) &&
    (other.Status.State === "failed" || other.Status.State === "rejected")
  );
}

function taskStatus(state: string): ContainerStatus {
  switch (state) {
    case "running":
      return "running";
    case "complete":
    case "shutdown":
    case "failed":
    case "rejected":
    case "remove":
    case "orphaned":
      return "exited";
    default:
      return "created";
  }
}

const UNHEALTHY = /unhealthy container/i;

function findFailure(
  containers: ContainerState[],
  tasks: Task[],
  rolledBack: WorkloadFailure | null,
): WorkloadFailure | null {
  for (const one of presentTasks(tasks)) {
    if (one.Status.State === "running") continue;
    const before = failedBefore(one, tasks);
    const words = [one, ...before].map(({ Status }) => Status.Err ?? "");
    const reason = words.map(recogniseReason).find((found) => found !== null);
    if (reason === "no_capacity" || reason === "image_not_found") return failure(reason);
    if (before.length >= FAILED_TASKS) {
      const exitCode = before.at(-1)?.Status.ContainerStatus?.ExitCode;
      return failure(
        words.some((word) => UNHEALTHY.test(word)) ? "unhealthy" : reason ?? "crash_loop",
        { exitCode },
      );
    }
  }
  if (rolledBack !== null) return rolledBack;
  const unhealthy = containers.find(({ health }) => health === "unhealthy");
  return unhealthy ? failure("unhealthy", { container: unhealthy.name }) : null;
}

/** Why the tasks of a change that was taken back failed, as the last of them says. */
function causeOf(tasks: Task[]): FailureReason | null {
  const last = tasks.filter(({ Status }) =>
    Status.State === "failed" || Status.State === "rejected"
  )
    .sort((a, b) => (a.CreatedAt < b.CreatedAt ? -1 : 1)).at(-1);
  if (last === undefined) return null;
  const words = last.Status.Err ?? "";
  return UNHEALTHY.test(words) ? "unhealthy" : recogniseReason(words);
}

/** The ports of the routing mesh; ports in host mode are the containers' own. */
function servicePorts(main: Service | undefined): ServicePort[] {
  return (main?.Endpoint?.Ports ?? []).flatMap(({ Protocol, TargetPort, PublishedPort }) =>
    PublishedPort
      ? [{
        published: PublishedPort,
        target: TargetPort,
        protocol: Protocol === "udp" ? "udp" as const : "tcp" as const,
      }]
      : []
  );
}

/** Without the digest that the engine may have added. */
function imageOf(one: Service | undefined): string {
  return (one?.Spec.TaskTemplate.ContainerSpec?.Image ?? "").replace(/@sha256:[0-9a-f]{64}$/, "");
}

function labelledRevision(main: Service | undefined): number | null {
  const revision = Number(main?.Spec.Labels?.[REVISION_LABEL] ?? NaN);
  return Number.isInteger(revision) && main?.Spec.Labels?.[AGENT_LABEL] ? revision : null;
}
