import { z } from "zod";
import { OrchestratorError } from "../errors.ts";
import { nameTaken, workloadMissing } from "../failures.ts";
import { createLineCollector } from "../log-lines.ts";
import { parseQuantity } from "../../contract/quantities.ts";
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
import {
  CANDIDATE_ANNOTATION,
  type Color,
  COLOR_LABEL,
  coloredName,
  COLORS,
  CONTAINER,
  CONTENT_ANNOTATION,
  contentOf,
  frontManifests,
  KINDS,
  objectName,
  otherColor,
  RESTART_ANNOTATION,
  rolloutOf,
  setManifests,
  type SetOptions,
} from "./manifests.ts";
import {
  anyObject,
  colorOf,
  type Deployment,
  deployment,
  ownedBy,
  podList,
  podRevisionOf,
  presentPods,
  revisionOf,
  service,
  servicePorts,
  serviceUrl,
  setState,
} from "./state.ts";

const HEALTH_TIMEOUT_MS = 5_000;
/**
 * Removal in the order that leaves nothing to bring the rest back, and last of all what tells that there is something:
 * whoever comes after a removal that was cut off sees that it is not over.
 */
const REMOVAL = [
  "HorizontalPodAutoscaler",
  "Service",
  "ConfigMap",
  "Secret",
  "Deployment",
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

  /** The set of replicas that is reached, and one that stands ready to take over from it. */
  async function ownSets(name: string, agentId: string, signal: AbortSignal): Promise<Sets> {
    const found = await Promise.all(
      COLORS.map((color) => api.get("Deployment", coloredName(name, color), deployment, signal)),
    );
    const own = found.filter((one) => one !== null)
      .filter((one) => ownedBy(one, agentId) && !one.metadata.deletionTimestamp);
    // One that is alone is reached, whatever its mark says: whoever promoted it was killed before taking it off.
    const reached = own.find((one) => !isMarked(one)) ?? own[0] ?? null;
    return { reached, candidate: own.find((one) => one !== reached) ?? null };
  }

  /** Applying by force would take over whatever bears the name, so every object is looked at first. */
  async function checkNames(spec: WorkloadSpec, color: Color, signal: AbortSignal): Promise<void> {
    const plain = objectName(spec.name);
    if (plain === "") throw nameTaken(spec.name);
    await Promise.all(KINDS.map(async ({ kind }) => {
      const name = isOfSet(kind) ? coloredName(spec.name, color) : plain;
      const found = await api.get(kind, name, anyObject, signal);
      if (found && !ownedBy(found, spec.agentId)) throw nameTaken(spec.name);
    }));
  }

  async function applySet(spec: WorkloadSpec, set: SetOptions, signal: AbortSignal): Promise<void> {
    for (const manifest of await setManifests(spec, set)) {
      await api.apply(manifest, coloredName(spec.name, set.color), signal);
    }
  }

  async function applyFront(
    spec: WorkloadSpec,
    color: Color | null,
    signal: AbortSignal,
  ): Promise<void> {
    for (const manifest of frontManifests(spec, cluster.options, color)) {
      await api.apply(manifest, objectName(spec.name), signal);
    }
    if (!spec.scaling) await deleteOwn("HorizontalPodAutoscaler", spec, signal);
    if (spec.port === null) await deleteOwn("Service", spec, signal);
  }

  /** The revision that its pods are called, when they are what `spec` asks for already; else null. */
  async function unchangedPods(
    spec: WorkloadSpec,
    reached: Deployment,
    signal: AbortSignal,
  ): Promise<number | null> {
    const name = coloredName(spec.name, colorOf(reached));
    const secret = await api.get("Secret", name, anyObject, signal);
    const revision = podRevisionOf(reached);
    if (!secret || revision === null || !ownedBy(secret, spec.agentId)) return null;
    const content = secret.metadata.annotations?.[CONTENT_ANNOTATION];
    return content === await contentOf(spec, revision) ? revision : null;
  }

  /** Brings what is reached to `spec`, and takes a candidate away. */
  async function applyReached(
    spec: WorkloadSpec,
    before: Deployment | null,
    signal: AbortSignal,
  ): Promise<void> {
    const color = before ? colorOf(before) : "blue";
    await checkNames(spec, color, signal);
    await applySet(spec, {
      color,
      replicas: wantedReplicas(spec, before),
      restart: restartOf(before),
      podRevision: (before && await unchangedPods(spec, before, signal)) ?? spec.revision,
      selector: before?.spec.selector?.matchLabels ?? null,
      candidate: false,
    }, signal);
    await applyFront(spec, before && !isColored(before) ? null : color, signal);
    await deleteSet(spec, otherColor(color), signal);
  }

  /** Whether `spec` is to stand beside what is reached first. */
  async function goesBeside(
    spec: WorkloadSpec,
    reached: Deployment,
    signal: AbortSignal,
  ): Promise<boolean> {
    return spec.strategy === "blue-green" && reached.spec.replicas > 0 && spec.replicas > 0 &&
      // The Service could not tell pods from before there were two sets from the new ones.
      isColored(reached) && revisionOf(reached) !== spec.revision &&
      (await unchangedPods(spec, reached, signal)) === null;
  }

  async function bring(spec: WorkloadSpec, reached: Deployment, signal: AbortSignal) {
    if (!(await goesBeside(spec, reached, signal))) {
      return await applyReached(spec, reached, signal);
    }
    const color = otherColor(colorOf(reached));
    await checkNames(spec, color, signal);
    if (isMarked(reached)) await unmark(spec.name, colorOf(reached), signal);
    await applySet(spec, {
      color,
      replicas: wantedReplicas(spec, reached),
      restart: null,
      podRevision: spec.revision,
      selector: null,
      candidate: true,
    }, signal);
  }

  async function unmark(name: string, color: Color, signal: AbortSignal): Promise<void> {
    const metadata = { annotations: { [CANDIDATE_ANNOTATION]: null } };
    await patchDeployment(name, color, { metadata }, signal);
  }

  async function deleteOwn(
    kind: (typeof REMOVAL)[number],
    of: { agentId: string },
    signal: AbortSignal,
    only?: string,
  ): Promise<void> {
    for (const { metadata } of await api.list(kind, selector(of.agentId), signal)) {
      if (only !== undefined && metadata.name !== only) continue;
      await api.delete(kind, metadata.name, metadata.uid, signal);
    }
  }

  async function deleteSet(
    of: { agentId: string; name: string },
    color: Color,
    signal: AbortSignal,
  ): Promise<void> {
    for (const kind of REMOVAL.filter(isOfSet)) {
      await deleteOwn(kind, of, signal, coloredName(of.name, color));
    }
  }

  async function deploy(spec: WorkloadSpec, signal: AbortSignal): Promise<WorkloadRef> {
    const { reached } = await ownSets(spec.name, spec.agentId, signal);
    if (reached) await bring(spec, reached, signal);
    else await applyReached(spec, null, signal);
    const after = await ownSets(spec.name, spec.agentId, signal);
    return {
      agentId: spec.agentId,
      name: spec.name,
      stackId: after.reached?.metadata.uid || null,
      namespace: api.namespace,
      orchestrator: options.orchestrator,
      endpointId: cluster.endpointId,
    };
  }

  async function patchDeployment(
    name: string,
    color: Color,
    body: unknown,
    signal: AbortSignal,
    subresource = "",
    contentType = "application/merge-patch+json",
  ): Promise<void> {
    await api.http.send(
      {
        method: "PATCH",
        path: api.path("Deployment", coloredName(name, color)) + subresource,
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
      const { reached } = await ownSets(ref.name, ref.agentId, signal);
      if (!reached) throw workloadMissing(ref.name);
      if (reached.spec.replicas === 0) return;
      await bring(spec, reached, signal);
    },

    async promote(ref, spec, signal) {
      const { reached, candidate } = await ownSets(ref.name, ref.agentId, signal);
      if (!reached) throw workloadMissing(ref.name);
      const next = candidate ?? reached;
      if (revisionOf(next) !== spec.revision) return;
      const color = colorOf(next);
      if (candidate) {
        await checkNames(spec, color, signal);
        await applyFront(spec, color, signal);
        await deleteSet(spec, colorOf(reached), signal);
      }
      if (isMarked(next)) await unmark(ref.name, color, signal);
    },

    async abandon(ref, signal) {
      const { candidate } = await ownSets(ref.name, ref.agentId, signal);
      if (candidate) await deleteSet(ref, colorOf(candidate), signal);
    },

    async scale(ref, spec, signal) {
      const { reached, candidate } = await ownSets(ref.name, ref.agentId, signal);
      if (!reached) throw workloadMissing(ref.name);
      if (reached.spec.replicas === 0) return;
      const color = colorOf(reached);
      // First the bounds: an autoscaler with the old ones would undo the new count.
      const bounds = frontManifests(spec, cluster.options, color).find(({ kind }) =>
        kind === "HorizontalPodAutoscaler"
      );
      if (bounds) {
        await checkNames(spec, color, signal);
        await api.apply(bounds, objectName(spec.name), signal);
      } else await deleteOwn("HorizontalPodAutoscaler", ref, signal);
      await patchDeployment(
        ref.name,
        color,
        { spec: { replicas: spec.replicas } },
        signal,
        "/scale",
      );
      await patchDeployment(
        ref.name,
        color,
        { metadata: { annotations: { [REVISION_LABEL]: String(spec.revision) } } },
        signal,
      );
      if (candidate) await deleteSet(ref, colorOf(candidate), signal);
    },

    async restart(ref, spec, signal, request) {
      const { reached } = await ownSets(ref.name, ref.agentId, signal);
      if (!reached) throw workloadMissing(ref.name);
      const id = request?.id ?? new Date(now()).toISOString();
      if (restartOf(reached) === id) return;
      await patchDeployment(
        ref.name,
        colorOf(reached),
        {
          spec: {
            // Null takes what the other way of rolling out had said away.
            strategy: { rollingUpdate: null, ...rolloutOf(spec) },
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
      const { reached, candidate } = await ownSets(ref.name, ref.agentId, signal);
      if (!reached) throw workloadMissing(ref.name);
      if (candidate) await deleteSet(ref, colorOf(candidate), signal);
      if (reached.spec.replicas === 0) return;
      // With no replicas an autoscaler pauses by itself.
      const none = { spec: { replicas: 0 } };
      await patchDeployment(ref.name, colorOf(reached), none, signal, "/scale");
    },

    async remove(ref, signal) {
      for (const kind of REMOVAL) await deleteOwn(kind, ref, signal);
    },

    async inspect(ref, signal) {
      const { reached, candidate } = await ownSets(ref.name, ref.agentId, signal);
      if (!reached) return null;
      const [{ data: list }, exposed, scaler] = await Promise.all([
        api.http.json(
          {
            path: `/api/v1/namespaces/${encodeURIComponent(api.namespace)}/pods`,
            query: { labelSelector: selector(ref.agentId) },
          },
          podList,
          signal,
        ),
        api.get("Service", objectName(ref.name), service, signal),
        ref.autoscaled
          ? api.get(
            "HorizontalPodAutoscaler",
            objectName(ref.name),
            horizontalPodAutoscaler,
            signal,
          )
          : null,
      ]);
      const all = presentPods(list?.items ?? [], ref.agentId);
      const main = setState(reached, all, now());
      const second = candidate && setState(candidate, all, now());
      const inactive = main.desired === 0;
      const ports = servicePorts(exposed);
      return {
        ref: {
          ...ref,
          stackId: reached.metadata.uid || null,
          namespace: api.namespace,
          orchestrator: options.orchestrator,
          endpointId: cluster.endpointId,
        },
        status: inactive
          ? "inactive"
          : main.hopeless
          ? "failed"
          : main.done
          ? "active"
          : "deploying",
        revision: main.revision,
        desired: main.desired,
        ready: main.ready,
        settled: main.done && main.failure === null && second === null,
        candidate: second && {
          revision: second.revision,
          desired: second.desired,
          ready: second.ready,
          settled: second.done && second.failure === null,
          failed: second.hopeless,
          failure: second.failure,
        },
        containers: [
          ...main.containers,
          ...(second?.containers ?? []).map((one) => ({ ...one, candidate: true as const })),
        ],
        services: [
          { ...main.service, ports },
          ...(second ? [{ ...second.service, ports: [] }] : []),
        ],
        url: serviceUrl(exposed, cluster.options.publicHost ?? null),
        consoleUrl: options.consoleUrl(api.namespace, reached.metadata.name),
        failure: main.failure,
        ...(scaler && ownedBy(scaler, ref.agentId)
          ? { autoscaler: autoscalerState(scaler, main.containers, now()) }
          : {}),
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
      const { reached } = await ownSets(ref.name, ref.agentId, signal);
      return reached === null ? null : await examinePods(api, ref.agentId, signal);
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

interface Sets {
  reached: Deployment | null;
  candidate: Deployment | null;
}

/** Each set of replicas has its own; the others are there once, whichever set is reached. */
function isOfSet(kind: (typeof KINDS)[number]["kind"]): boolean {
  return kind === "Deployment" || kind === "Secret" || kind === "ConfigMap";
}

function isMarked(object: Deployment): boolean {
  return object.metadata.annotations?.[CANDIDATE_ANNOTATION] !== undefined;
}

/** Whether its pods say which set they are of. */
function isColored(object: Deployment): boolean {
  return object.spec.template.metadata?.labels?.[COLOR_LABEL] !== undefined;
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
