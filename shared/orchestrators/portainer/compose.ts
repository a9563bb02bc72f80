import { z } from "zod";
import { mapLimited } from "../concurrency.ts";
import { failure, failureError } from "../failures.ts";
import {
  composeFile,
  environmentOf,
  imagesOf,
  readServiceReplicas,
  SERVICE,
} from "../stack-file.ts";
import { envFileValue, readMark, stackVariables } from "../stack-variables.ts";
import type {
  ClusterOptions,
  ContainerState,
  ServiceState,
  WorkloadFailure,
  WorkloadSpec,
} from "../types.ts";
import { type Stack, STACK_INACTIVE } from "./api.ts";
import { claimVolume, unclaimVolume } from "./claims.ts";
import {
  belongsTo,
  containerLimits,
  inspectContainer,
  inspectContainers,
  type InspectedContainer,
  listContainers,
  type ListedContainer,
  publishedPorts,
  toContainerState,
} from "./containers.ts";
import { candidateOf, sameCounts, serviceMark, serviceOf } from "./colors.ts";
import type { DockerEngine, EngineContext } from "./engine.ts";
import { ensureImage } from "./images.ts";
import { removeNetworks } from "./networks.ts";
import { readDockerMetrics } from "./metrics.ts";
import { isReady, type ReplicaSet, workloadState } from "./state.ts";
import { removeVolumes } from "./volumes.ts";

const PROJECT_LABEL = "com.docker.compose.project";
const SERVICE_LABEL = "com.docker.compose.service";
/** So many restarts in a row, and waiting will not help. */
const CRASH_LOOP_RESTARTS = 3;
const STOP_GRACE_SECONDS = 10;
const POLL_MS = 1000;

