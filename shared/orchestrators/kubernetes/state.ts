import { z } from "zod";
import { failure } from "../failures.ts";
import { AGENT_LABEL, REVISION_LABEL } from "../stack-file.ts";
import type {
  ContainerHealth,
  ContainerState,
  ContainerStatus,
  ServicePort,
  ServiceState,
  WorkloadFailure,
} from "../types.ts";
import { type Color, COLOR_LABEL, CONTAINER, RESTART_ANNOTATION } from "./manifests.ts";

const metadata = z.object({
  name: z.string(),
  uid: z.string().default(""),
  generation: z.number().optional(),
  creationTimestamp: z.string().optional(),
  deletionTimestamp: z.string().nullish(),
  labels: z.record(z.string(), z.string()).nullish(),
  annotations: z.record(z.string(), z.string()).nullish(),
});

const conditions = z.array(z.object({
  type: z.string(),
  status: z.string(),
  reason: z.string().optional(),
  message: z.string().optional(),
})).nullish();

export const deployment = z.object({
  metadata,
  spec: z.object({
    replicas: z.number().default(1),
    selector: z.object({ matchLabels: z.record(z.string(), z.string()).nullish() }).nullish(),
    template: z.object({
      metadata: z.object({
        labels: z.record(z.string(), z.string()).nullish(),
        annotations: z.record(z.string(), z.string()).nullish(),
      }).nullish(),
      spec: z.object({ containers: z.array(z.object({ image: z.string().default("") })) }),
    }),
  }),
  status: z.object({
    observedGeneration: z.number().optional(),
    replicas: z.number().default(0),
    updatedReplicas: z.number().default(0),
    readyReplicas: z.number().default(0),
    availableReplicas: z.number().default(0),
    conditions,
  }).default({ replicas: 0, updatedReplicas: 0, readyReplicas: 0, availableReplicas: 0 }),
});

export type Deployment = z.output<typeof deployment>;

const terminated = z.object({
  exitCode: z.number().default(0),
  reason: z.string().optional(),
  startedAt: z.string().nullish(),
  finishedAt: z.string().nullish(),
});

const pod = z.object({
  metadata,
  spec: z.object({
    containers: z.array(z.object({
      name: z.string(),
      image: z.string().default(""),
      resources: z.object({ limits: z.record(z.string(), z.string()).nullish() }).nullish(),
      readinessProbe: z.object({
        periodSeconds: z.number().default(10),
        timeoutSeconds: z.number().default(1),
        failureThreshold: z.number().default(3),
      }).nullish(),
    })),
  }),
  status: z.object({
    phase: z.string().default("Pending"),
    startTime: z.string().nullish(),
    conditions,
    // Null while the pod is pending.
    containerStatuses: z.array(z.object({
      name: z.string(),
      ready: z.boolean().default(false),
      started: z.boolean().nullish(),
      restartCount: z.number().default(0),
      state: z.object({
        waiting: z.object({ reason: z.string().optional() }).nullish(),
        running: z.object({ startedAt: z.string().nullish() }).nullish(),
        terminated: terminated.nullish(),
      }).nullish(),
      lastState: z.object({ terminated: terminated.nullish() }).nullish(),
    })).nullish(),
  }),
});

export const podList = z.object({ items: z.array(pod) });

export type Pod = z.output<typeof pod>;

export const service = z.object({
  metadata,
  spec: z.object({
    type: z.string().default("ClusterIP"),
    ports: z.array(z.object({
      port: z.number(),
      targetPort: z.union([z.number(), z.string()]).optional(),
      nodePort: z.number().optional(),
      protocol: z.string().default("TCP"),
    })).nullish(),
  }),
  status: z.object({
    loadBalancer: z.object({
      ingress: z.array(z.object({ ip: z.string().optional(), hostname: z.string().optional() }))
        .nullish(),
    }).nullish(),
  }).nullish(),
});

export type Service = z.output<typeof service>;

export const anyObject = z.object({ metadata });

export function ownedBy(object: { metadata: z.output<typeof metadata> }, agentId: string): boolean {
  return object.metadata.labels?.[AGENT_LABEL] === agentId;
}

export function revisionOf(object: Deployment): number | null {
  return wholeNumber(object.metadata.annotations?.[REVISION_LABEL]);
}

