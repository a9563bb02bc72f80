import type { JsonObject } from "../../../shared/contract/editions.ts";
import type { MetricsRow } from "../../../shared/contract/facts.ts";
import { megabytes, percentOf } from "../../../shared/contract/measurements.ts";
import { isoTime } from "../../../shared/contract/times.ts";
import type { Presenters } from "./presenter.ts";

interface Point {
  timestamp: string;
  value: number | null;
}

interface Series {
  current: number | null;
  average: number | null;
  max: number | null;
  min: number | null;
  data_points: Point[];
}

/** Answer of `supabase_usage`; null for what nobody counts. */
type SupabaseUsage = {
  database_connections: number | null;
  real_time_subscriptions: number | null;
  rls_queries_per_minute: number | null;
  auth_requests_per_hour: number | null;
};

const UNKNOWN_USAGE: SupabaseUsage = {
  database_connections: null,
  real_time_subscriptions: null,
  rls_queries_per_minute: null,
  auth_requests_per_hour: null,
};

/** Answer of `agent_metric_series` (CPU in percent of the limit, memory in bytes) and what was asked. */
export interface MetricsFacts {
  agentId: string;
  timeframe: string;
  interval: string;
  series: {
    cpu: Series;
    memory: Series & { limit: number | null };
    network: {
      rx_bytes: number | null;
      tx_bytes: number | null;
      rx_rate: number | null;
      tx_rate: number | null;
    };
    requests_per_minute: Series;
    error_rate: Series;
    response_time_ms: Series;
    latest: MetricsRow | null;
    /** Only where edition 2 is answered. */
    supabase?: SupabaseUsage | null;
  };
}

type Unit = (value: number | null) => number | null;

const asItIs: Unit = (value) => value;
const oneDecimal: Unit = (value) => value === null ? null : Math.round(value * 10) / 10;

function series3(series: Series, unit: Unit): JsonObject {
  return {
    current: unit(series.current),
    average: unit(series.average),
    max: unit(series.max),
    min: unit(series.min),
    data_points: series.data_points.map((point) => ({
      timestamp: isoTime(point.timestamp),
      value: unit(point.value),
    })),
  };
}

function succeeded(total: number | null, failed: number | null): number | null {
  return total === null || failed === null ? null : total - failed;
}

/** `GET /api/agents/{id}/metrics`. */
export const presentMetrics: Presenters<MetricsFacts> = {
  1: ({ agentId, series: { latest } }, { now }) => ({
    agentId,
    metrics: {
      cpu: {
        usage: latest?.cpu_usage ?? null,
        limit: latest?.cpu_limit ?? null,
        percentage: percentOf(latest?.cpu_usage ?? null, latest?.cpu_limit ?? null),
      },
      memory: {
        usage: latest?.memory_usage ?? null,
        limit: latest?.memory_limit ?? null,
        percentage: percentOf(latest?.memory_usage ?? null, latest?.memory_limit ?? null),
      },
      network: { bytesIn: latest?.network_rx ?? null, bytesOut: latest?.network_tx ?? null },
      requests: {
        total: latest?.requests_total ?? null,
        success: succeeded(latest?.requests_total ?? null, latest?.requests_failed ?? null),
        errors: latest?.requests_failed ?? null,
        // Per minute, as seed 000 names the same figure.
        rate: latest?.requests_per_minute ?? null,
        // Ours.
        error_rate: latest?.error_rate ?? null,
        response_time_ms: oneDecimal(latest?.response_time_ms ?? null),
      },
    },
    timestamp: isoTime(latest?.timestamp) ?? now.toISOString(),
  }),
  2: (facts, context) => {
    const first = presentMetrics[1](facts, context);
    const { series } = facts;
    return {
      ...first,
      user_id: context.userId,
      metrics: {
        ...(first.metrics as JsonObject),
        supabase: series.supabase ?? UNKNOWN_USAGE,
      },
    };
  },
  3: ({ series, timeframe, interval }) => ({
    metrics: {
      cpu: series3(series.cpu, oneDecimal),
      memory: {
        ...series3(series.memory, megabytes),
        limit: megabytes(series.memory.limit),
      },
      network: {
        rx_bytes: series.network.rx_bytes,
        tx_bytes: series.network.tx_bytes,
        rx_rate: oneDecimal(series.network.rx_rate),
        tx_rate: oneDecimal(series.network.tx_rate),
      },
      // Ours: what the agent says of its requests; null and no points when it says nothing.
      requests_per_minute: series3(series.requests_per_minute, oneDecimal),
      error_rate: series3(series.error_rate, asItIs),
      response_time_ms: series3(series.response_time_ms, oneDecimal),
    },
    timeframe,
    interval,
  }),
};
