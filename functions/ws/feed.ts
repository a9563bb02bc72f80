import { createClient, type RealtimeChannel } from "@supabase/supabase-js";
import {
  type Change,
  createStatusMemory,
  type EventMessage,
  MOST_AGENTS,
  type Row,
  SOURCES,
  toMessage,
} from "./events.ts";
import type { AgentChannel, Topic } from "./messages.ts";

export interface FeedOptions {
  projectUrl: string;
  publishableKey: string;
}

/** What one caller follows, through Realtime as the caller: row level security decides what comes. */
export interface Feed {
  /**
   * Resolves once changes are followed.
   *
   * @param agentId only of this agent
   * @throws Error with Realtime's words when it refuses
   */
  follow(topic: Topic, agentId: string | undefined): Promise<void>;
  /** The same for a channel that an agent has opened. */
  followChannel(channel: AgentChannel): Promise<void>;
  unfollowChannel(channel: AgentChannel): Promise<void>;
  /** Gives whether it was followed. */
  unfollow(topic: Topic, agentId: string | undefined): Promise<boolean>;
  /** From now on the caller has this token. */
  renew(token: string): Promise<void>;
  close(): Promise<void>;
}

export interface FeedEvents {
  onEvent(message: EventMessage): void;
  /** Realtime ended what was followed, for good. */
  onEnd(reason: string): void;
}

export type OpenFeed = (token: string, events: FeedEvents) => Feed;

const JOIN_TIMEOUT_MS = 10_000;
/** Rows that PostgREST gives at a time. */
const PAGE = 1000;

/** A feed for each caller over a Realtime connection of its own. */
export function createFeeds({ projectUrl, publishableKey }: FeedOptions): OpenFeed {
  return (token, events) => {
    let current = token;
    const client = createClient(projectUrl, publishableKey, {
      accessToken: () => Promise.resolve(current),
      auth: { persistSession: false, autoRefreshToken: false },
    });
    const channels = new Map<string, RealtimeChannel>();
    const nameOf = (topic: Topic, agentId: string | undefined) => `ws:${topic}:${agentId ?? "all"}`;
    let closed = false;

    /** Joins what was made ready; a channel that ends later is told, one that fails is forgotten. */
    async function join(name: string, channel: RealtimeChannel, hasChanges: boolean) {
      channels.set(name, channel);
      try {
        await joined(channel, hasChanges, (reason) => {
          channels.delete(name);
          if (!closed) events.onEnd(reason);
        });
      } catch (error) {
        channels.delete(name);
        await client.removeChannel(channel);
        throw error;
      }
    }

    async function leave(name: string): Promise<boolean> {
      const channel = channels.get(name);
      if (channel === undefined) return false;
      channels.delete(name);
      await client.removeChannel(channel);
      return true;
    }

    /** The newest agents that the caller sees, or the one. */
    async function visibleAgents(agentId: string | undefined): Promise<string[]> {
      const ids: string[] = [];
      for (let last = PAGE; last === PAGE && ids.length < MOST_AGENTS;) {
        const wanted = client.from("agents").select("id").order("created_at", { ascending: false });
        const { data, error } = await (agentId === undefined ? wanted : wanted.eq("id", agentId))
          .range(ids.length, ids.length + PAGE - 1);
        if (error !== null) throw new Error(`The agents could not be read: ${error.code}`);
        ids.push(...data.map(({ id }) => String(id)));
        last = data.length;
      }
      return ids;
    }

    const topicOf = ({ agentId, channel }: AgentChannel) => `agent:${agentId}:${channel}`;

    return {
      async follow(topic, agentId) {
        const name = nameOf(topic, agentId);
        if (channels.has(name)) return;
        await client.realtime.setAuth(current);
        const memory = createStatusMemory();
        if (SOURCES[topic].some(({ table }) => table === "agents")) {
          for (const id of await visibleAgents(agentId)) memory.learn(id);
        }
        const channel = client.channel(name);
        for (const { table, event } of SOURCES[topic]) {
          const column = table === "agents" ? "id" : "agent_id";
          const filter = {
            event: event as "*",
            schema: "public",
            table,
            ...(agentId !== undefined && { filter: `${column}=eq.${agentId}` }),
          };
          channel.on("postgres_changes", filter, (change: Change) => {
            const message = toMessage(topic, change, memory);
            if (message !== null) events.onEvent(message);
          });
        }
        await join(name, channel, true);
      },
      unfollow: (topic, agentId) => leave(nameOf(topic, agentId)),
      async followChannel(wanted) {
        const name = topicOf(wanted);
        if (channels.has(name)) return;
        await client.realtime.setAuth(current);
        const channel = client.channel(name, { config: { private: true } });
        channel.on("broadcast", { event: "*" }, ({ event, payload }) => {
          events.onEvent({
            type: "channel_event",
            channel: wanted.channel,
            agent_id: wanted.agentId,
            event,
            payload: (payload ?? {}) as Row,
            timestamp: new Date().toISOString(),
          });
        });
        await join(name, channel, false);
      },
      async unfollowChannel(wanted) {
        await leave(topicOf(wanted));
      },
      async renew(next) {
        current = next;
        await client.realtime.setAuth(next);
      },
      async close() {
        closed = true;
        await client.removeAllChannels();
        await client.realtime.disconnect();
      },
    };
  };
}

/**
 * Resolves when Realtime says that the channel is joined, or, with `hasChanges`, that changes are followed; later ends
 * are told to `onEnd`.
 */
function joined(
  channel: RealtimeChannel,
  hasChanges: boolean,
  onEnd: (reason: string) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let standing = false;
    let lastWords = "Realtime closed the channel";
    const fail = (reason: string) => {
      clearTimeout(timer);
      if (standing) return;
      reject(new Error(reason));
    };
    const timer = setTimeout(() => fail("Realtime did not answer in time"), JOIN_TIMEOUT_MS);
    const stand = () => {
      clearTimeout(timer);
      standing = true;
      resolve();
    };
    channel.on("system", {}, ({ status, message, extension }) => {
      if (status === "error") {
        lastWords = message;
        if (extension === "postgres_changes") fail(message);
      } else if (extension === "postgres_changes") stand();
    });
    channel.subscribe((status, error) => {
      if (status === "SUBSCRIBED" && !hasChanges) stand();
      // Realtime joins again by itself after an interrupted connection; a closed channel stays closed.
      if (status === "CHANNEL_ERROR") fail(error?.message ?? lastWords);
      if (status === "CLOSED") {
        fail(lastWords);
        if (standing) onEnd(lastWords);
      }
    });
  });
}
