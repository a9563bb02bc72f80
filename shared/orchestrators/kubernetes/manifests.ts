import { OrchestratorError } from "../errors.ts";
import { parseQuantity } from "../quantities.ts";
import { AGENT_LABEL, REVISION_LABEL } from "../stack-file.ts";
import { checkEnvironment } from "../stack-variables.ts";
import type { ClusterOptions, WorkloadSpec } from "../types.ts";

/** The container's name in every pod. */
export const CONTAINER = "agent";
/** On a pod template: the restart it came from, so that the same one is not done twice. */
export const RESTART_ANNOTATION = "agent-launchpad/restart";
const PROGRESS_DEADLINE_SECONDS = 300;

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

/**
 * The objects of a workload as they are applied. `replicas` stands apart from the spec, since an autoscaler may have
 * moved it.
 */
export function manifests(
  spec: WorkloadSpec,
  options: ClusterOptions,
  replicas: number,
  restart: string | null,
): Manifest[] {
  checkEnvironment(spec.environment);
  const name = objectName(spec.name);
  const selector = { [AGENT_LABEL]: spec.agentId };
  const { labels, annotations } = partitionLabels(spec);
  const metadata = { name, labels, annotations };
  const result: Manifest[] = [
    {
      apiVersion: "v1",
      kind: "Secret",
      metadata,
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
        annotations: { ...annotations, [REVISION_LABEL]: String(spec.revision) },
      },
      spec: {
        replicas,
        selector: { matchLabels: selector },
        progressDeadlineSeconds: PROGRESS_DEADLINE_SECONDS,
        revisionHistoryLimit: 3,
        strategy: spec.strategy === "recreate" ? { type: "Recreate" } : {
          type: "RollingUpdate",
          rollingUpdate: { maxUnavailable: Math.max(1, spec.maxUnavailable), maxSurge: 1 },
        },
        template: {
          metadata: {
            labels,
            annotations: {
              // Pods read the Secret only when they start: a new revision has to roll them.
              [REVISION_LABEL]: String(spec.revision),
              ...(restart === null ? {} : { [RESTART_ANNOTATION]: restart }),
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
  if (spec.port !== null) {
    result.push({
      apiVersion: "v1",
      kind: "Service",
      metadata,
      spec: {
        type: options.serviceType ?? "ClusterIP",
        selector,
        ports: [{ name: "http", port: spec.port, targetPort: spec.port, protocol: "TCP" }],
      },
    });
  }
  const scaler = autoscaler(spec, metadata);
  if (scaler) result.push(scaler);
  return result;
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
  const probe = {
    httpGet: { path: check.path, port: "http" },
    periodSeconds: check.intervalSeconds,
    timeoutSeconds: check.timeoutSeconds,
    failureThreshold: check.retries,
  };
  const startPeriod = Math.min(5, check.intervalSeconds);
  return {
    startupProbe: {
      ...probe,
      periodSeconds: startPeriod,
      failureThreshold: Math.max(check.retries, Math.ceil(60 / startPeriod)),
    },
    readinessProbe: probe,
    livenessProbe: probe,
  };
}

function autoscaler(spec: WorkloadSpec, metadata: { name: string }): Manifest | null {
  const { scaling } = spec;
  if (!scaling) return null;
  const target = (resource: string, per: number | null) =>
    per === null ? [] : [{
      type: "Resource",
      resource: { name: resource, target: { type: "Utilization", averageUtilization: per } },
    }];
  return {
    apiVersion: "autoscaling/v2",
    kind: "HorizontalPodAutoscaler",
    metadata,
    spec: {
      scaleTargetRef: { apiVersion: "apps/v1", kind: "Deployment", name: metadata.name },
      minReplicas: scaling.minReplicas,
      maxReplicas: scaling.maxReplicas,
      metrics: [...target("cpu", scaling.targetCpu), ...target("memory", scaling.targetMemory)],
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
