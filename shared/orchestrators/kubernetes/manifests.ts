import { OrchestratorError } from "../errors.ts";
import { parseQuantity } from "../../contract/quantities.ts";
import { AGENT_LABEL, REVISION_LABEL } from "../stack-file.ts";
import { checkEnvironment } from "../stack-variables.ts";
import type { ClusterOptions, WorkloadSpec } from "../types.ts";

/** The container's name in every pod. */
export const CONTAINER = "agent";
/** On a pod template: the restart it came from, so that the same one is not done twice. */
export const RESTART_ANNOTATION = "agent-launchpad/restart";
/**
 * On Deployment and pods: which of the two sets of replicas they are of, of which usually one is there. The Service's
 * selector names the one that is reached.
 */
export const COLOR_LABEL = "agent-launchpad.color";
/** On a Deployment that is not reached yet. */
export const CANDIDATE_ANNOTATION = "agent-launchpad/candidate";
/** On a Secret: tells two sets of replicas apart. Whoever may read it can read what it is made of as well. */
export const CONTENT_ANNOTATION = "agent-launchpad/content";
const PROGRESS_DEADLINE_SECONDS = 300;

export type Color = "blue" | "green";

export const COLORS = ["blue", "green"] as const satisfies Color[];

export function otherColor(color: Color): Color {
  return color === "blue" ? "green" : "blue";
}

/** Of Deployment, Secret and ConfigMap. The Service and the autoscaler keep the plain name whichever is reached. */
export function coloredName(name: string, color: Color): string {
  const plain = objectName(name);
  return color === "blue" ? plain : `${plain.slice(0, 57).replace(/-+$/, "")}-${color}`;
}

/** The kinds that make up a workload, in the order of creation. */
export const KINDS = [
  { kind: "Secret", apiVersion: "v1", resource: "secrets" },
  { kind: "ConfigMap", apiVersion: "v1", resource: "configmaps" },
  { kind: "Deployment", apiVersion: "apps/v1", resource: "deployments" },
  { kind: "Service", apiVersion: "v1", resource: "services" },
  {
    kind: "HorizontalPodAutoscaler",
    apiVersion: "autoscaling/v2",
    resource: "horizontalpodautoscalers",
  },
] as const;

export type Kind = (typeof KINDS)[number]["kind"];

export type Manifest = Record<string, unknown> & { kind: Kind };

/** Stack names may hold underscores, objects may not. */
export function objectName(name: string): string {
  return name.toLowerCase().replace(/[^a-z0-9-]+/g, "-").replace(/^[^a-z]+|-+$/g, "").slice(0, 63);
}

/** What else there is to say about a set of replicas. */
export interface SetOptions {
  color: Color;
  /** Stands apart from the spec, since an autoscaler may have moved it. */
  replicas: number;
  /** The restart that its pods came from. */
  restart: string | null;
  /** The revision that its pods are called; another one replaces them. */
  podRevision: number;
  /** The Deployment's selector, which nobody can change. */
  selector: Record<string, string> | null;
  candidate: boolean;
}

/** One set of replicas and what it needs, as they are applied. */
export async function setManifests(spec: WorkloadSpec, set: SetOptions): Promise<Manifest[]> {
  checkEnvironment(spec.environment);
  const name = coloredName(spec.name, set.color);
  const { labels, annotations } = partitionLabels(spec);
  const colored = { ...labels, [COLOR_LABEL]: set.color };
  const metadata = { name, labels: colored, annotations };
  return [
    {
      apiVersion: "v1",
      kind: "Secret",
      metadata: {
        ...metadata,
        annotations: {
          ...annotations,
          [CONTENT_ANNOTATION]: await contentOf(spec, set.podRevision),
        },
      },
      type: "Opaque",
      // `stringData` is write-only: an applied removal would not be seen.
      data: Object.fromEntries(
        Object.entries(spec.environment).map(([key, value]) => [key, toBase64(value)]),
      ),
    },
    {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata,
      data: { AGENT_ID: spec.agentId, ...(spec.port === null ? {} : { PORT: String(spec.port) }) },
    },
    {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: {
        ...metadata,
        annotations: {
          ...annotations,
          [REVISION_LABEL]: String(spec.revision),
          ...(set.candidate ? { [CANDIDATE_ANNOTATION]: "true" } : {}),
        },
      },
      spec: {
        replicas: set.replicas,
        selector: {
          matchLabels: set.selector ?? { [AGENT_LABEL]: spec.agentId, [COLOR_LABEL]: set.color },
        },
        progressDeadlineSeconds: PROGRESS_DEADLINE_SECONDS,
        revisionHistoryLimit: 3,
        strategy: rolloutOf(spec),
        template: {
          metadata: {
            labels: colored,
            annotations: {
              // Pods read the Secret only when they start: a new revision has to roll them.
              [REVISION_LABEL]: String(set.podRevision),
              ...(set.restart === null ? {} : { [RESTART_ANNOTATION]: set.restart }),
            },
          },
          spec: {
            // An agent has no business with the cluster's API.
            automountServiceAccountToken: false,
            enableServiceLinks: false,
            containers: [container(spec, name)],
          },
        },
      },
    },
  ];
}

/** What leads to a set of replicas and scales it; null for the only one there is, which does not say its colour yet. */
export function frontManifests(
  spec: WorkloadSpec,
  options: ClusterOptions,
  color: Color | null,
): Manifest[] {
  const { labels, annotations } = partitionLabels(spec);
  const metadata = { name: objectName(spec.name), labels, annotations };
  const result: Manifest[] = [];
  if (spec.port !== null) {
    result.push({
      apiVersion: "v1",
      kind: "Service",
      metadata,
      spec: {
        type: options.serviceType ?? "ClusterIP",
        selector: {
          [AGENT_LABEL]: spec.agentId,
          ...(color === null ? {} : { [COLOR_LABEL]: color }),
        },
        ports: [{ name: "http", port: spec.port, targetPort: spec.port, protocol: "TCP" }],
      },
    });
  }
  const scaler = autoscaler(spec, metadata, coloredName(spec.name, color ?? "blue"));
  if (scaler) result.push(scaler);
  return result;
}