/** A standalone Docker engine: containers made by compose, of which nothing looks after the whole. */
export function createComposeEngine(context: EngineContext, options: ClusterOptions): DockerEngine {
  const { api } = context;

  async function ownContainers(
    name: string,
    agentId: string,
    signal: AbortSignal,
  ): Promise<ListedContainer[]> {
    const all = await listContainers(api, `${PROJECT_LABEL}=${name}`, signal);
    return all
      .filter((container) => belongsTo(container.Labels, agentId))
      .sort((a, b) => containerNumber(a) - containerNumber(b));
  }

  /** The containers that are reached, not those of a candidate. */
  async function reachedStates(
    spec: WorkloadSpec,
    stack: Stack | null,
    signal: AbortSignal,
  ): Promise<ContainerState[]> {
    const candidate = candidateOf(stack);
    const all = await ownContainers(spec.name, spec.agentId, signal);
    const reached = all.filter(({ Labels }) => composeService(Labels) !== candidate?.service);
    const details = await inspectContainers(api, reached, signal);
    return details.map((container) => toContainerState(container));
  }

  async function stopContainer(id: string, signal: AbortSignal): Promise<void> {
    await api.docker.send(
      {
        method: "POST",
        path: `/containers/${id}/stop`,
        query: { t: STOP_GRACE_SECONDS },
        timeoutMs: api.deployTimeoutMs,
        // 304: it has ended already.
        accept: [304, 404],
      },
      signal,
    );
  }

  async function removeContainer(id: string, signal: AbortSignal): Promise<void> {
    await api.docker.send(
      {
        method: "DELETE",
        path: `/containers/${id}`,
        query: { force: true, v: true },
        // 409: it is being removed already.
        accept: [404, 409],
      },
      signal,
    );
  }

  return {
    orchestrator: "portainer-compose",
    swarmId: null,
    rolls: false,

    render: (spec, service) => ({
      file: composeFile(spec, options, service),
      variables: stackVariables(
        { ...spec, service: serviceMark(service) },
        environmentOf(spec),
        envFileValue,
      ),
    }),

    async remains(name, agentId, signal) {
      const all = await listContainers(api, `${PROJECT_LABEL}=${name}`, signal);
      const own = all.filter((container) => belongsTo(container.Labels, agentId));
      return {
        own: own.length,
        foreign: all.length - own.length,
        newest: Math.max(0, ...all.map((container) => container.Created * 1000)) +
          (all.length === 0 ? 0 : await clockOffset(context, signal)),
      };
    },

    async clean(name, agentId, signal) {
      const containers = await ownContainers(name, agentId, signal);
      await mapLimited(containers, 8, ({ Id }) => removeContainer(Id, signal));
      if (containers.length > 0) await removeNetworks(context, `${PROJECT_LABEL}=${name}`, signal);
    },

    removeVolumes: (name, owner, signal) =>
      removeVolumes(context, `${PROJECT_LABEL}=${name}`, owner, signal),

    async intact(spec, replicas, signal) {
      const containers = await ownContainers(spec.name, spec.agentId, signal);
      const counts = countBy(containers.map(({ Labels }) => composeService(Labels)));
      return sameCounts(counts, replicas) &&
        containers.every(({ State }) => State === "running" || State === "restarting");
    },

    async prune({ name, agentId }, services, signal) {
      const containers = await ownContainers(name, agentId, signal);
      const strays = containers.filter(({ Labels }) => !services.includes(composeService(Labels)));
      await mapLimited(strays, 8, async ({ Id }) => {
        await stopContainer(Id, signal);
        await removeContainer(Id, signal);
      });
    },

    // A file that asks for no replica is refused: compose has "no container to start" then.
    async drain(spec, signal) {
      const containers = await ownContainers(spec.name, spec.agentId, signal);
      await mapLimited(containers, 8, ({ Id }) => stopContainer(Id, signal));
    },

    claim: (name, claim, signal) => claimVolume(api, name, claim, signal),
    unclaim: (name, id, signal) => unclaimVolume(api, name, id, signal),

    async prepare(spec, signal) {
      for (const image of imagesOf(spec)) {
        await ensureImage(api, image, options.registryId, signal);
      }
    },

    async restart(spec, stack, request, signal) {
      const offset = await clockOffset(context, signal);
      const asked = request ? Date.parse(request.requestedAt) : NaN;
      // On the engine's clock: it is the one that stamps the containers.
      const since = (Number.isNaN(asked) ? context.now() : asked) - offset;
      while (true) {
        const present = await reachedStates(spec, stack, signal);
        const old = present.filter(({ startedAt }) => !startedAt || Date.parse(startedAt) < since);
        if (old.length === 0) return;
        stopAtFailure(present.filter((container) => !old.includes(container)));
        const down = present.filter((container) => !isReady(container));
        // Restarting what is down already takes nothing away.
        const allowed = spec.strategy === "recreate"
          ? old.length
          : Math.max(1, spec.maxUnavailable) - down.filter((one) => !old.includes(one)).length;
        const next = [
          ...old.filter((container) => down.includes(container)),
          ...old.filter((container) => !down.includes(container)),
        ].slice(0, Math.max(0, allowed));
        if (next.length === 0) {
          await context.sleep(POLL_MS, signal);
          continue;
        }
        await mapLimited(next, 8, (container) =>
          api.docker.send(
            {
              method: "POST",
              path: `/containers/${container.id}/restart`,
              query: { t: STOP_GRACE_SECONDS },
              timeoutMs: api.deployTimeoutMs,
              accept: [404],
            },
            signal,
          ));
      }
    },

    async inspect(ref, stack, signal) {
      const listed = await ownContainers(ref.name, ref.agentId, signal);
      if (stack === null && listed.length === 0) return null;
      const inactive = stack?.Status === STACK_INACTIVE;
      const details = await inspectContainers(api, listed, signal);
      const wanted = stack && !inactive
        ? readServiceReplicas(await api.stackFile(stack.Id, signal))
        : {};
      const mark = stack && readMark(stack.Env);
      const candidate = inactive ? undefined : mark?.candidate;
      // What is named by neither is about to become a candidate, or was reached until now.
      const reachedService = stack && !ref.composed ? serviceOf({ variables: stack.Env }) : null;
      const names = Object.keys(wanted);
      const isReached = ({ Config }: InspectedContainer) => {
        const name = composeService(Config.Labels);
        return reachedService !== null
          ? name === reachedService
          : names.length === 0 || names.includes(name);
      };
      const setOf = (
        revision: number | null,
        own: InspectedContainer[],
        services: string[],
      ): ReplicaSet => {
        const containers = own.map((container) => toContainerState(container));
        const found = inactive ? null : findFailure(containers);
        return {
          revision,
          desired: inactive
            ? 0
            : services.some((name) => name in wanted)
            ? services.reduce((sum, name) => sum + (wanted[name] ?? 0), 0)
            : containers.length,
          containers,
          changing: false,
          failure: found,
          hopeless: found !== null && found.code !== "CONTAINER_UNHEALTHY",
        };
      };
      const reached = details.filter(isReached);
      const others = details.filter((container) => !isReached(container));
      const set = setOf(
        mark?.revision ?? null,
        reached,
        reachedService === null ? names : [reachedService],
      );
      return await workloadState(context, "portainer-compose", ref, stack, {
        reached: set,
        candidate: candidate
          ? setOf(candidate.revision, others, [candidate.service])
          : others.length > 0 && !inactive
          ? { ...setOf(null, others, []), changing: true }
          : null,
        services: servicesOf(
          ref.name,
          [...reached, ...others],
          inactive ? {} : wanted,
          set.desired,
        ),
        ports: publishedPorts(reached),
        ended: details.every(({ State }) =>
          State.Status !== "running" && State.Status !== "restarting"
        ),
        label: `${PROJECT_LABEL}=${ref.name}`,
      }, signal);
    },

    async locate(ref, containerId, signal) {
      const container = await inspectContainer(api, containerId, null, signal);
      if (!container || !belongsTo(container.Config.Labels, ref.agentId)) return null;
      const { id, name } = toContainerState(container);
      return { id, name, node: null, tty: container.Config.Tty };
    },

    async metrics(ref, signal) {
      const listed = await ownContainers(ref.name, ref.agentId, signal);
      const running = listed.filter(({ State }) => State === "running");
      const details = await inspectContainers(api, running, signal);
      return await readDockerMetrics(
        api,
        details.map((container) => ({
          id: container.Id,
          name: toContainerState(container).name,
          node: null,
          limits: containerLimits(container),
        })),
        context.now,
        signal,
      );
    },
  };
}

