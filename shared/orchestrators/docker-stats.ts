import { z } from "zod";
import type { ContainerMetrics } from "./types.ts";

const cpuStats = z.object({
  cpu_usage: z.object({
    total_usage: z.number().optional(),
    percpu_usage: z.array(z.number()).nullish(),
  }).optional(),
  system_cpu_usage: z.number().optional(),
  online_cpus: z.number().optional(),
}).optional();

/** `GET /containers/{id}/stats?stream=false`, as far as it is read. */
export const dockerStats = z.object({
  read: z.string().optional(),
  cpu_stats: cpuStats,
  precpu_stats: cpuStats,
  memory_stats: z.object({
    usage: z.number().optional(),
    limit: z.number().optional(),
    stats: z.record(z.string(), z.number()).nullish(),
  }).optional(),
  networks: z.record(z.string(), z.object({ rx_bytes: z.number(), tx_bytes: z.number() }))
    .nullish(),
});

export type DockerStats = z.output<typeof dockerStats>;

/**
 * Cores in use between two samples: (Δcontainer ÷ Δsystem) × CPUs. Null while there is only one sample; an engine
 * fills `precpu_stats` with zeros then, and a difference from zero would be the average since boot.
 */
export function cpuCores(stats: DockerStats): number | null {
  const now = stats.cpu_stats;
  const before = stats.precpu_stats;
  const total = now?.cpu_usage?.total_usage;
  const system = now?.system_cpu_usage;
  const totalBefore = before?.cpu_usage?.total_usage;
  const systemBefore = before?.system_cpu_usage;
  if (!total || !system || totalBefore === undefined || !systemBefore) return null;
  const elapsed = system - systemBefore;
  const used = total - totalBefore;
  if (elapsed <= 0 || used < 0) return null;
  const cpus = now?.online_cpus || now?.cpu_usage?.percpu_usage?.length || 1;
  return (used / elapsed) * cpus;
}

/** Bytes in use without what the kernel can drop: the page cache (`cache`, cgroup 1 only) or inactive files (cgroup 2). */
export function memoryBytes(stats: DockerStats): number | null {
  const usage = stats.memory_stats?.usage;
  if (usage === undefined) return null;
  const details = stats.memory_stats?.stats ?? {};
  const cache = details["cache"] ?? details["inactive_file"] ?? 0;
  return cache < usage ? usage - cache : usage;
}

/** The sample of one container; `limits` come from its configuration, since stats give the host's for "unlimited". */
export function toContainerMetrics(
  stats: DockerStats,
  container: { id: string; name: string },
  limits: { cpu: number | null; memory: number | null },
  now: number,
): ContainerMetrics {
  const networks = stats.networks ? Object.values(stats.networks) : null;
  const read = stats.read && !stats.read.startsWith("0001-") ? stats.read : null;
  return {
    containerId: container.id,
    containerName: container.name,
    timestamp: read ?? new Date(now).toISOString(),
    cpuUsage: cpuCores(stats),
    cpuLimit: limits.cpu,
    memoryUsage: memoryBytes(stats),
    memoryLimit: limits.memory,
    networkRx: networks && networks.reduce((sum, network) => sum + network.rx_bytes, 0),
    networkTx: networks && networks.reduce((sum, network) => sum + network.tx_bytes, 0),
  };
}
