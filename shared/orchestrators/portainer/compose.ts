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
  WorkloadState,
} from "../types.ts";
import { STACK_DEPLOYING, STACK_INACTIVE } from "./api.ts";
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
import type { DockerEngine, EngineContext } from "./engine.ts";
import { ensureImage } from "./images.ts";
import { describeNetworks, removeNetworks } from "./networks.ts";
import { readDockerMetrics } from "./metrics.ts";
import { describeVolumes, removeVolumes } from "./volumes.ts";

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

  async function states(name: string, agentId: string, signal: AbortSignal) {
    const details = await inspectContainers(
      api,
      await ownContainers(name, agentId, signal),
      signal,
    );
    return details.map((container) => toContainerState(container));
  }

  return {
    orchestrator: "portainer-compose",
    swarmId: null,

    render: (spec) => ({
      file: composeFile(spec, options),
      variables: stackVariables(spec, environmentOf(spec), envFileValue),
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
      await mapLimited(containers, 8, (container) =>
        api.docker.send(
          {
            method: "DELETE",
            path: `/containers/${container.Id}`,
            query: { force: true, v: true },
            accept: [404, 409],
          },
          signal,
        ));
      if (containers.length > 0) await removeNetworks(context, `${PROJECT_LABEL}=${name}`, signal);
    },

    removeVolumes: (name, owner, signal) =>
      removeVolumes(context, `${PROJECT_LABEL}=${name}`, owner, signal),

    async intact(spec, signal) {
      const containers = await ownContainers(spec.name, spec.agentId, signal);
      return containers.length === spec.replicas &&
        containers.every(({ State }) => State === "running" || State === "restarting");
    },

    claim: (name, claim, signal) => claimVolume(api, name, claim, signal),
    unclaim: (name, id, signal) => unclaimVolume(api, name, id, signal),

    async prepare(spec, signal) {
      for (const image of imagesOf(spec)) {
        await ensureImage(api, image, options.registryId, signal);
      }
    },

    async restart(spec, request, signal) {
      const offset = await clockOffset(context, signal);
      const asked = request ? Date.parse(request.requestedAt) : NaN;
      // On the engine's clock: it is the one that stamps the containers.
      const since = (Number.isNaN(asked) ? context.now() : asked) - offset;
      while (true) {
        const present = await states(spec.name, spec.agentId, signal);
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
      const containers = details.map((container) => toContainerState(container));
      const wanted = stack && !inactive
        ? readServiceReplicas(await api.stackFile(stack.Id, signal))
        : {};
      const counts = Object.values(wanted);
      const desired = inactive
        ? 0
        : counts.length === 0
        ? containers.length
        : counts.reduce((sum, count) => sum + count, 0);
      const ready = containers.filter(isReady).length;
      const found = inactive ? null : findFailure(containers);
      const ports = publishedPorts(details);
      const starting = stack === null || stack.Status === STACK_DEPLOYING ||
        containers.length !== desired ||
        containers.some(({ status, health }) => status === "created" || health === "starting");
      const state: WorkloadState = {
        ref: {
          ...ref,
          stackId: stack ? String(stack.Id) : null,
          orchestrator: "portainer-compose",
          endpointId: api.endpointId,
        },
        status: inactive
          ? "inactive"
          : found && found.code !== "CONTAINER_UNHEALTHY"
          ? "failed"
          : starting
          ? "deploying"
          : "active",
        revision: stack && (readMark(stack.Env)?.revision ?? null),
        desired,
        ready,
        settled: inactive
          ? containers.every(({ status }) => status !== "running" && status !== "restarting")
          : !starting && found === null && ready === desired,
        containers,
        services: servicesOf(ref.name, details, inactive ? {} : wanted, desired),
        ...(ref.composed
          ? {
            networks: await describeNetworks(context, `${PROJECT_LABEL}=${ref.name}`, signal),
            volumes: await describeVolumes(
              context,
              `${PROJECT_LABEL}=${ref.name}`,
              ref.agentId,
              signal,
            ),
          }
          : {}),
        url: ports[0] ? `http://${context.publicHost}:${ports[0].published}` : null,
        consoleUrl: stack && context.consoleUrl(stack),
        failure: found,
      };
      return state;
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

export function isReady(container: ContainerState): boolean {
  return container.status === "running" &&
    (container.health === null || container.health === "healthy");
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
    const name = one.Config.Labels?.[SERVICE_LABEL] ?? SERVICE;
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
