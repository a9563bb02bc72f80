import type { RealtimeChannel, SupabaseClient } from "@supabase/supabase-js";
import { AgentLaunchpadError } from "./error.ts";
import { pause } from "./transport.ts";

/** A change of a row that concerns an agent, as its private topic tells it. */
export interface AgentUpdate {
  agentId: string;
  table: "agents" | "deployments" | "operations" | "agent_metrics" | "container_events";
  operation: "INSERT" | "UPDATE" | "DELETE";
  record: Record<string, unknown> | null;
  old_record: Record<string, unknown> | null;
}

interface Listener {
  onUpdate(update: AgentUpdate): void;
  /** Whether updates come from now on. */
  onState(isLive: boolean): void;
  onError(error: AgentLaunchpadError): void;
}

type Joined = Promise<RealtimeChannel | null>;

interface Topic {
  listeners: Set<Listener>;
  isLive: boolean;
}

/** The private topics of agents, each joined once however many listen. */
export class AgentTopics {
  readonly #supabase: SupabaseClient;
  readonly #topics = new Map<string, Topic>();
  /** Null once it has been left; a channel that is still being left takes nobody in. */
  readonly #channels = new Map<string, Joined>();

  constructor(supabase: SupabaseClient) {
    this.#supabase = supabase;
  }

  /** @returns how to end it */
  listen(agentId: string, listener: Listener): () => void {
    let topic = this.#topics.get(agentId);
    if (topic === undefined) {
      topic = { listeners: new Set(), isLive: false };
      this.#topics.set(agentId, topic);
      this.#channels.set(agentId, this.#join(agentId, topic, this.#channels.get(agentId)));
    }
    const { listeners } = topic;
    listeners.add(listener);
    if (topic.isLive) listener.onState(true);
    return () => {
      if (!listeners.delete(listener) || listeners.size > 0) return;
      this.#topics.delete(agentId);
      const left = this.#leave(this.#channels.get(agentId));
      this.#channels.set(agentId, left);
      void left.then(() => {
        if (this.#channels.get(agentId) === left) this.#channels.delete(agentId);
      });
    };
  }

  async #leave(joined: Joined | undefined): Promise<null> {
    const channel = await joined;
    if (channel) await this.#supabase.removeChannel(channel);
    return null;
  }

  /** @returns the channel; null when nobody listens any more */
  async #join(agentId: string, topic: Topic, before: Joined | undefined): Joined {
    await before;
    // A private topic wants the token of the session, which is read anew.
    await this.#supabase.realtime.setAuth().catch(() => {});
    if (topic.listeners.size === 0) return null;
    const channel = this.#supabase.channel(`agent:${agentId}`, { config: { private: true } });
    channel.on("broadcast", { event: "*" }, ({ payload }) => {
      const { table, operation, record, old_record } = payload;
      for (const each of topic.listeners) {
        each.onUpdate({ agentId, table, operation, record, old_record });
      }
    });
    channel.subscribe((state, cause) => {
      topic.isLive = state === "SUBSCRIBED";
      for (const each of topic.listeners) {
        each.onState(topic.isLive);
        if (state === "CHANNEL_ERROR" || state === "TIMED_OUT") each.onError(refusal(cause));
      }
    });
    return channel;
  }
}

function refusal(cause: Error | undefined): AgentLaunchpadError {
  return new AgentLaunchpadError(
    "REAL_TIME_SUBSCRIPTION_FAILED",
    cause?.message ?? "Realtime cannot be joined",
    { cause },
  );
}

export interface FollowOptions {
  agentId: string;
  /** Null where there is no Realtime: then it is looked at regularly. */
  topics: AgentTopics | null;
  /** Reads over REST how the agent is. */
  look(): Promise<void>;
  onUpdate(update: AgentUpdate): void;
  /** What will not pass. */
  onError(error: AgentLaunchpadError): void;
  /** Between two looks where Realtime does not tell. */
  intervalMs: number;
  signal: AbortSignal;
}

/** Realtime may lose a message. */
const LIVE_INTERVAL_MS = 60_000;

/**
 * Follows an agent until the signal: over Realtime, looked at once more whenever that begins to tell,
 * and looked at regularly while it does not.
 */
export function followAgent(options: FollowOptions): void {
  const { agentId, topics, look, onUpdate, onError, intervalMs, signal } = options;
  let isLive = false;
  let wake = new AbortController();
  const leave = topics?.listen(agentId, {
    onUpdate,
    onState(now) {
      if (now === isLive) return;
      isLive = now;
      wake.abort();
    },
    // Until it can be joined the agent is looked at.
    onError: () => {},
  });
  signal.addEventListener("abort", () => {
    leave?.();
    wake.abort();
  });

  async function run(): Promise<void> {
    while (!signal.aborted) {
      await pause(isLive ? LIVE_INTERVAL_MS : intervalMs, wake.signal);
      if (signal.aborted) return;
      wake = new AbortController();
      try {
        await look();
      } catch (error) {
        const fault = error as AgentLaunchpadError;
        const passes = fault.status === 0 || fault.status === 429 || fault.status >= 500;
        if (!passes && !signal.aborted) return onError(fault);
        await pause((fault.retryAfter ?? 0) * 1000, signal);
      }
    }
  }
  void run();
}
