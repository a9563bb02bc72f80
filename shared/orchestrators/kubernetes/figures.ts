import { z } from "zod";
import { parseQuantity } from "../../contract/quantities.ts";
import type { ClusterFigures } from "../types.ts";
import type { KubernetesApi } from "./api.ts";

/** A phase with more pods than this is not counted: the API server can only list them, not count. */
const MOST_PAGES = 5;
const PAGE = 200;

const quantities = z.object({ cpu: z.string().nullish(), memory: z.string().nullish() }).nullish();

/** Nodes as far as figures need them. */
export const nodeCapacities = z.object({
  items: z.array(z.object({ status: z.object({ capacity: quantities }).nullish() })),
});
type NodeCapacities = z.output<typeof nodeCapacities>;

const nodeUsages = z.object({ items: z.array(z.object({ usage: quantities })) });

const podCount = z.object({
  metadata: z.object({
    continue: z.string().nullish(),
    remainingItemCount: z.number().nullish(),
  }).nullish(),
  items: z.array(z.unknown()),
});

/** What the cluster has and uses; null for whatever the credential may not see or the cluster does not measure. */
export async function clusterFigures(
  api: KubernetesApi,
  nodes: NodeCapacities | null,
  signal: AbortSignal,
): Promise<ClusterFigures> {
  const [pods, usage] = await Promise.all([
    podFigures(api, signal).catch(() => null),
    api.http.json(
      { path: "/apis/metrics.k8s.io/v1beta1/nodes", accept: [403, 404] },
      nodeUsages,
      signal,
    ).then(({ data }) => data, () => null),
  ]);
  const capacity = nodes?.items.map(({ status }) => status?.capacity) ?? [];
  const used = usage?.items.map((item) => item.usage) ?? [];
  return {
    pods,
    containers: null,
    cpu: { total: sum(capacity, "cpu"), used: sum(used, "cpu") },
    memory: { total: sum(capacity, "memory"), used: sum(used, "memory") },
  };
}

function sum(
  all: z.output<typeof quantities>[],
  name: "cpu" | "memory",
): number | null {
  const values = all.map((each) => parseQuantity(each?.[name] ?? ""));
  if (values.length === 0 || values.includes(null)) return null;
  return values.reduce<number>((total, value) => total + value!, 0);
}

async function podFigures(
  api: KubernetesApi,
  signal: AbortSignal,
): Promise<ClusterFigures["pods"]> {
  const { data: first } = await api.http.json(
    { path: "/api/v1/pods", query: { limit: 1 }, accept: [403] },
    podCount,
    signal,
  );
  if (first === null) return null;
  const rest = first.metadata?.continue ? first.metadata.remainingItemCount : 0;
  if (rest === null || rest === undefined) return null;
  const total = first.items.length + rest;
  const [pending, failed, succeeded] = await Promise.all([
    podsInPhase(api, "Pending", signal),
    podsInPhase(api, "Failed", signal),
    podsInPhase(api, "Succeeded", signal),
  ]);
  return {
    total,
    running: pending === null || failed === null || succeeded === null
      ? null
      : Math.max(0, total - pending - failed - succeeded),
    pending,
    failed,
  };
}

/** With a selector the API server does not say how many remain, so they are counted page by page. */
async function podsInPhase(
  api: KubernetesApi,
  phase: string,
  signal: AbortSignal,
): Promise<number | null> {
  let number = 0;
  let from: string | undefined;
  for (let page = 0; page < MOST_PAGES; page++) {
    const { data } = await api.http.json(
      {
        path: "/api/v1/pods",
        query: {
          fieldSelector: `status.phase=${phase}`,
          limit: PAGE,
          ...(from === undefined ? {} : { continue: from }),
        },
      },
      podCount,
      signal,
    );
    number += data?.items.length ?? 0;
    from = data?.metadata?.continue || undefined;
    if (from === undefined) return number;
  }
  return null;
}
