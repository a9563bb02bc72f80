import { z } from "zod";
import { jsonObject, text } from "./agent-requests.ts";

/** `POST /api/agents/{id}/events`. Which names may be used `emit_agent_event` knows. */
export const emitEventBody = z.strictObject({
  channel: text(63),
  event: text(100),
  payload: jsonObject(65_536).default({}),
});
