import type { Container } from "./container.ts";
import type { Engine, Sample } from "./engine.ts";
import { delay } from "./time.ts";
import { rfc3339 } from "./units.ts";

const cores = navigator.hardwareConcurrency;
const totalMemory = Deno.systemMemoryInfo().total;

function cpuStats(sample: Sample | null) {
  const { cpuUser = 0, cpuSystem = 0 } = sample?.usage ?? {};
  return {
    cpu_usage: {
      total_usage: cpuUser + cpuSystem,
      usage_in_kernelmode: cpuSystem,
      usage_in_usermode: cpuUser,
    },
    ...(sample ? { system_cpu_usage: sample.systemCpu, online_cpus: cores } : {}),
    throttling_data: { periods: 0, throttled_periods: 0, throttled_time: 0 },
  };
}

/**
 * A reading in Docker's form for cgroup 2. Memory and processor time are the process's own, from the operating
 * system; network figures are what went through published ports, and are left out when there are none, as Docker
 * leaves them out for a container without a network.
 */
export function statsOf(container: Container, before: Sample | null, now: Sample | null) {
  const { usage } = now ?? {};
  const { rxBytes, txBytes, rxPackets, txPackets } = container.traffic;
  const network = {
    rx_bytes: rxBytes,
    rx_packets: rxPackets,
    rx_errors: 0,
    rx_dropped: 0,
    tx_bytes: txBytes,
    tx_packets: txPackets,
    tx_errors: 0,
    tx_dropped: 0,
  };
  return {
    read: now ? rfc3339(now.at) : "0001-01-01T00:00:00Z",
    preread: before ? rfc3339(before.at) : "0001-01-01T00:00:00Z",
    name: `/${container.name}`,
    id: container.id,
    num_procs: 0,
    pids_stats: usage ? { current: usage.threads } : {},
    storage_stats: {},
    blkio_stats: {
      io_service_bytes_recursive: null,
      io_serviced_recursive: null,
      io_queue_recursive: null,
      io_service_time_recursive: null,
      io_wait_time_recursive: null,
      io_merged_recursive: null,
      io_time_recursive: null,
      sectors_recursive: null,
    },
    cpu_stats: cpuStats(now),
    precpu_stats: cpuStats(before),
    memory_stats: usage
      ? {
        usage: usage.rss,
        limit: container.config.memory || totalMemory,
        stats: {
          anon: usage.anonymous,
          file: usage.file,
          shmem: usage.shared,
          active_anon: usage.anonymous,
          active_file: usage.file,
          inactive_anon: 0,
          inactive_file: 0,
        },
      }
      : {},
    ...(container.config.ports.length > 0 ? { networks: { eth0: network } } : {}),
  };
}

/** One reading of a container now; all empty when it does not run, as in Docker. */
export async function readStats(engine: Engine, container: Container) {
  const samples = container.isRunning ? await engine.samples(container) : null;
  return statsOf(container, samples?.before ?? null, samples?.now ?? null);
}

/** A reading each second for as long as the container exists. */
export async function* streamStats(engine: Engine, container: Container, signal: AbortSignal) {
  let before: Sample | null = null;
  while (!signal.aborted) {
    const samples = container.isRunning ? await engine.samples(container) : null;
    yield statsOf(container, before ?? samples?.before ?? null, samples?.now ?? null);
    before = samples?.now ?? null;
    if (container.state.status === "exited") return;
    await delay(1000, signal);
  }
}
