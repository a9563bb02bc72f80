import type { JsonObject } from "../../../shared/contract/editions.ts";
import type { AgentRow, EmittedFacts, PlatformFacts } from "../../../shared/contract/facts.ts";
import type { Presenters } from "./presenter.ts";

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
export const presentEmitted: Presenters<EmittedFacts> = {
  1: emitted3,
  2: emitted3,
  3: emitted3,
};
