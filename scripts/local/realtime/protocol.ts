import { Buffer } from "node:buffer";

/** One message of a client, whatever version of the protocol it speaks. */
export interface ClientMessage {
  joinRef: string | null;
  ref: string | null;
  topic: string;
  event: string;
  payload: unknown;
  /** Set instead of `payload` when a client of version 2.0.0 broadcasts in a binary frame. */
  broadcast?: { event: string; encoding: "json" | "binary"; body: Uint8Array };
}

/**
 * A broadcast on its way to subscribers. Either `raw`, a whole payload (`{type, event, payload}`) as
 * JSON text, or `event` with a body; `meta` is JSON text.
 */
export type Broadcast =
  | { kind: "raw"; raw: string }
  | { kind: "json"; event: string; body: string; meta: string | null }
  | { kind: "binary"; event: string; body: Uint8Array; meta: string | null };

/** How one protocol version writes and reads. Payloads go in as finished JSON text. */
export interface Codec {
  version: "1.0.0" | "2.0.0";
  /** @throws {ProtocolError} for a frame that is none of this version */
  decode(data: string | ArrayBuffer): ClientMessage;
  push(
    joinRef: string | null,
    ref: string | null,
    topic: string,
    event: string,
    payload: string,
  ): string;
  reply(
    message: Pick<ClientMessage, "joinRef" | "ref" | "topic">,
    status: "ok" | "error",
    response: string,
  ): string;
  /** Null when this version cannot carry the message. */
  broadcast(topic: string, message: Broadcast): string | Uint8Array<ArrayBuffer> | null;
}

/** A frame that cannot be read; the connection ends, as Phoenix ends it. */
export class ProtocolError extends Error {
  override name = "ProtocolError";
}

const KIND_USER_BROADCAST_PUSH = 3;
const KIND_USER_BROADCAST = 4;
const MOST_BYTES_OF_A_NAME = 255;

/** The codec for `?vsn=`; Phoenix takes a client without one for version 1. */
export function codecFor(version: string | null): Codec | null {
  if (version === null || version.startsWith("1.")) return objects;
  return version.startsWith("2.") ? arrays : null;
}

/** Version 1.0.0: JSON objects in text frames. */
const objects: Codec = {
  version: "1.0.0",
  decode(data) {
    const value = parse(data);
    if (value === null || typeof value !== "object" || Array.isArray(value)) {
      throw new ProtocolError("expected a JSON object");
    }
    const { topic, event, payload, ref, join_ref } = value as Record<string, unknown>;
    return checked({ joinRef: text(join_ref), ref: text(ref), topic, event, payload });
  },
  push: (joinRef, ref, topic, event, payload) =>
    `{"topic":${JSON.stringify(topic)},"event":${JSON.stringify(event)},"payload":${payload},` +
    `"ref":${JSON.stringify(ref)},"join_ref":${JSON.stringify(joinRef)}}`,
  reply: ({ joinRef, ref, topic }, status, response) =>
    objects.push(joinRef, ref, topic, "phx_reply", `{"status":"${status}","response":${response}}`),
  broadcast(topic, message) {
    const payload = broadcastPayload(message);
    return payload && objects.push(null, null, topic, "broadcast", payload);
  },
};

/** Version 2.0.0: JSON arrays in text frames, broadcasts in binary ones. */
const arrays: Codec = {
  version: "2.0.0",
  decode(data) {
    if (typeof data !== "string") return decodeBinary(new Uint8Array(data));
    const value = parse(data);
    if (!Array.isArray(value) || value.length < 5) throw new ProtocolError("expected a JSON array");
    const [joinRef, ref, topic, event, payload] = value;
    return checked({ joinRef: text(joinRef), ref: text(ref), topic, event, payload });
  },
  push: (joinRef, ref, topic, event, payload) =>
    `[${JSON.stringify(joinRef)},${JSON.stringify(ref)},${JSON.stringify(topic)},` +
    `${JSON.stringify(event)},${payload}]`,
  reply: ({ joinRef, ref, topic }, status, response) =>
    arrays.push(joinRef, ref, topic, "phx_reply", `{"status":"${status}","response":${response}}`),
  broadcast(topic, message) {
    if (message.kind === "raw") return arrays.push(null, null, topic, "broadcast", message.raw);
    return encodeBroadcast(topic, message) ?? textBroadcast(topic, message);
  },
};

/** A name too long for a binary frame's one-byte length still fits a text frame. */
function textBroadcast(topic: string, message: Broadcast): string | null {
  const payload = broadcastPayload(message);
  return payload && arrays.push(null, null, topic, "broadcast", payload);
}

/** The payload as JSON text; null for bytes, which JSON cannot carry. */
function broadcastPayload(message: Broadcast): string | null {
  if (message.kind === "raw") return message.raw;
  if (message.kind === "binary") return null;
  const meta = message.meta === null ? "" : `,"meta":${message.meta}`;
  return `{"event":${
    JSON.stringify(message.event)
  },"payload":${message.body},"type":"broadcast"${meta}}`;
}

/** `kind, lengths of topic, event and meta, encoding`, then the three names and the body. */
function encodeBroadcast(
  topic: string,
  message: Exclude<Broadcast, { kind: "raw" }>,
): Uint8Array<ArrayBuffer> | null {
  const names = [topic, message.event, message.meta ?? ""].map((name) => Buffer.from(name));
  if (names.some((name) => name.length > MOST_BYTES_OF_A_NAME)) return null;
  const body = message.kind === "json" ? Buffer.from(message.body) : message.body;
  const head = Uint8Array.of(
    KIND_USER_BROADCAST,
    ...names.map((name) => name.length),
    message.kind === "json" ? 1 : 0,
  );
  const parts = [head, ...names, body];
  const frame = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    frame.set(part, offset);
    offset += part.length;
  }
  return frame;
}

function decodeBinary(frame: Uint8Array): ClientMessage {
  if (frame[0] !== KIND_USER_BROADCAST_PUSH || frame.length < 7) {
    throw new ProtocolError("unknown binary frame");
  }
  const lengths = frame.subarray(1, 6);
  let offset = 7;
  const [joinRef, ref, topic, event] = Array.from(lengths, (length) => {
    const name = Buffer.from(frame.subarray(offset, offset += length)).toString("utf8");
    return name;
  });
  if (offset > frame.length) throw new ProtocolError("binary frame is cut short");
  return {
    joinRef: joinRef || null,
    ref: ref || null,
    topic: topic!,
    event: "broadcast",
    payload: null,
    broadcast: {
      event: event!,
      encoding: frame[6] === 0 ? "binary" : "json",
      body: frame.subarray(offset),
    },
  };
}

function parse(data: string | ArrayBuffer): unknown {
  if (typeof data !== "string") throw new ProtocolError("binary frames need version 2.0.0");
  try {
    return JSON.parse(data);
  } catch {
    throw new ProtocolError("frame is no JSON");
  }
}

/** Refs are strings or null; old clients send numbers. */
function text(value: unknown): string | null {
  return value === null || value === undefined ? null : String(value);
}

function checked(
  message:
    & { joinRef: string | null; ref: string | null }
    & Record<
      "topic" | "event" | "payload",
      unknown
    >,
): ClientMessage {
  const { topic, event } = message;
  if (typeof topic !== "string" || typeof event !== "string") {
    throw new ProtocolError("topic and event must be strings");
  }
  return { ...message, topic, event };
}
