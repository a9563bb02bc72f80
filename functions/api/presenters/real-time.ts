import type { JsonObject } from "../../../shared/contract/editions.ts";
import type { AgentRow, EmittedFacts, PlatformFacts } from "../../../shared/contract/facts.ts";
import type { JoinMessage } from "../realtime-service.ts";
import { inAllEditions } from "./presenter.ts";

type Configured = Pick<AgentRow, "id" | "supabase_config">;

/** Whether what happens to the agent reaches clients over Realtime; null where it is not known. */
export function isRealTimeActive(
  { supabase_config }: Pick<AgentRow, "supabase_config">,
  platform: PlatformFacts | null,
): boolean | null {
  if (platform === null) return null;
  return platform.realTimeActive && (supabase_config.real_time?.enabled ?? true);
}

/**
 * Where the agent's status is told: the name of its channel as seed 000 shows it, and the topic that
 * a client joins. An agent without open channels has its own topic, which carries all its changes.
 */
export function realTimeChannel({ id, supabase_config }: Configured) {
  const { enabled, channels } = supabase_config.real_time ?? {};
  const own = { real_time_channel: `agent:${id}`, real_time_topic: `agent:${id}` };
  if (enabled === false) return own;
  const open = channels ?? (enabled ? ["agent_status"] : []);
  const channel = open.includes("agent_status") ? "agent_status" : open[0];
  if (channel === undefined) return own;
  return { real_time_channel: channel, real_time_topic: `agent:${id}:${channel}` };
}

function emitted3(event: EmittedFacts): JsonObject {
  return { success: true, event: { ...event } };
}

/** `POST /api/agents/{id}/events`; none of the documents knows it. */
export const presentEmitted = inAllEditions<EmittedFacts>(emitted3);

/** Answer of `real_time_channel`. */
export type JoinableFacts =
  | { kind: "broadcast"; topic: string }
  | {
    kind: "postgres_changes";
    topic: string;
    schema: string;
    table: string;
    filter: string | null;
    event: string;
  };

export interface ChannelFacts {
  channel: JoinableFacts;
  /** Of Realtime's WebSocket. */
  url: string;
  /** The caller's own. */
  token: string;
  /** Unix milliseconds. */
  expiresAt: number;
}

/** Realtime ends a connection that says nothing for so long, twice over. */
const HEARTBEAT_SECONDS = 25;

/** What a client sends to join the channel. */
export function joinMessage(channel: JoinableFacts, token: string): JoinMessage {
  const isPrivate = channel.kind === "broadcast";
  const changes = isPrivate ? [] : [{
    event: channel.event,
    schema: channel.schema,
    table: channel.table,
    ...(channel.filter !== null && { filter: channel.filter }),
  }];
  return {
    topic: channel.topic,
    event: "phx_join",
    payload: {
      config: {
        broadcast: { ack: false, self: false },
        presence: { enabled: isPrivate, key: "" },
        postgres_changes: changes,
        private: isPrivate,
      },
      access_token: token,
    },
    ref: "1",
    join_ref: "1",
  };
}

function channel2({ channel, url, token, expiresAt }: ChannelFacts): JsonObject {
  return {
    topic: channel.topic,
    kind: channel.kind,
    status: "AVAILABLE",
    websocket_url: url,
    join: { ...joinMessage(channel, token) } as unknown as JsonObject,
    heartbeat: { topic: "phoenix", event: "heartbeat", payload: {}, ref: "2" },
    heartbeat_seconds: HEARTBEAT_SECONDS,
    expires_at: new Date(expiresAt).toISOString(),
  };
}

/** `POST /realtime/v1/channels`, of which seed 002 documents no answer. */
export const presentChannel = inAllEditions<ChannelFacts>(channel2);
