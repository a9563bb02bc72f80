/** Measurements of an agent in the units that the references show. */
import type { MetricsRow } from "./facts.ts";

const MEBIBYTE = 1024 * 1024;

/** A number with at most so many decimals. */
export function rounded(value: number, digits: number): number {
  const factor = 10 ** digits;
  return Math.round(value * factor) / factor;
}

/** Share of the limit in percent with one decimal; null when either is unknown. */
export function percentOf(usage: number | null, limit: number | null): number | null {
  if (usage === null || limit === null || limit <= 0) return null;
  return rounded((usage / limit) * 100, 1);
}

/** Edition 3's unit of memory: bytes → MB of 1024 × 1024, so that `1Gi` is 1024. */
export function megabytes(bytes: number | null): number | null {
  return bytes === null ? null : rounded(bytes / MEBIBYTE, 1);
}

/** A type and no interface, so that it counts as JSON. */
export type Measurement3 = Record<
  | "cpu_usage"
  | "memory_usage"
  | "memory_limit"
  | "network_rx"
  | "network_tx"
  | "requests_per_minute"
  | "error_rate",
  number | null
>;

/**
 * What seed 000 shows of one measurement, wherever it does: CPU in percent of the limit, memory in MB, network in bytes
 * since the containers started, errors as a share of 1. Null for what was not measured.
 */
export function measurement3(metrics: MetricsRow | null): Measurement3 {
  const { cpu_usage = null, cpu_limit = null, requests_per_minute = null, error_rate = null } =
    metrics ?? {};
  return {
    cpu_usage: percentOf(cpu_usage, cpu_limit),
    memory_usage: megabytes(metrics?.memory_usage ?? null),
    memory_limit: megabytes(metrics?.memory_limit ?? null),
    network_rx: metrics?.network_rx ?? null,
    network_tx: metrics?.network_tx ?? null,
    requests_per_minute: requests_per_minute === null ? null : rounded(requests_per_minute, 1),
    error_rate: error_rate === null ? null : rounded(error_rate, 4),
  };
}
