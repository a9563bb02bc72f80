/** Requests that the agent answered since it started, health probes not counted. */
export interface RequestFigures {
  total: number;
  failed: number;
  totalMs: number;
}

export interface HealthCheck {
  name: string;
  status: "passing" | "failing";
  response_time_ms: number;
}

export interface HealthReport {
  status: "healthy" | "unhealthy";
  uptime_seconds: number;
  checks: HealthCheck[];
  requests: { total: number; failed: number; average_response_time_ms: number | null };
}

const round = (value: number) => Math.round(value * 1000) / 1000;

async function timed(name: string, probe: () => Promise<boolean> | boolean): Promise<HealthCheck> {
  const began = performance.now();
  const ok = await probe();
  return {
    name,
    status: ok ? "passing" : "failing",
    response_time_ms: round(performance.now() - began),
  };
}

/** Builds the agent's report about itself; every figure is measured when it is asked for. */
export function createHealthReport(facts: {
  startedAt: number;
  requests: RequestFigures;
  heldBytes: number;
  isBroken: () => boolean;
}): { check(): Promise<HealthReport>; uptime(): number } {
  const uptime = () => round((performance.now() - facts.startedAt) / 1000);
  return {
    uptime,
    async check() {
      const checks = [
        await timed("http_health", () => !facts.isBroken()),
        await timed("event_loop", async () => {
          const began = performance.now();
          await new Promise((done) => setTimeout(done, 0));
          return performance.now() - began < 1000;
        }),
        await timed("memory", () => Deno.memoryUsage().rss >= facts.heldBytes),
      ];
      const { total, failed, totalMs } = facts.requests;
      return {
        status: checks.every((check) => check.status === "passing") ? "healthy" : "unhealthy",
        uptime_seconds: uptime(),
        checks,
        requests: {
          total,
          failed,
          average_response_time_ms: total === 0 ? null : round(totalMs / total),
        },
      };
    },
  };
}
