import { countRealtimeConnections, probeRealtime } from "./realtime-probe.ts";
import { probeRedis } from "./redis-probe.ts";
import { type Measured, type ServiceName, statusOfAnswer } from "./status.ts";

/** What a probe found, before it is timed. */
export type Finding =
  | {
    is: "working";
    details?: Measured["details"];
    /** What the answer took, where the probe asked for details afterwards. */
    milliseconds?: number;
  }
  | { is: "failing" }
  | { is: "absent" };

export interface ServiceProbeOptions {
  projectUrl: string;
  /** A key of the project, for the gateway. */
  apiKey: string;
  /** The project's secret key; without it nobody tells how many connections Realtime has. */
  secretKey?: string | null;
  /** Base address of the container registry; null: none is watched. */
  registryUrl: string | null;
  /** `redis://` or `rediss://` with credentials; null: there is none. */
  redisUrl: string | null;
  /** Longest that one probe may take, in milliseconds. */
  timeoutMs?: number;
  fetch?: typeof fetch;
}

export type ServiceMeasures = Record<ServiceName, Measured>;

/** Measures all services side by side. It never throws: what fails is `unhealthy`. */
export type ServiceProbes = () => Promise<ServiceMeasures>;

/** A probe that takes no longer than this says that the service is away. */
const TIMEOUT_MS = 3000;

/** Makes the measurement of the project's services, as its clients reach them: through the gateway. */
export function createServiceProbes(options: ServiceProbeOptions): ServiceProbes {
  const { projectUrl, apiKey, registryUrl, redisUrl } = options;
  const send = options.fetch ?? fetch;
  const timeoutMs = options.timeoutMs ?? TIMEOUT_MS;

  async function http(
    url: string,
    signal: AbortSignal,
    judge: (response: Response) => Finding,
  ): Promise<Finding> {
    const response = await send(url, { headers: { apikey: apiKey }, signal });
    await response.body?.cancel();
    return judge(response);
  }

  /** Kong and the local stack say 404 or 501 for a service that a project does not have. */
  const unlessAbsent = ({ ok, status }: Response): Finding =>
    ok
      ? { is: "working" }
      : status === 404 || status === 501
      ? { is: "absent" }
      : { is: "failing" };

  const probes: Record<ServiceName, (signal: AbortSignal) => Promise<Finding>> = {
    auth: (signal) =>
      http(
        `${projectUrl}/auth/v1/health`,
        signal,
        ({ ok }) => ({ is: ok ? "working" : "failing" }),
      ),
    async realtime(signal) {
      const started = performance.now();
      const finding = await probeRealtime(projectUrl, apiKey, signal);
      if (finding.is !== "working" || !options.secretKey) return finding;
      const milliseconds = Math.round(performance.now() - started);
      const connections = await countRealtimeConnections(projectUrl, options.secretKey, send);
      return { ...finding, milliseconds, details: { connections } };
    },
    storage: (signal) => http(`${projectUrl}/storage/v1/status`, signal, unlessAbsent),
    // The function says 503 when the database is away; that it says so is what is asked here.
    functions: (signal) =>
      http(
        `${projectUrl}/functions/v1/api/-/health`,
        signal,
        ({ ok, headers }) => ({
          is: ok || headers.get("x-request-id") !== null ? "working" : "failing",
        }),
      ),
    // A registry that wants credentials is there.
    registry: async (signal) => {
      if (registryUrl === null) return { is: "absent" };
      const response = await send(`${registryUrl.replace(/\/$/, "")}/v2/`, { signal });
      await response.body?.cancel();
      return { is: response.ok || response.status === 401 ? "working" : "failing" };
    },
    redis: (signal) =>
      redisUrl === null ? Promise.resolve({ is: "absent" }) : probeRedis(redisUrl, signal),
  };

  async function measure(probe: (signal: AbortSignal) => Promise<Finding>): Promise<Measured> {
    const ended = new AbortController();
    const timer = setTimeout(() => ended.abort(), timeoutMs);
    const started = performance.now();
    let finding: Finding;
    try {
      finding = await probe(ended.signal);
    } catch {
      finding = { is: "failing" };
    } finally {
      clearTimeout(timer);
    }
    const milliseconds = finding.is === "working" && finding.milliseconds !== undefined
      ? finding.milliseconds
      : Math.round(performance.now() - started);
    const checked_at = new Date().toISOString();
    switch (finding.is) {
      case "working":
        return {
          status: statusOfAnswer(milliseconds),
          response_time_ms: milliseconds,
          checked_at,
          details: finding.details ?? {},
        };
      case "failing":
        return { status: "unhealthy", response_time_ms: null, checked_at, details: {} };
      case "absent":
        return { status: "unavailable", response_time_ms: null, checked_at, details: {} };
    }
  }

  return async () => {
    const measures = await Promise.all(
      Object.entries(probes).map(async ([name, probe]) => [name, await measure(probe)] as const),
    );
    return Object.fromEntries(measures) as ServiceMeasures;
  };
}
