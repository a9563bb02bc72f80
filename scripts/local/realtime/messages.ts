import { Buffer } from "node:buffer";
import type { Context } from "./context.ts";
import { decodeChange, MESSAGE, type Relation } from "./pgoutput.ts";

/** Whether a change is one of realtime.messages or a day's partition of it. */
export function isMessagesTable({ schema, name }: Relation): boolean {
  return schema === "realtime" && /^messages(_\d{4}_\d\d_\d\d)?$/.test(name);
}

/** A row of realtime.messages becomes a broadcast on its topic. */
export function sendMessage(
  { hub, limits, log }: Context,
  relation: Relation,
  message: Buffer,
): void {
  if (message[0] !== MESSAGE.insert) return;
  const values = decodeChange(message).new!;
  const column = (name: string) =>
    values[relation.columns.findIndex((column) => column.name === name)] ?? null;
  const topic = column("topic");
  const event = column("event");
  const messageId = column("id");
  const isPrivate = column("private");
  const json = column("payload");
  const bytes = column("binary_payload");
  // The same fields that Realtime asks for; without them there is nobody to send it to.
  if (topic === null || event === null || messageId === null || isPrivate === null) return;
  if (json === null && bytes === null) return;
  if ((json ?? bytes)!.length > limits.payloadBytes) {
    return log.warn("A message of the database is too large to be sent", { id: messageId });
  }
  const meta = JSON.stringify({ id: messageId });
  const broadcast = json === null
    ? { kind: "binary" as const, event, body: Buffer.from(bytes!.slice(2), "hex"), meta }
    : { kind: "json" as const, event, body: json, meta };
  hub.broadcast(topic, isPrivate === "t", broadcast, { messageId });
}
