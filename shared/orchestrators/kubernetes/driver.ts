import { z } from "zod";
import { OrchestratorError } from "../errors.ts";
import { nameTaken, workloadMissing } from "../failures.ts";
import { createLineCollector } from "../log-lines.ts";
import { parseQuantity } from "../quantities.ts";
import { AGENT_LABEL, REVISION_LABEL } from "../stack-file.ts";
import { toNanoseconds } from "../timestamps.ts";
import type {
  ClusterConnection,
  ClusterHealth,
  ContainerMetrics,
  Orchestrator,
  OrchestratorKind,
  WorkloadRef,
  WorkloadSpec,
} from "../types.ts";
import { createKubernetesApi } from "./api.ts";
import { autoscalerState, horizontalPodAutoscaler } from "./autoscaler.ts";
import { examinePods } from "./examine.ts";
import { clusterFigures } from "./figures.ts";
import { CONTAINER, KINDS, manifests, objectName, RESTART_ANNOTATION } from "./manifests.ts";
import {
  anyObject,
  type Deployment,
  deployment,
  findFailure,
  isReady,
  ownedBy,
  podList,
  presentPods,
  revisionOf,
  rolledOut,
  service,
  servicePorts,
  serviceUrl,
  toContainerState,
} from "./state.ts";

const HEALTH_TIMEOUT_MS = 5_000;
/** Removal in the order that leaves nothing to bring the rest back. */
const REMOVAL = [
  "HorizontalPodAutoscaler",
  "Deployment",
  "Service",
  "ConfigMap",
  "Secret",
] as const;

export interface KubernetesDriverOptions {
  fetch: typeof fetch;
  now?: () => number;
  orchestrator: OrchestratorKind;
  upstream: string;
  baseUrl: string;
  headers: Record<string, string>;
  consoleUrl(namespace: string, name: string): string | null;
}

const podMetrics = z.object({
  items: z.array(z.object({
    metadata: z.object({ name: z.string() }),
    timestamp: z.string(),
    containers: z.array(z.object({
      name: z.string(),
      usage: z.record(z.string(), z.string()),
    })),
  })),
});

const nodeList = z.object({
  items: z.array(z.object({
    status: z.object({
      capacity: z.object({ cpu: z.string().nullish(), memory: z.string().nullish() }).nullish(),
      conditions: z.array(z.object({ type: z.string(), status: z.string() })).nullish(),
    }).nullish(),
  })),
});

