import { z } from "zod";
import { sleep } from "../concurrency.ts";
import { OrchestratorError } from "../errors.ts";
import { createKubernetesDriver } from "../kubernetes/driver.ts";
import type {
  ClusterConnection,
  ClusterHealth,
  Orchestrator,
  OrchestratorDependencies,
  WorkloadRef,
  WorkloadSpec,
} from "../types.ts";
import { createPortainerApi, type Endpoint, portainerBase, portainerHeaders } from "./api.ts";
import { createComposeEngine } from "./compose.ts";
import type { DockerEngine, EngineContext } from "./engine.ts";
import { examineStack } from "./examine.ts";
import { engineFigures, engineSize, swarmNodes } from "./figures.ts";
import { readDockerLogs } from "./logs.ts";
import {
  abandonCandidate,
  deployStack,
  promoteStack,
  removeStack,
  scaleStack,
  stackIfOwn,
  stopStack,
  updateStack,
} from "./stacks.ts";
import { createSwarmEngine } from "./swarm.ts";

const KUBERNETES_TYPES = [5, 6, 7];
const HEALTH_TIMEOUT_MS = 5_000;

const engineInfo = z.object({
  NCPU: z.number().optional(),
  Swarm: z.object({
    LocalNodeState: z.string().optional(),
    ControlAvailable: z.boolean().optional(),
    Nodes: z.number().nullish(),
    Cluster: z.object({ ID: z.string() }).nullish(),
  }).nullish(),
});