function composeService(labels: Record<string, string> | null | undefined): string {
  return labels?.[SERVICE_LABEL] ?? SERVICE;
}

function countBy(names: string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}

/** The services of which there are containers, with their share of both. */
function servicesOf(
  stack: string,
  details: InspectedContainer[],
  wanted: Record<string, number>,
  desired: number,
): ServiceState[] {
  const groups = new Map<string, InspectedContainer[]>();
  for (const one of details) {
    const name = composeService(one.Config.Labels);
    groups.set(name, [...groups.get(name) ?? [], one]);
  }
  return [...groups].map(([name, members]) => ({
    id: `${stack}_${name}`,
    name: `${stack}_${name}`,
    image: members[0]!.Config.Image,
    replicas: {
      running: members.filter(({ State }) => State.Status === "running").length,
      desired: wanted[name] ?? (groups.size === 1 ? desired : 0),
    },
    ports: publishedPorts(members),
  }));
}

/** What waiting will not mend comes first, then what may pass. */
function findFailure(containers: ContainerState[]): WorkloadFailure | null {
  for (const container of containers) {
    const about = { container: container.name, exitCode: container.exitCode };
    const looping = container.status === "restarting" &&
      container.restartCount >= CRASH_LOOP_RESTARTS;
    if (container.oomKilled && (looping || container.status === "exited")) {
      return failure("out_of_memory", about);
    }
    if (looping) return failure("crash_loop", about);
  }
  const unhealthy = containers.find(({ health }) => health === "unhealthy");
  return unhealthy ? failure("unhealthy", { container: unhealthy.name }) : null;
}

/** A restart goes no further than a replica that does not come back. */
function stopAtFailure(restarted: ContainerState[]): void {
  const found = findFailure(restarted);
  if (found) throw failureError(found.details.reason);
}

function containerNumber(container: ListedContainer): number {
  return Number(container.Labels?.["com.docker.compose.container-number"] ?? 0);
}

/** Milliseconds to add to the engine's clock to get ours; 0 when the engine does not tell. */
async function clockOffset(context: EngineContext, signal: AbortSignal): Promise<number> {
  const { data } = await context.api.docker.json(
    { path: "/info" },
    z.object({ SystemTime: z.string().optional() }),
    signal,
  );
  const time = Date.parse(data?.SystemTime ?? "");
  return Number.isNaN(time) ? 0 : context.now() - time;
}