/** How a Deployment replaces its pods. */
export function rolloutOf(spec: WorkloadSpec): Record<string, unknown> {
  return spec.strategy === "recreate" ? { type: "Recreate" } : {
    type: "RollingUpdate",
    rollingUpdate: { maxUnavailable: Math.max(1, spec.maxUnavailable), maxSurge: 1 },
  };
}

/**
 * A digest of everything in which the pods of two specs can differ, and the revision that they are called: a Secret that
 * was written for pods which did not come any more says nothing about those that are there.
 */
export async function contentOf(spec: WorkloadSpec, podRevision: number): Promise<string> {
  const { image, command, environment, resources, port, healthCheck, labels } = spec;
  const sorted = (of: Record<string, unknown>) =>
    Object.entries(of).sort(([a], [b]) => (a < b ? -1 : 1));
  const text = JSON.stringify([
    image,
    command ?? null,
    sorted(environment),
    resources.cpu ?? null,
    resources.memory ?? null,
    port,
    healthCheck && sorted({ ...healthCheck }),
    sorted(labels),
  ]);
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return `${podRevision}:${toHex(new Uint8Array(digest))}`;
}

function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function container(spec: WorkloadSpec, name: string): Record<string, unknown> {
  const resources = limits(spec);
  return {
    name: CONTAINER,
    image: spec.image,
    ...(spec.command ? { args: spec.command } : {}),
    // The later one wins: an agent may set its own PORT.
    envFrom: [{ configMapRef: { name } }, { secretRef: { name } }],
    resources,
    ...(spec.port === null ? {} : { ports: [{ name: "http", containerPort: spec.port }] }),
    ...probes(spec),
    securityContext: { allowPrivilegeEscalation: false },
  };
}

function limits(spec: WorkloadSpec): Record<string, unknown> {
  const { cpu, memory } = spec.resources;
  for (const [resource, quantity] of [["cpu", cpu], ["memory", memory]] as const) {
    if (quantity === undefined || (parseQuantity(quantity) ?? 0) > 0) continue;
    throw new OrchestratorError("DEPLOYMENT_FAILED", `The ${resource} limit is not a quantity.`, {
      retryable: false,
      details: { reason: "invalid_resources", resource },
    });
  }
  const amounts = {
    ...(cpu === undefined ? {} : { cpu }),
    ...(memory === undefined ? {} : { memory }),
  };
  return Object.keys(amounts).length === 0 ? {} : { limits: amounts, requests: amounts };
}

/** Ready decides over traffic, live over the process; a start probe keeps the latter away from a slow start. */
function probes(spec: WorkloadSpec): Record<string, unknown> {
  const check = spec.healthCheck;
  if (!check || spec.port === null) return {};
  // Kubernetes knows whole seconds only, and none below 1.
  const whole = (amount: number) => Math.max(1, Math.ceil(amount));
  const probe = {
    httpGet: { path: check.path, port: "http" },
    periodSeconds: whole(check.intervalSeconds),
    timeoutSeconds: whole(check.timeoutSeconds),
    failureThreshold: whole(check.retries),
  };
  const startPeriod = Math.min(5, probe.periodSeconds);
  return {
    startupProbe: {
      ...probe,
      periodSeconds: startPeriod,
      failureThreshold: Math.max(probe.failureThreshold, Math.ceil(60 / startPeriod)),
    },
    readinessProbe: probe,
    livenessProbe: probe,
  };
}

function autoscaler(
  spec: WorkloadSpec,
  metadata: { name: string },
  target: string,
): Manifest | null {
  const { scaling } = spec;
  if (!scaling) return null;
  const metric = (resource: string, per: number | null) =>
    per === null ? [] : [{
      type: "Resource",
      resource: { name: resource, target: { type: "Utilization", averageUtilization: per } },
    }];
  return {
    apiVersion: "autoscaling/v2",
    kind: "HorizontalPodAutoscaler",
    metadata,
    spec: {
      scaleTargetRef: { apiVersion: "apps/v1", kind: "Deployment", name: target },
      minReplicas: scaling.minReplicas,
      maxReplicas: scaling.maxReplicas,
      metrics: [...metric("cpu", scaling.targetCpu), ...metric("memory", scaling.targetMemory)],
    },
  };
}

/** What does not fit the form of a label is kept as an annotation; ours come last, nobody sets them from outside. */
function partitionLabels(
  spec: WorkloadSpec,
): { labels: Record<string, string>; annotations: Record<string, string> } {
  const labels: Record<string, string> = {};
  const annotations: Record<string, string> = {};
  for (const [name, value] of Object.entries(spec.labels)) {
    if (!/^(?:[a-z0-9.-]{1,253}\/)?[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$/.test(name)) {
      continue;
    }
    if (/^agent-launchpad[./]|kubernetes\.io\/|k8s\.io\//.test(name)) continue;
    const fits = /^(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$/.test(value);
    (fits ? labels : annotations)[name] = value;
  }
  labels["app.kubernetes.io/name"] = objectName(spec.name);
  labels["app.kubernetes.io/managed-by"] = "agent-launchpad";
  labels[AGENT_LABEL] = spec.agentId;
  return { labels, annotations };
}

function toBase64(text: string): string {
  let binary = "";
  for (const byte of new TextEncoder().encode(text)) binary += String.fromCharCode(byte);
  return btoa(binary);
}
