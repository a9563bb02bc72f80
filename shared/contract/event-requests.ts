import { z } from "zod";
import { jsonObject, text } from "./request-fields.ts";

/** `POST /realtime/v1/channels` (seed 002). What a topic may be `real_time_channel` knows. */
export const joinChannelBody = z.strictObject({
  topic: text(2_000),
  /** Kind of change to hear of, where the topic is a table. */
  event: text(10).default("*"),
});

/** `POST /api/agents/{id}/events`. Which names may be used `emit_agent_event` knows. */
export const emitEventBody = z.strictObject({
  channel: text(63),
  event: text(100),
  payload: jsonObject(65_536).default({}),
});
