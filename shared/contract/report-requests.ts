import { z } from "zod";
import { isoTimeText } from "./request-fields.ts";

/**
 * Bodies by which agents report. What a line, a figure or a message must be is checked in one place, in
 * SQL, which tells every fault of a report at once; here is only what a body may consist of.
 */

/** Told apart from what clients send as text: Postgres has neither NUL nor half a surrogate pair. */
function clean(value: unknown): unknown {
  if (typeof value === "string") return value.replaceAll("\0", "").toWellFormed();
  if (Array.isArray(value)) return value.map(clean);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [clean(key), clean(item)]));
}

const list = z.array(z.unknown(), "must be a list").transform(clean);
const name = z.string("must be text").transform((text) => clean(text) as string);

/** `POST /api/agents/{id}/logs`. */
export const reportLogsBody = z.strictObject({
  lines: list,
  instance: name.optional(),
  batch_id: name.optional(),
}, "must be an object");

/** `POST /api/agents/{id}/metrics`: figures beside the name of the instance. */
export const reportMetricsBody = z.looseObject({ instance: name.optional() }, "must be an object")
  .transform(({ instance, ...metrics }) => ({ instance, metrics: clean(metrics) }));

/** `PUT /api/agents/{id}/status`. */
export const reportStatusBody = z.strictObject({ status: name }, "must be an object");

/** `POST /api/agents/{id}/conversations`. */
export const reportConversationBody = z.strictObject({
  conversation_id: name,
  messages: list,
  platform: name.optional(),
  batch_id: name.optional(),
}, "must be an object");

/** `POST /api/agents/{id}/keys`. */
export const createAgentKeyBody = z.strictObject({
  label: name.optional(),
  expires_at: isoTimeText.optional(),
}, "must be an object");
