import type { AnswerOf } from "../contract/operations.ts";
import { ERROR_STATUS, isErrorCode } from "../contract/errors.ts";
import { operationWord } from "../contract/states.ts";
import { type AgentTopics, type AgentUpdate, followAgent } from "./agent-feed.ts";
import { Emitter } from "./emitter.ts";
import { AgentLaunchpadError } from "./error.ts";

type Operation = NonNullable<AnswerOf<"readAgent", 3>["agent"]["operation"]>;

/** How far a deployment, or any other operation of an agent, is. */
export interface DeploymentProgress {
  agentId: string;
  operationId: string;
  /** What is done: `deploy`, `update`, `scale` … */
  kind: string;
  status: Operation["status"];
  /** 0 to 100. */
  percentage: number;
  steps: Operation["steps"];
}

export interface DeploymentEvents {
  progress: DeploymentProgress;
  complete: DeploymentProgress;
  error: AgentLaunchpadError;
}

export interface WatchOptions {
  agentId: string;
  topics: AgentTopics | null;
  read: () => Promise<AnswerOf<"readAgent", 3>>;
  intervalMs: number;
  signal?: AbortSignal;
}

/**
 * The last operation of an agent as it goes on: `progress` with each step, then `complete` or `error`.
 * It ends by itself then; `close()` ends it before.
 */
export class DeploymentWatch extends Emitter<DeploymentEvents> {
  /** Fulfilled when the operation has succeeded, rejected with an AgentLaunchpadError when not. */
  readonly finished: Promise<DeploymentProgress>;
  readonly #agentId: string;
  readonly #stop = new AbortController();
  #settle!: { resolve(value: DeploymentProgress): void; reject(error: AgentLaunchpadError): void };
  #operationId = "";
  #told = "";
  #heard = 0;

  private constructor(agentId: string) {
    super();
    this.#agentId = agentId;
    this.finished = new Promise((resolve, reject) => this.#settle = { resolve, reject });
    // Who listens to `error` need not ask here too.
    this.finished.catch(() => {});
  }

  /** @throws AgentLaunchpadError AGENT_NOT_FOUND 404, INVALID_STATE 409 for an agent that nothing was ever done with */
  static async begin(options: WatchOptions): Promise<DeploymentWatch> {
    const { agentId, topics, read, intervalMs, signal } = options;
    const { operation } = (await read()).agent;
    if (operation === null) {
      throw new AgentLaunchpadError("INVALID_STATE", "Nothing was ever deployed of this agent", {
        status: 409,
        details: { agent_id: agentId },
      });
    }
    const watch = new DeploymentWatch(agentId);
    watch.#operationId = operation.operation_id;
    signal?.addEventListener("abort", () => watch.close());
    watch.#tell(operation);
    if (!watch.#stop.signal.aborted) {
      followAgent({
        agentId,
        topics,
        intervalMs,
        signal: watch.#stop.signal,
        look: async () => {
          const before = watch.#heard;
          const seen = (await read()).agent.operation;
          // What was heard meanwhile is newer.
          if (seen !== null && watch.#heard === before) watch.#tell(seen);
        },
        onUpdate: (update) => watch.#hear(update),
        onError: (error) => watch.#fail(error),
      });
    }
    return watch;
  }

  /** Stops watching; the operation goes on. */
  close(): void {
    if (this.#stop.signal.aborted) return;
    this.#stop.abort();
    this.#settle.reject(new AgentLaunchpadError("CLOSED", "The deployment is no longer watched"));
  }

  #hear({ table, record }: AgentUpdate): void {
    if (table !== "operations" || record?.id !== this.#operationId) return;
    this.#heard++;
    this.#tell({
      ...(record as unknown as Operation),
      operation_id: this.#operationId,
      status: operationWord(String(record.state)) as Operation["status"],
    });
  }

  #tell(operation: Operation): void {
    if (this.#stop.signal.aborted) return;
    if (operation.operation_id !== this.#operationId) {
      // Another one has begun since; the one that is watched must have ended, whatever its last word was.
      return this.#fail(
        new AgentLaunchpadError("INVALID_STATE", "Another operation of the agent has begun", {
          status: 409,
          details: { operation_id: operation.operation_id },
        }),
      );
    }
    const { kind, status, progress: percentage, steps, error } = operation;
    const now: DeploymentProgress = {
      agentId: this.#agentId,
      operationId: this.#operationId,
      kind,
      status,
      percentage,
      steps,
    };
    const said = JSON.stringify(now);
    if (said !== this.#told) this.emit("progress", now);
    this.#told = said;
    if (status === "completed") {
      this.#stop.abort();
      this.#settle.resolve(now);
      this.emit("complete", now);
    } else if (status === "failed" || status === "cancelled") {
      const code = error?.code ?? "DEPLOYMENT_FAILED";
      this.#fail(
        new AgentLaunchpadError(code, error?.message ?? `The operation was ${status}`, {
          status: isErrorCode(code) ? ERROR_STATUS[code] : 0,
          details: error?.details ?? null,
        }),
      );
    }
  }

  #fail(error: AgentLaunchpadError): void {
    if (this.#stop.signal.aborted) return;
    this.#stop.abort();
    this.#settle.reject(error);
    this.emit("error", error);
  }
}