/** Runs agents through Portainer, on whatever engine stands behind the environment. */
export function createPortainerDriver(
  cluster: ClusterConnection,
  deps: Required<Pick<OrchestratorDependencies, "fetch">> & OrchestratorDependencies,
): Orchestrator {
  const endpointId = cluster.endpointId;
  if (endpointId === null) {
    throw new OrchestratorError(
      "DEPLOYMENT_FAILED",
      "The cluster names no Portainer environment.",
      {
        retryable: false,
        details: { reason: "endpoint_missing" },
      },
    );
  }
  const api = createPortainerApi(cluster, endpointId, deps.fetch);
  const now = deps.now ?? Date.now;
  const consoleBase = (cluster.options.consoleUrl ?? portainerBase(cluster)).replace(/\/+$/, "");
  let backend: Promise<Backend> | null = null;

  type Backend = { docker: DockerEngine; context: EngineContext } | { kubernetes: Orchestrator };

  /** Asked once; a failure is not remembered. */
  function connect(signal: AbortSignal): Promise<Backend> {
    backend ??= discover(signal).catch((error) => {
      backend = null;
      throw error;
    });
    return backend;
  }

  async function discover(signal: AbortSignal): Promise<Backend> {
    const endpoint = await api.endpoint(signal);
    if (KUBERNETES_TYPES.includes(endpoint.Type)) {
      return {
        kubernetes: createKubernetesDriver(cluster, {
          ...deps,
          orchestrator: "portainer-kubernetes",
          upstream: "Portainer",
          baseUrl: `${portainerBase(cluster)}/api/endpoints/${endpointId}/kubernetes`,
          headers: portainerHeaders(cluster),
          consoleUrl: (namespace, name) =>
            `${consoleBase}/#!/${endpointId}/kubernetes/applications/${namespace}/${name}`,
        }),
      };
    }
    const context: EngineContext = {
      api,
      endpoint,
      publicHost: publicHost(cluster, endpoint),
      consoleUrl: (stack) => `${consoleBase}/#!/${endpointId}/docker/stacks/${stack.Id}`,
      now,
      sleep: deps.sleep ?? sleep,
    };
    const { data: info } = await api.docker.json({ path: "/info" }, engineInfo, signal);
    const swarm = info?.Swarm;
    if (swarm?.LocalNodeState === "active" && swarm.ControlAvailable && swarm.Cluster) {
      return { docker: createSwarmEngine(context, cluster.options, swarm.Cluster.ID), context };
    }
    return { docker: createComposeEngine(context, cluster.options), context };
  }

  return {
    kind: "portainer",

    async deploy(spec, signal) {
      const backend = await connect(signal);
      if ("kubernetes" in backend) {
        refuseStack(spec);
        return await backend.kubernetes.deploy(spec, signal);
      }
      const { docker, context } = backend;
      const stack = await deployStack(context, docker, spec, signal);
      return {
        agentId: spec.agentId,
        name: spec.name,
        stackId: String(stack.Id),
        namespace: null,
        orchestrator: docker.orchestrator,
        endpointId,
        ...(spec.stack === undefined ? {} : { composed: true }),
      };
    },

    async update(ref, spec, signal) {
      const backend = await connect(signal);
      if ("kubernetes" in backend) {
        refuseStack(spec);
        return await backend.kubernetes.update(ref, spec, signal);
      }
      await updateStack(backend.context, backend.docker, spec, signal);
    },

    async promote(ref, spec, signal) {
      const backend = await connect(signal);
      if ("kubernetes" in backend) return await backend.kubernetes.promote(ref, spec, signal);
      await promoteStack(backend.context, backend.docker, spec, signal);
    },

    async abandon(ref, signal) {
      const backend = await connect(signal);
      if ("kubernetes" in backend) return await backend.kubernetes.abandon(ref, signal);
      await abandonCandidate(backend.context, backend.docker, ref, signal);
    },

    async scale(ref, spec, signal) {
      const backend = await connect(signal);
      if ("kubernetes" in backend) return await backend.kubernetes.scale(ref, spec, signal);
      await scaleStack(backend.context, backend.docker, spec, signal);
    },

    async restart(ref, spec, signal, request) {
      const backend = await connect(signal);
      if ("kubernetes" in backend) {
        return await backend.kubernetes.restart(ref, spec, signal, request);
      }
      const found = await stackIfOwn(backend.context, ref.name, ref.agentId, signal);
      await backend.docker.restart(spec, found?.stack ?? null, request, signal);
    },

    async start(ref, spec, signal) {
      const backend = await connect(signal);
      if ("kubernetes" in backend) return await backend.kubernetes.start(ref, spec, signal);
      await deployStack(backend.context, backend.docker, spec, signal);
    },

    async stop(ref, signal) {
      const backend = await connect(signal);
      if ("kubernetes" in backend) return await backend.kubernetes.stop(ref, signal);
      await stopStack(backend.context, ref.name, ref.agentId, signal);
    },

    async remove(ref, signal) {
      const backend = await connect(signal);
      if ("kubernetes" in backend) return await backend.kubernetes.remove(ref, signal);
      await removeStack(backend.context, backend.docker, ref, signal);
    },

    async inspect(ref, signal) {
      const backend = await connect(signal);
      if ("kubernetes" in backend) return await backend.kubernetes.inspect(ref, signal);
      const { docker, context } = backend;
      const found = await stackIfOwn(context, ref.name, ref.agentId, signal);
      return await docker.inspect({ ...ref, namespace: null }, found?.stack ?? null, signal);
    },

    async logs(ref: WorkloadRef, containerId, options, signal) {
      const backend = await connect(signal);
      if ("kubernetes" in backend) {
        return await backend.kubernetes.logs(ref, containerId, options, signal);
      }
      const container = await backend.docker.locate(ref, containerId, signal);
      if (!container) return { lines: [], truncated: false };
      return await readDockerLogs(api, container, options, signal);
    },

    async metrics(ref, signal) {
      const backend = await connect(signal);
      if ("kubernetes" in backend) return await backend.kubernetes.metrics(ref, signal);
      return await backend.docker.metrics(ref, signal);
    },

    async examine(ref, request, signal) {
      const backend = await connect(signal);
      if ("kubernetes" in backend) return await backend.kubernetes.examine!(ref, request, signal);
      return await examineStack(api, backend.docker, ref, request, signal);
    },

    async health(signal) {
      const started = now();
      const limited = AbortSignal.any([signal, AbortSignal.timeout(HEALTH_TIMEOUT_MS)]);
      const answer = (rest: Partial<ClusterHealth>): ClusterHealth => ({
        status: "up",
        version: null,
        orchestrator: null,
        nodes: null,
        message: null,
        ...rest,
        responseTimeMs: now() - started,
      });
      let version: string | null = null;
      try {
        version = await api.version(limited);
        const endpoint = await api.endpoint(limited);
        const backend = await connect(limited);
        if ("kubernetes" in backend) {
          return answer({ ...(await backend.kubernetes.health(limited)), version });
        }
        const { data: info } = await api.docker.json(
          { path: "/info" },
          engineInfo.extend(engineSize.shape),
          limited,
        );
        const nodes = await listNodes(backend.docker, limited);
        const total = Math.max(1, info?.Swarm?.Nodes ?? 1);
        const down = endpoint.Status === 2;
        return answer({
          status: down ? "degraded" : "up",
          version,
          orchestrator: backend.docker.orchestrator,
          nodes: { ready: nodes?.filter(isReadyNode).length ?? total, total },
          figures: engineFigures(info, nodes),
          message: down ? "Portainer counts the environment as down." : null,
        });
      } catch (error) {
        if (signal.aborted && !(error instanceof OrchestratorError)) throw error;
        const message = error instanceof OrchestratorError
          ? error.message
          : "The cluster is not usable.";
        return answer({ status: "down", version, message });
      }
    },
  };

  /** The nodes of a Swarm, as far as Portainer shows them. */
  async function listNodes(docker: DockerEngine, signal: AbortSignal) {
    if (docker.swarmId === null) return null;
    const { data } = await api.docker.json(
      { path: "/nodes", accept: [403, 404] },
      swarmNodes,
      signal,
    );
    return data;
  }
}

/** Stack files are Docker's; the agents that Kubernetes runs are single workloads. */
function refuseStack(spec: WorkloadSpec): void {
  if (spec.stack === undefined) return;
  throw new OrchestratorError(
    "DEPLOYMENT_FAILED",
    "Stacks need Docker or Swarm; this environment is Kubernetes.",
    { retryable: false, details: { reason: "not_supported" } },
  );
}

function isReadyNode({ Status }: { Status?: { State: string } | null }): boolean {
  return Status?.State === "ready";
}

/** Portainer's administrators say it (PublicURL); else the engine's own address; else Portainer's host. */
function publicHost(cluster: ClusterConnection, endpoint: Endpoint): string {
  if (cluster.options.publicHost) return cluster.options.publicHost;
  if (endpoint.PublicURL !== "") {
    const text = endpoint.PublicURL.replace(/^[a-z]+:\/\//, "");
    return text.replace(/[:/].*$/, "");
  }
  if (endpoint.URL.startsWith("tcp://") && endpoint.Type === 1) {
    return endpoint.URL.slice("tcp://".length).replace(/[:/].*$/, "");
  }
  return new URL(cluster.url).hostname;
}