/** The revision that its pods are called: what runs may have been given a later one without being changed. */
export function podRevisionOf(object: Deployment): number | null {
  return wholeNumber(object.spec.template.metadata?.annotations?.[REVISION_LABEL]);
}

function wholeNumber(text: string | undefined): number | null {
  const value = Number(text ?? NaN);
  return Number.isInteger(value) ? value : null;
}

export function colorOf({ metadata: { labels } }: { metadata: z.output<typeof metadata> }): Color {
  return labels?.[COLOR_LABEL] === "green" ? "green" : "blue";
}

/** The controller has seen the present spec. */
function isObserved({ status, metadata }: Deployment): boolean {
  return (status.observedGeneration ?? 0) >= (metadata.generation ?? 0);
}

/** The controller has seen the present spec, and every replica is of it and available; nothing old is left. */
function rolledOut(object: Deployment): boolean {
  const { spec, status } = object;
  return isObserved(object) &&
    status.updatedReplicas === spec.replicas &&
    status.replicas === spec.replicas &&
    status.readyReplicas === spec.replicas &&
    status.availableReplicas === spec.replicas;
}

/** Pods that are being deleted keep running for a while; they no longer count. */
export function presentPods(pods: Pod[], agentId: string): Pod[] {
  return pods
    .filter((one) => ownedBy(one, agentId) && !one.metadata.deletionTimestamp)
    .filter(({ status }) => status.phase !== "Failed" && status.phase !== "Succeeded")
    .sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
}

/** One set of replicas. */
export interface SetState {
  revision: number | null;
  desired: number;
  ready: number;
  /** The rollout is over. */
  done: boolean;
  failure: WorkloadFailure | null;
  /** That waiting will not mend it. */
  hopeless: boolean;
  containers: ContainerState[];
  service: Omit<ServiceState, "ports">;
}

/** @param all the workload's pods, of both sets */
export function setState(object: Deployment, all: Pod[], now: number): SetState {
  const pods = all.filter((one) => colorOf(one) === colorOf(object));
  const desired = object.spec.replicas;
  const found = desired === 0 ? null : findFailure(object, pods, now);
  return {
    revision: revisionOf(object),
    desired,
    ready: pods.filter(isReady).length,
    done: rolledOut(object) && pods.length === desired,
    failure: found,
    hopeless: found?.code === "DEPLOYMENT_FAILED",
    containers: pods.map((one) => ({
      ...toContainerState(one, now),
      ...(isPresent(one, object) ? {} : { replaced: true as const }),
    })),
    service: {
      id: object.metadata.uid,
      name: object.metadata.name,
      image: object.spec.template.spec.containers[0]?.image ?? "",
      replicas: {
        running: pods.filter(({ status }) => status.phase === "Running").length,
        desired,
      },
    },
  };
}

function toContainerState(one: Pod, now: number): ContainerState {
  const status = one.status.containerStatuses?.find(({ name }) => name === CONTAINER);
  const running = status?.state?.running;
  const ended = status?.state?.terminated ?? (running ? null : status?.lastState?.terminated);
  const last = status?.state?.terminated ?? status?.lastState?.terminated;
  const container = one.spec.containers.find(({ name }) => name === CONTAINER);
  return {
    id: one.metadata.name,
    name: one.metadata.name,
    status: toStatus(one),
    health: toHealth(one, now),
    image: container?.image ?? "",
    startedAt: running?.startedAt ?? ended?.startedAt ?? null,
    finishedAt: running ? null : ended?.finishedAt ?? null,
    restartCount: status?.restartCount ?? 0,
    exitCode: running ? null : ended?.exitCode ?? null,
    oomKilled: last?.reason === "OOMKilled",
    // Kubernetes keeps no output of a probe.
    healthOutput: null,
    healthDurationMs: null,
    healthCheckedAt: null,
  };
}

/** Whether a pod is of the revision, and of the restart, that its Deployment asks for now. */
function isPresent(one: Pod, object: Deployment): boolean {
  const wanted = object.spec.template.metadata?.annotations;
  return [REVISION_LABEL, RESTART_ANNOTATION].every((name) =>
    one.metadata.annotations?.[name] === wanted?.[name]
  );
}

