import type { MetricsRow } from "../contract/facts.ts";
import { type Measurement3, measurement3 } from "../contract/measurements.ts";
import type { AnswerOf } from "../contract/operations.ts";
import { type AgentTopics, followAgent } from "./agent-feed.ts";
import { Emitter } from "./emitter.ts";
import type { AgentLaunchpadError } from "./error.ts";

/** CPU in percent of the limit, memory in MB, network in bytes; null for what was not measured. */
export type StreamedMetrics = Measurement3 & { agentId: string };

export interface MetricsEvents {
  data: StreamedMetrics;
  /** What will not pass; the stream is over then. */
  error: AgentLaunchpadError;
  end: undefined;
}

export interface StreamOptions {
  agentId: string;
  topics: AgentTopics | null;
  read: () => Promise<AnswerOf<"readAgent", 3>>;
  intervalMs: number;
  signal?: AbortSignal;
}

/** Each measurement of an agent as it is made, until `close()`. */
export class MetricsStream extends Emitter<MetricsEvents> {
  readonly #agentId: string;
  readonly #stop = new AbortController();
  #told = "";

  constructor({ agentId, topics, read, intervalMs, signal }: StreamOptions) {
    super();
    this.#agentId = agentId;
    signal?.addEventListener("abort", () => this.close());
    const look = async () => {
      const { metrics } = (await read()).agent;
      const { uptime: _, ...measured } = metrics;
      this.#tell(measured);
    };
    const fail = (error: AgentLaunchpadError) => {
      if (this.#stop.signal.aborted) return;
      this.emit("error", error);
      this.close();
    };
    void look().catch(fail);
    followAgent({
      agentId,
      topics,
      intervalMs,
      signal: this.#stop.signal,
      look,
      onUpdate: ({ table, record }) => {
        if (table === "agent_metrics") this.#tell(measurement3(record as unknown as MetricsRow));
      },
      onError: fail,
    });
  }

  /** Ends it. */
  close(): void {
    if (this.#stop.signal.aborted) return;
    this.#stop.abort();
    this.emit("end", undefined);
  }

  #tell(measured: Measurement3): void {
    // Before the first measurement, and while the agent does not run, there is nothing to tell.
    if (measured.cpu_usage === null && measured.memory_usage === null) return;
    const said = JSON.stringify(measured);
    if (this.#stop.signal.aborted || said === this.#told) return;
    this.#told = said;
    this.emit("data", { agentId: this.#agentId, ...measured });
  }
}
