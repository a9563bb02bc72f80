import { z } from "zod";
import type { ClusterFigures } from "../types.ts";

/** What `GET /info` of a Docker engine tells of its size. */
export const engineSize = z.object({
  NCPU: z.number().nullish(),
  MemTotal: z.number().nullish(),
  Containers: z.number().nullish(),
  ContainersRunning: z.number().nullish(),
  ContainersPaused: z.number().nullish(),
  ContainersStopped: z.number().nullish(),
});

/** A node of a Swarm as far as health needs it. */
export const swarmNodes = z.array(z.object({
  Status: z.object({ State: z.string() }).nullish(),
  Description: z.object({
    Resources: z.object({ NanoCPUs: z.number().nullish(), MemoryBytes: z.number().nullish() })
      .nullish(),
  }).nullish(),
}));

/**
 * What the engine has; what its hosts use it does not tell. Of a Swarm with several nodes the engine
 * that answers knows the others' size but not their containers.
 */
export function engineFigures(
  size: z.output<typeof engineSize> | null,
  nodes: z.output<typeof swarmNodes> | null,
): ClusterFigures {
  if (nodes !== null && nodes.length > 1) {
    const resources = nodes.map(({ Description }) => Description?.Resources);
    const nanos = total(resources.map((each) => each?.NanoCPUs));
    return {
      pods: null,
      containers: null,
      cpu: { total: nanos === null ? null : nanos / 1e9, used: null },
      memory: { total: total(resources.map((each) => each?.MemoryBytes)), used: null },
    };
  }
  const all = size?.Containers ?? null;
  const running = size?.ContainersRunning ?? null;
  return {
    pods: null,
    containers: all === null || running === null
      ? null
      : { total: all, running, stopped: size?.ContainersStopped ?? null },
    cpu: { total: size?.NCPU ?? null, used: null },
    memory: { total: size?.MemTotal ?? null, used: null },
  };
}

function total(values: (number | null | undefined)[]): number | null {
  return values.every((value) => typeof value === "number")
    ? values.reduce<number>((sum, value) => sum + value!, 0)
    : null;
}
