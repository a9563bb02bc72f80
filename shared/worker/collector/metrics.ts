import { z } from "zod";
import type { ContainerMetrics, ContainerState } from "../../orchestrators/types.ts";

/** A row of `agent_metrics` without its agent. What could not be measured is null. */
export interface MetricsRow {
  timestamp: string;
  replicas: number;
  /** Cores in use and allowed, all containers together. */
  cpu_usage: number | null;
  cpu_limit: number | null;
  /** Bytes. */
  memory_usage: number | null;
  memory_limit: number | null;
  /** Bytes since the containers started. */
  network_rx: number | null;
  network_tx: number | null;
  requests_total: number | null;
  requests_failed: number | null;
  requests_per_minute: number | null;
  /** Failed requests per request since the last measurement. */
  error_rate: number | null;
  response_time_ms: number | null;
  containers: { id: string; name: string; cpu_usage: number | null; memory_usage: number | null }[];
}

/** What the next measurement needs of this one: each container's request counters, when they were read, and the rates. */
export interface RequestCounters {
  /** Time of the newest report. */
  at: string;
  requests_per_minute: number | null;
  error_rate: number | null;
  containers: { [id: string]: { total: number; failed: number; started: string | null } };
}

const report = z.object({
  requests: z.object({
    total: z.number().int().nonnegative(),
    failed: z.number().int().nonnegative(),
    average_response_time_ms: z.number().nonnegative().nullish(),
  }),
});

/**
 * Sums one measurement over an agent's containers and derives rates from the counters the agents report of
 * themselves. A container that restarted begins counting anew.
 */
export function measure(
  samples: ContainerMetrics[],
  states: ContainerState[],
  before: RequestCounters | null,
  now: number,
): { row: MetricsRow; counters: RequestCounters | null } {
  const requests = requestsOf(states, before, now);
  return {
    row: {
      timestamp: new Date(now).toISOString(),
      replicas: samples.length,
      ...usageOf(samples),
      ...requests.figures,
      containers: samples.map((sample) => ({
        id: sample.containerId,
        name: sample.containerName,
        cpu_usage: sample.cpuUsage,
        memory_usage: sample.memoryUsage,
      })),
    },
    counters: requests.counters,
  };
}

/** What containers use and may use together. */
export function usageOf(samples: ContainerMetrics[]): Usage {
  return {
    cpu_usage: total(samples.map((sample) => sample.cpuUsage)),
    cpu_limit: limit(samples.map((sample) => sample.cpuLimit)),
    memory_usage: whole(total(samples.map((sample) => sample.memoryUsage))),
    memory_limit: whole(limit(samples.map((sample) => sample.memoryLimit))),
    network_rx: whole(total(samples.map((sample) => sample.networkRx))),
    network_tx: whole(total(samples.map((sample) => sample.networkTx))),
  };
}

type Usage = Pick<
  MetricsRow,
  "cpu_usage" | "cpu_limit" | "memory_usage" | "memory_limit" | "network_rx" | "network_tx"
>;

type RequestFigures = Pick<
  MetricsRow,
  "requests_total" | "requests_failed" | "requests_per_minute" | "error_rate" | "response_time_ms"
>;

function requestsOf(
  states: ContainerState[],
  before: RequestCounters | null,
  now: number,
): { figures: RequestFigures; counters: RequestCounters | null } {
  const reports = states.flatMap((state) => {
    const parsed = report.safeParse(state.healthOutput);
    return parsed.success ? [{ state, requests: parsed.data.requests }] : [];
  });
  if (reports.length === 0) {
    return {
      figures: {
        requests_total: null,
        requests_failed: null,
        requests_per_minute: null,
        error_rate: null,
        response_time_ms: null,
      },
      counters: null,
    };
  }
  const present = new Date(now).toISOString();
  const at = reports.map(({ state }) => state.healthCheckedAt ?? present).sort().at(-1)!;
  const totals = sumOf(reports.map(({ requests }) => requests));
  // Probes are rarer than measurements: until the agents report again, the last rates are what is known.
  const counters = before !== null && at <= before.at ? before : countersOf(reports, before, at);
  return {
    figures: {
      ...totals,
      requests_per_minute: counters.requests_per_minute,
      error_rate: counters.error_rate,
    },
    counters,
  };
}

type Report = { state: ContainerState; requests: z.infer<typeof report>["requests"] };

function sumOf(requests: Report["requests"][]) {
  let timed = 0;
  let spent = 0;
  for (const { total, average_response_time_ms: average } of requests) {
    if (typeof average !== "number") continue;
    timed += total;
    spent += average * total;
  }
  return {
    requests_total: requests.reduce((sum, { total }) => sum + total, 0),
    requests_failed: requests.reduce((sum, { failed }) => sum + failed, 0),
    response_time_ms: timed > 0 ? spent / timed : null,
  };
}

function countersOf(
  reports: Report[],
  before: RequestCounters | null,
  at: string,
): RequestCounters {
  const containers: RequestCounters["containers"] = {};
  let served = 0;
  let failed = 0;
  for (const { state, requests } of reports) {
    containers[state.id] = {
      total: requests.total,
      failed: requests.failed,
      started: state.startedAt,
    };
    const known = before?.containers[state.id];
    const continued = known !== undefined && known.started === state.startedAt &&
      requests.total >= known.total && requests.failed >= known.failed;
    served += requests.total - (continued ? known.total : 0);
    failed += requests.failed - (continued ? known.failed : 0);
  }
  const minutes = before === null ? 0 : (Date.parse(at) - Date.parse(before.at)) / 60_000;
  return {
    at,
    containers,
    requests_per_minute: minutes > 0 ? served / minutes : null,
    error_rate: minutes > 0 && served > 0 ? failed / served : null,
  };
}

/** Of what was measured; null when nothing was. */
function total(values: (number | null)[]): number | null {
  const known = values.filter((value) => value !== null);
  return known.length === 0 ? null : known.reduce((sum, value) => sum + value, 0);
}

/** One container without a limit makes the whole unlimited. */
function limit(values: (number | null)[]): number | null {
  return values.length === 0 || values.includes(null) ? null : total(values);
}

function whole(value: number | null): number | null {
  return value === null ? null : Math.round(value);
}