/** Runs agents as Deployments, straight on the API server or through Portainer's proxy. */
export function createKubernetesDriver(
  cluster: ClusterConnection,
  options: KubernetesDriverOptions,
): Orchestrator {
  const api = createKubernetesApi(
    { ...options, timeoutMs: cluster.options.requestTimeoutMs ?? 30_000 },
    cluster.namespace ?? "default",
  );
  const now = options.now ?? Date.now;
  const selector = (agentId: string) => `${AGENT_LABEL}=${agentId}`;

  async function ownDeployment(
    name: string,
    agentId: string,
    signal: AbortSignal,
  ): Promise<Deployment | null> {
    const found = await api.get("Deployment", objectName(name), deployment, signal);
    return found && ownedBy(found, agentId) ? found : null;
  }

  /** Applying by force would take over whatever bears the name, so every object is looked at first. */
  async function checkNames(spec: WorkloadSpec, signal: AbortSignal): Promise<void> {
    const name = objectName(spec.name);
    if (name === "") throw nameTaken(spec.name);
    await Promise.all(KINDS.map(async ({ kind }) => {
      const found = await api.get(kind, name, anyObject, signal);
      if (found && !ownedBy(found, spec.agentId)) throw nameTaken(spec.name);
    }));
  }

  async function applyAll(
    spec: WorkloadSpec,
    replicas: number,
    restart: string | null,
    signal: AbortSignal,
  ): Promise<void> {
    const name = objectName(spec.name);
    for (const manifest of manifests(spec, cluster.options, replicas, restart)) {
      await api.apply(manifest, name, signal);
    }
    if (!spec.scaling) await deleteOwn("HorizontalPodAutoscaler", spec, signal);
    if (spec.port === null) await deleteOwn("Service", spec, signal);
  }

  async function deleteOwn(
    kind: (typeof REMOVAL)[number],
    of: { agentId: string },
    signal: AbortSignal,
  ): Promise<void> {
    for (const { metadata } of await api.list(kind, selector(of.agentId), signal)) {
      await api.delete(kind, metadata.name, metadata.uid, signal);
    }
  }

  async function deploy(spec: WorkloadSpec, signal: AbortSignal): Promise<WorkloadRef> {
    await checkNames(spec, signal);
    const before = await ownDeployment(spec.name, spec.agentId, signal);
    await applyAll(spec, wantedReplicas(spec, before), restartOf(before), signal);
    const after = await ownDeployment(spec.name, spec.agentId, signal);
    return {
      agentId: spec.agentId,
      name: spec.name,
      stackId: after?.metadata.uid || null,
      namespace: api.namespace,
      orchestrator: options.orchestrator,
      endpointId: cluster.endpointId,
    };
  }

  async function patchDeployment(
    name: string,
    body: unknown,
    signal: AbortSignal,
    subresource = "",
    contentType = "application/merge-patch+json",
  ): Promise<void> {
    await api.http.send(
      {
        method: "PATCH",
        path: api.path("Deployment", objectName(name)) + subresource,
        query: { fieldManager: "agent-launchpad" },
        contentType,
        body,
      },
      signal,
    );
  }

  return {
    kind: "kubernetes",
    deploy,

    async update(ref, spec, signal) {
      const before = await ownDeployment(ref.name, ref.agentId, signal);
      if (!before) throw workloadMissing(ref.name);
      if (before.spec.replicas === 0) return;
      await checkNames(spec, signal);
      await applyAll(spec, wantedReplicas(spec, before), restartOf(before), signal);
    },

    async scale(ref, spec, signal) {
      const before = await ownDeployment(ref.name, ref.agentId, signal);
      if (!before) throw workloadMissing(ref.name);
      if (before.spec.replicas === 0) return;
      // First the bounds: an autoscaler with the old ones would undo the new count.
      const bounds = manifests(spec, cluster.options, spec.replicas, null).find(({ kind }) =>
        kind === "HorizontalPodAutoscaler"
      );
      if (bounds) {
        await checkNames(spec, signal);
        await api.apply(bounds, objectName(spec.name), signal);
      } else await deleteOwn("HorizontalPodAutoscaler", ref, signal);
      await patchDeployment(ref.name, { spec: { replicas: spec.replicas } }, signal, "/scale");
      await patchDeployment(
        ref.name,
        { metadata: { annotations: { [REVISION_LABEL]: String(spec.revision) } } },
        signal,
      );
    },

    async restart(ref, spec, signal, request) {
      const before = await ownDeployment(ref.name, ref.agentId, signal);
      if (!before) throw workloadMissing(ref.name);
      const id = request?.id ?? new Date(now()).toISOString();
      if (restartOf(before) === id) return;
      await patchDeployment(
        ref.name,
        {
          spec: {
            strategy: spec.strategy === "recreate" ? { type: "Recreate", rollingUpdate: null } : {
              type: "RollingUpdate",
              rollingUpdate: { maxUnavailable: Math.max(1, spec.maxUnavailable) },
            },
            template: { metadata: { annotations: { [RESTART_ANNOTATION]: id } } },
          },
        },
        signal,
        "",
        "application/strategic-merge-patch+json",
      );
    },

    async start(_ref, spec, signal) {
      await deploy(spec, signal);
    },

    async stop(ref, signal) {
      const before = await ownDeployment(ref.name, ref.agentId, signal);
      if (!before) throw workloadMissing(ref.name);
      if (before.spec.replicas === 0) return;
      // With no replicas an autoscaler pauses by itself.
      await patchDeployment(ref.name, { spec: { replicas: 0 } }, signal, "/scale");
    },

    async remove(ref, signal) {
      for (const kind of REMOVAL) await deleteOwn(kind, ref, signal);
    },

    async inspect(ref, signal) {
      const name = objectName(ref.name);
      const found = await ownDeployment(ref.name, ref.agentId, signal);
      if (!found || found.metadata.deletionTimestamp) return null;
      const [{ data: list }, exposed, scaler] = await Promise.all([
        api.http.json(
          {
            path: `/api/v1/namespaces/${encodeURIComponent(api.namespace)}/pods`,
            query: { labelSelector: selector(ref.agentId) },
          },
          podList,
          signal,
        ),
        api.get("Service", name, service, signal),
        ref.autoscaled
          ? api.get("HorizontalPodAutoscaler", name, horizontalPodAutoscaler, signal)
          : null,
      ]);
      const pods = presentPods(list?.items ?? [], ref.agentId);
      const desired = found.spec.replicas;
      const inactive = desired === 0;
      const failed = inactive ? null : findFailure(found, pods, now());
      const done = rolledOut(found) && pods.length === desired;
      const hopeless = failed !== null && failed.code === "DEPLOYMENT_FAILED";
      return {
        ref: {
          ...ref,
          stackId: found.metadata.uid || null,
          namespace: api.namespace,
          orchestrator: options.orchestrator,
          endpointId: cluster.endpointId,
        },
        status: inactive ? "inactive" : hopeless ? "failed" : done ? "active" : "deploying",
        revision: revisionOf(found),
        desired,
        ready: pods.filter(isReady).length,
        settled: done && failed === null,
        containers: pods.map((one) => toContainerState(one, now())),
        services: [{
          id: found.metadata.uid,
          name,
          image: found.spec.template.spec.containers[0]?.image ?? "",
          replicas: {
            running: pods.filter(({ status }) => status.phase === "Running").length,
            desired,
          },
          ports: servicePorts(exposed),
        }],
        url: serviceUrl(exposed, cluster.options.publicHost ?? null),
        consoleUrl: options.consoleUrl(api.namespace, name),
        failure: failed,
        ...(scaler && ownedBy(scaler, ref.agentId) ? { autoscaler: autoscalerState(scaler) } : {}),
      };
    },

    async logs(ref, containerId, logOptions, signal) {
      const after = logOptions.since === undefined ? null : toNanoseconds(logOptions.since);
      const collector = createLineCollector({ after, limitBytes: logOptions.limitBytes });
      const path = `/api/v1/namespaces/${encodeURIComponent(api.namespace)}/pods/${
        encodeURIComponent(containerId)
      }`;
      const { data: pod } = await api.http.json({ path, accept: [404] }, anyObject, signal);
      if (!pod || !ownedBy(pod, ref.agentId)) return { lines: [], truncated: false };
      let received = 0;
      // The API server's own limit is set a little higher, so that ours says when there was more.
      const limit = logOptions.limitBytes + 64 * 1024;
      await api.http.stream(
        {
          path: `${path}/log`,
          query: {
            container: CONTAINER,
            timestamps: true,
            limitBytes: limit,
            // Whole seconds are all that it understands; the collector drops what was seen before.
            sinceTime: after === null ? undefined : wholeSecond(after),
            tailLines: logOptions.tail,
          },
          headers: { accept: "*/*" },
          // 400: the container has not started, 404: the pod is gone, 500: its node cannot be reached.
          accept: [400, 404, 500],
        },
        (chunk) => {
          received += chunk.length;
          return collector.push(null, chunk);
        },
        signal,
      );
      return collector.finish(received >= limit);
    },

    async metrics(ref, signal) {
      const root = `namespaces/${encodeURIComponent(api.namespace)}/pods`;
      const query = { labelSelector: selector(ref.agentId) };
      const { data } = await api.http.json(
        // 404: no metrics-server. 403: not for us. 503: it is there but not up.
        { path: `/apis/metrics.k8s.io/v1beta1/${root}`, query, accept: [403, 404, 503] },
        podMetrics,
        signal,
      );
      if (!data) return null;
      const { data: list } = await api.http.json(
        { path: `/api/v1/${root}`, query },
        podList,
        signal,
      );
      const limits = new Map(
        presentPods(list?.items ?? [], ref.agentId).map((one) => [
          one.metadata.name,
          one.spec.containers.find(({ name }) => name === CONTAINER)?.resources?.limits ?? {},
        ]),
      );
      return data.items.flatMap((item): ContainerMetrics[] => {
        const podLimits = limits.get(item.metadata.name);
        const usage = item.containers.find(({ name }) => name === CONTAINER)?.usage;
        if (!podLimits || !usage) return [];
        return [{
          containerId: item.metadata.name,
          containerName: item.metadata.name,
          timestamp: item.timestamp,
          cpuUsage: parseQuantity(usage["cpu"] ?? ""),
          cpuLimit: parseQuantity(podLimits["cpu"] ?? ""),
          memoryUsage: parseQuantity(usage["memory"] ?? ""),
          memoryLimit: parseQuantity(podLimits["memory"] ?? ""),
          networkRx: null,
          networkTx: null,
        }];
      });
    },

    async examine(ref, _request, signal) {
      const found = await ownDeployment(ref.name, ref.agentId, signal);
      return found === null ? null : await examinePods(api, ref.agentId, signal);
    },

    async health(signal) {
      const started = now();
      const limited = AbortSignal.any([signal, AbortSignal.timeout(HEALTH_TIMEOUT_MS)]);
      const answer = (rest: Partial<ClusterHealth>): ClusterHealth => ({
        status: "up",
        version: null,
        orchestrator: options.orchestrator,
        nodes: null,
        message: null,
        ...rest,
        responseTimeMs: now() - started,
      });
      try {
        const { data: version } = await api.http.json(
          { path: "/version" },
          z.object({ gitVersion: z.string().optional() }),
          limited,
        );
        const { data: nodes } = await api.http.json(
          // Nodes are the cluster's, not the namespace's: a narrow credential may not see them.
          { path: "/api/v1/nodes", accept: [403] },
          nodeList,
          limited,
        );
        const total = nodes?.items.length ?? 0;
        const ready = nodes?.items.filter(({ status }) =>
          status?.conditions?.some((one) =>
            one.type === "Ready" && one.status === "True"
          )
        ).length ?? 0;
        const health = answer({
          version: version?.gitVersion ?? null,
          status: nodes && ready < total ? "degraded" : "up",
          nodes: nodes ? { ready, total } : null,
          message: nodes && ready < total ? "Not every node is ready." : null,
        });
        return { ...health, figures: await clusterFigures(api, nodes, limited) };
      } catch (error) {
        const known = error instanceof OrchestratorError;
        if (signal.aborted && !known) throw error;
        return answer({
          status: "down",
          message: known ? error.message : "The cluster is not usable.",
        });
      }
    },
  };
}

function restartOf(object: Deployment | null): string | null {
  return object?.spec.template.metadata?.annotations?.[RESTART_ANNOTATION] ?? null;
}

/**
 * An autoscaler's count is kept within the bounds; applying ours would undo it, and leaving the field out would
 * give it up and set it to 1.
 */
function wantedReplicas(spec: WorkloadSpec, before: Deployment | null): number {
  if (!spec.scaling || !before || before.spec.replicas === 0) return spec.replicas;
  const { minReplicas, maxReplicas } = spec.scaling;
  return Math.min(maxReplicas, Math.max(minReplicas, before.spec.replicas));
}

function wholeSecond(nanoseconds: bigint): string {
  return new Date(Number(nanoseconds / 1_000_000_000n) * 1000).toISOString().replace(".000Z", "Z");
}