function isReady(one: Pod): boolean {
  return one.status.conditions?.some(({ type, status }) => type === "Ready" && status === "True") ??
    false;
}

function toStatus(one: Pod): ContainerStatus {
  const state = one.status.containerStatuses?.find(({ name }) => name === CONTAINER)?.state;
  if (state?.running) return "running";
  if (state?.terminated) return "exited";
  return state?.waiting?.reason === "CrashLoopBackOff" ? "restarting" : "created";
}

function toHealth(one: Pod, now: number): ContainerHealth | null {
  const probe = one.spec.containers.find(({ name }) => name === CONTAINER)?.readinessProbe;
  if (!probe) return null;
  if (isReady(one)) return "healthy";
  const status = one.status.containerStatuses?.find(({ name }) => name === CONTAINER);
  const startedAt = Date.parse(status?.state?.running?.startedAt ?? "");
  if (Number.isNaN(startedAt) || !status?.started) return "starting";
  // The first readiness probe comes after the start probe has passed.
  const patience = (probe.periodSeconds * probe.failureThreshold + probe.timeoutSeconds) * 1000;
  return now - startedAt < patience ? "starting" : "unhealthy";
}

/**
 * Why it is not getting there; null when nothing is known to be wrong. What the controller has not seen yet, and pods of
 * an earlier revision, which it is about to replace, say nothing of that.
 */
function findFailure(object: Deployment, all: Pod[], now: number): WorkloadFailure | null {
  if (!isObserved(object)) return null;
  const pods = all.filter((one) => isPresent(one, object));
  for (const one of pods) {
    const found = podFailure(one);
    if (found) return found;
  }
  const condition = (type: string) => object.status.conditions?.find((one) => one.type === type);
  const refused = condition("ReplicaFailure");
  if (refused?.status === "True") {
    return failure(/exceeded quota/i.test(refused.message ?? "") ? "quota" : "start_failed");
  }
  const progressing = condition("Progressing");
  if (progressing?.status === "False" && progressing.reason === "ProgressDeadlineExceeded") {
    return failure("progress_deadline");
  }
  const unhealthy = pods.find((one) => toHealth(one, now) === "unhealthy");
  return unhealthy ? failure("unhealthy", { container: unhealthy.metadata.name }) : null;
}

function podFailure(one: Pod): WorkloadFailure | null {
  const status = one.status.containerStatuses?.find(({ name }) => name === CONTAINER);
  const last = status?.lastState?.terminated ?? status?.state?.terminated;
  const about = { container: one.metadata.name, exitCode: last?.exitCode ?? null };
  switch (status?.state?.waiting?.reason) {
    case "ImagePullBackOff":
    case "InvalidImageName":
    case "ErrImageNeverPull":
      return failure("image_not_found", about);
    case "CrashLoopBackOff":
      return failure(last?.reason === "OOMKilled" ? "out_of_memory" : "crash_loop", about);
    case "CreateContainerConfigError":
    case "CreateContainerError":
    case "RunContainerError":
      return failure("start_failed", about);
  }
  const scheduled = one.status.conditions?.find(({ type }) => type === "PodScheduled");
  if (scheduled?.status === "False" && scheduled.reason === "Unschedulable") {
    return failure("no_capacity", { container: one.metadata.name });
  }
  return null;
}

export function servicePorts(one: Service | null): ServicePort[] {
  return (one?.spec.ports ?? []).map(({ port, targetPort, nodePort, protocol }) => ({
    published: one?.spec.type === "NodePort" ? nodePort ?? port : port,
    target: typeof targetPort === "number" ? targetPort : port,
    protocol: protocol === "UDP" ? "udp" : "tcp",
  }));
}

/** An address that works from outside the cluster; a ClusterIP has none. */
export function serviceUrl(one: Service | null, publicHost: string | null): string | null {
  const port = one?.spec.ports?.[0];
  if (!one || !port) return null;
  if (one.spec.type === "NodePort") {
    return publicHost && port.nodePort ? `http://${publicHost}:${port.nodePort}` : null;
  }
  const ingress = one.status?.loadBalancer?.ingress?.[0];
  const host = ingress?.hostname ?? ingress?.ip;
  return host ? `http://${host}:${port.port}` : null;
}
