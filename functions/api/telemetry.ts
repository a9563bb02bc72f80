/** Figures of this process in Prometheus' text format (seed 004's `/metrics`). */

const BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/** Methods with a series of their own: whoever asks may invent others, and each would make one more. */
const METHODS = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);

interface Histogram {
  buckets: number[];
  sum: number;
  count: number;
}

export interface RequestMeasure {
  method: string;
  /** The pattern, not the path: ids would make a series for each agent. */
  route: string;
  status: number;
  seconds: number;
}

const escape = (value: string) =>
  value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");

const labels = (pairs: Record<string, string>) =>
  `{${Object.entries(pairs).map(([name, value]) => `${name}="${escape(value)}"`).join(",")}}`;

/** Makes the counters of a process. */
export function createTelemetry(startedAt: Date) {
  const requests = new Map<string, number>();
  const durations = new Map<string, Histogram>();
  let active = 0;

  return {
    begin(): void {
      active++;
    },
    end(measure: RequestMeasure): void {
      active--;
      const { route, status, seconds } = measure;
      const method = METHODS.has(measure.method) ? measure.method : "other";
      const counted = labels({ method, route, status: String(status) });
      requests.set(counted, (requests.get(counted) ?? 0) + 1);
      const timed = JSON.stringify({ method, route });
      const histogram = durations.get(timed) ??
        { buckets: BUCKETS.map(() => 0), sum: 0, count: 0 };
      const slot = BUCKETS.findIndex((bound) => seconds <= bound);
      if (slot >= 0) histogram.buckets[slot]!++;
      histogram.sum += seconds;
      histogram.count++;
      durations.set(timed, histogram);
    },
    /** The exposition; `memoryBytes` is the resident set, null where it cannot be read. */
    render(version: string, memoryBytes: number | null): string {
      const lines = [
        "# HELP agent_launchpad_info Version of the service.",
        "# TYPE agent_launchpad_info gauge",
        `agent_launchpad_info${labels({ service: "api", version })} 1`,
        "# HELP process_start_time_seconds Start of the process in unix seconds.",
        "# TYPE process_start_time_seconds gauge",
        `process_start_time_seconds ${startedAt.getTime() / 1000}`,
      ];
      if (memoryBytes !== null) {
        lines.push(
          "# HELP process_resident_memory_bytes Resident memory of the process.",
          "# TYPE process_resident_memory_bytes gauge",
          `process_resident_memory_bytes ${memoryBytes}`,
        );
      }
      lines.push(
        "# HELP http_requests_in_flight Requests being answered.",
        "# TYPE http_requests_in_flight gauge",
        `http_requests_in_flight ${active}`,
        "# HELP http_requests_total Requests answered.",
        "# TYPE http_requests_total counter",
        ...[...requests].map(([series, count]) => `http_requests_total${series} ${count}`),
        "# HELP http_request_duration_seconds Time until the answer began.",
        "# TYPE http_request_duration_seconds histogram",
      );
      for (const [series, { buckets, sum, count }] of durations) {
        const { method, route } = JSON.parse(series) as { method: string; route: string };
        let cumulative = 0;
        buckets.forEach((number, index) => {
          cumulative += number;
          const bound = labels({ method, route, le: String(BUCKETS[index]) });
          lines.push(`http_request_duration_seconds_bucket${bound} ${cumulative}`);
        });
        const all = labels({ method, route });
        lines.push(
          `http_request_duration_seconds_bucket${labels({ method, route, le: "+Inf" })} ${count}`,
          `http_request_duration_seconds_sum${all} ${sum}`,
          `http_request_duration_seconds_count${all} ${count}`,
        );
      }
      return lines.join("\n") + "\n";
    },
  };
}
export type Telemetry = ReturnType<typeof createTelemetry>;
