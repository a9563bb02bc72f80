import { mapLimited } from "../concurrency.ts";
import { dockerStats, toContainerMetrics } from "../docker-stats.ts";
import type { ContainerMetrics } from "../types.ts";
import type { PortainerApi } from "./api.ts";
import { nodeHeader } from "./containers.ts";

export interface MeasuredContainer {
  id: string;
  name: string;
  node: string | null;
  limits: { cpu: number | null; memory: number | null };
}

/** One sample each. Docker takes a second over it, because it waits for a second reading: so all go at once. */
export async function readDockerMetrics(
  api: PortainerApi,
  containers: MeasuredContainer[],
  now: () => number,
  signal: AbortSignal,
): Promise<ContainerMetrics[]> {
  const samples = await mapLimited(containers, 16, async (container) => {
    const { data } = await api.docker.json(
      {
        path: `/containers/${encodeURIComponent(container.id)}/stats`,
        query: { stream: false },
        headers: nodeHeader(container.node),
        accept: [404, 409],
      },
      dockerStats,
      signal,
    );
    return data && toContainerMetrics(data, container, container.limits, now());
  });
  return samples.filter((sample) => sample !== null);
}
