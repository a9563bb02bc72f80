import { z } from "zod";
import {
  type ContainerPosture,
  type Examination,
  looksSecret,
  toSeverity,
  type VulnerabilityReport,
} from "../posture.ts";
import { AGENT_LABEL } from "../stack-file.ts";
import type { KubernetesApi } from "./api.ts";

const securityContext = z.object({
  runAsNonRoot: z.boolean().nullish(),
  runAsUser: z.number().nullish(),
  privileged: z.boolean().nullish(),
  capabilities: z.object({ add: z.array(z.string()).nullish() }).nullish(),
}).nullish();

const pods = z.object({
  items: z.array(z.object({
    metadata: z.object({
      name: z.string(),
      labels: z.record(z.string(), z.string()).nullish(),
      deletionTimestamp: z.string().nullish(),
      ownerReferences: z.array(z.object({ kind: z.string(), name: z.string() })).nullish(),
    }),
    spec: z.object({
      hostNetwork: z.boolean().nullish(),
      hostPID: z.boolean().nullish(),
      hostIPC: z.boolean().nullish(),
      securityContext,
      volumes: z.array(z.object({ hostPath: z.object({ path: z.string() }).nullish() })).nullish(),
      containers: z.array(z.object({
        name: z.string(),
        image: z.string().default(""),
        securityContext,
        resources: z.object({ limits: z.record(z.string(), z.string()).nullish() }).nullish(),
        env: z.array(z.object({ name: z.string(), value: z.string().nullish() })).nullish(),
      })),
    }),
    status: z.object({ phase: z.string().default("") }).nullish(),
  })),
});

type Pod = z.output<typeof pods>["items"][number];

const reports = z.object({
  items: z.array(z.object({
    metadata: z.object({
      labels: z.record(z.string(), z.string()).nullish(),
      annotations: z.record(z.string(), z.string()).nullish(),
    }),
    report: z.object({
      scanner: z.object({ name: z.string().default("Trivy"), version: z.string().default("") })
        .nullish(),
      vulnerabilities: z.array(z.object({
        vulnerabilityID: z.string(),
        severity: z.string().default(""),
        resource: z.string().default(""),
        installedVersion: z.string().default(""),
        fixedVersion: z.string().nullish(),
      })).nullish(),
    }),
  })),
});

type Report = z.output<typeof reports>["items"][number];

/** How the pods of an agent are set up, and what the cluster's own scanner (trivy-operator) reports of their images. */
export async function examinePods(
  api: KubernetesApi,
  agentId: string,
  signal: AbortSignal,
): Promise<Examination | null> {
  const { data } = await api.http.json(
    {
      path: `/api/v1/namespaces/${encodeURIComponent(api.namespace)}/pods`,
      query: { labelSelector: `${AGENT_LABEL}=${agentId}` },
    },
    pods,
    signal,
  );
  const present = (data?.items ?? []).filter(({ metadata, status }) =>
    metadata.labels?.[AGENT_LABEL] === agentId && !metadata.deletionTimestamp &&
    status?.phase !== "Failed" && status?.phase !== "Succeeded"
  );
  return {
    containers: present.flatMap(posturesOf),
    vulnerabilities: await readReports(api, present, signal),
  };
}

function posturesOf({ metadata, spec }: Pod): ContainerPosture[] {
  const several = spec.containers.length > 1;
  return spec.containers.map((container) => {
    const own = container.securityContext;
    const user = own?.runAsUser ?? spec.securityContext?.runAsUser;
    const nonRoot = own?.runAsNonRoot ?? spec.securityContext?.runAsNonRoot;
    const limits = container.resources?.limits ?? {};
    return {
      id: metadata.name,
      name: several ? `${metadata.name}/${container.name}` : metadata.name,
      image: container.image,
      root: user === null || user === undefined ? nonRoot !== true : user === 0,
      privileged: own?.privileged ?? false,
      capabilities: (own?.capabilities?.add ?? []).map((name) => name.replace(/^CAP_/, "")),
      memoryLimited: limits.memory !== undefined,
      cpuLimited: limits.cpu !== undefined,
      hostMounts: (spec.volumes ?? []).flatMap(({ hostPath }) => hostPath ? [hostPath.path] : []),
      hostNamespaces: [
        ...(spec.hostNetwork ? ["network"] : []),
        ...(spec.hostPID ? ["pid"] : []),
        ...(spec.hostIPC ? ["ipc"] : []),
      ],
      // What comes from a Secret has no value here.
      plainSecrets: (container.env ?? []).filter(({ value }) => value).map(({ name }) => name)
        .filter(looksSecret),
    };
  });
}

/** What a report is about: the ReplicaSet that made the pods. */
const SUBJECT = "trivy-operator.resource.name";
/** A longer name is no label; trivy-operator keeps it as an annotation then, and a digest as this label. */
const LONGEST_LABEL = 63;
const SUBJECT_DIGEST = `${SUBJECT}-hash`;

async function readReports(
  api: KubernetesApi,
  present: Pod[],
  signal: AbortSignal,
): Promise<VulnerabilityReport> {
  const owners = [
    ...new Set(
      present.flatMap(({ metadata }) => metadata.ownerReferences ?? []).map((one) => one.name),
    ),
  ];
  // The operator scans some time after a pod was made.
  const none = {
    available: false as const,
    reason: "trivy-operator has no report on all of this agent's pods yet.",
  };
  if (owners.length === 0) return none;
  const short = owners.filter((name) => name.length <= LONGEST_LABEL);
  // A report can have a thousand entries, and a namespace a thousand reports.
  const selectors = [
    ...(short.length > 0 ? [`${SUBJECT} in (${short.join(",")})`] : []),
    ...(short.length < owners.length ? [SUBJECT_DIGEST] : []),
  ];
  const found = await Promise.all(selectors.map((selector) => listReports(api, selector, signal)));
  if (found.includes(null)) {
    return { available: false, reason: "The cluster has no trivy-operator that we may read." };
  }
  const subjectOf = ({ metadata }: Report) =>
    metadata.labels?.[SUBJECT] ?? metadata.annotations?.[SUBJECT] ?? "";
  const own = found.flatMap((items) => items ?? []).filter((one) =>
    owners.includes(subjectOf(one))
  );
  if (!owners.every((name) => own.some((one) => subjectOf(one) === name))) return none;
  const { name, version } = own[0]!.report.scanner ?? { name: "Trivy", version: "" };
  return {
    available: true,
    scanner: `trivy-operator (${`${name} ${version}`.trim()})`,
    vulnerabilities: own.flatMap(({ report }) => report.vulnerabilities ?? []).map((one) => ({
      id: one.vulnerabilityID,
      severity: toSeverity(one.severity),
      package: one.resource,
      installed: one.installedVersion,
      fixed: one.fixedVersion || null,
    })),
  };
}

async function listReports(
  api: KubernetesApi,
  labelSelector: string,
  signal: AbortSignal,
): Promise<Report[] | null> {
  const namespace = encodeURIComponent(api.namespace);
  const { data } = await api.http.json(
    {
      path: `/apis/aquasecurity.github.io/v1alpha1/namespaces/${namespace}/vulnerabilityreports`,
      query: { labelSelector },
      accept: [403, 404],
    },
    reports,
    signal,
  );
  return data?.items ?? null;
}
