import { Channel, type ChannelSocket } from "./channel.ts";
import type { Context } from "./context.ts";
import { type ClientMessage, type Codec, ProtocolError } from "./protocol.ts";
import { createRate } from "./rate.ts";

/** How a client came: from the query and headers of its upgrade request. */
export interface ConnectionOptions {
  codec: Codec;
  token: string;
  headers: Record<string, string>;
}

export interface ClientConnection {
  close(code: number, reason: string): void;
}

/** Messages of one channel that wait for an answer of the database. */
const MOST_WAITING = 1_000;

/**
 * Speaks Phoenix's protocol with one client: routes messages to its channels, answers heartbeats and
 * holds the limits. Messages of one channel are handled in order; channels do not wait for each
 * other.
 */
export function serveClient(
  webSocket: WebSocket,
  context: Context,
  { codec, token, headers }: ConnectionOptions,
  onClose: () => void,
): ClientConnection {
  const { log, limits } = context;
  const channels = new Map<string, { channel: Channel; work: Promise<void>; waiting: number }>();
  const joins = createRate(limits.joinsPerSecond);
  const messages = createRate(limits.messagesPerSecond);
  let lastSeen = Date.now();
  let closing = false;

  const close = (code: number, reason: string) => {
    if (closing) return;
    closing = true;
    dropAll();
    if (webSocket.readyState <= WebSocket.OPEN) webSocket.close(code, reason);
  };
  const dropAll = () => {
    clearInterval(idleTimer);
    for (const { channel } of channels.values()) channel.drop();
    channels.clear();
    context.connections.release(socket);
  };
  const idleTimer = setInterval(() => {
    if (Date.now() - lastSeen > limits.idleMs) close(1000, "");
  }, Math.min(limits.idleMs, 15_000));

  const socket: ChannelSocket = {
    codec,
    token,
    headers,
    send(frame) {
      if (closing || webSocket.readyState !== WebSocket.OPEN) return;
      if (webSocket.bufferedAmount > limits.bufferedBytes) {
        log.warn("A client reads too slowly and was disconnected", {
          buffered: webSocket.bufferedAmount,
        });
        return close(1013, "reads too slowly");
      }
      webSocket.send(frame);
    },
    async admit(user) {
      const admitted = await context.connections.admit(socket, user);
      // It may have closed while the limit was read.
      if (closing) context.connections.release(socket);
      return admitted;
    },
    removed(channel) {
      if (channels.get(channel.topic)?.channel === channel) channels.delete(channel.topic);
    },
  };
  const reply = (message: ClientMessage, status: "ok" | "error", response: unknown) =>
    socket.send(codec.reply(message, status, JSON.stringify(response)));

  function enqueue(topic: string, task: (channel: Channel) => Promise<void>): void {
    const entry = channels.get(topic)!;
    if (++entry.waiting > MOST_WAITING) return close(1008, "too many messages");
    entry.work = entry.work.then(() => task(entry.channel)).catch((error) => {
      log.error("A message could not be handled", {
        failure: error instanceof Error ? error.message : String(error),
      });
      entry.channel.shutDown("Realtime was unable to handle the message");
    }).finally(() => entry.waiting--);
  }

  function join(message: ClientMessage): void {
    const { topic } = message;
    if (!topic.startsWith("realtime:")) {
      return reply(message, "error", { reason: "unmatched topic" });
    }
    if (topic === "realtime:") {
      const reason = "TopicNameRequired: You must provide a topic name";
      return reply(message, "error", { reason });
    }
    if (!joins.take()) {
      const reason = "ClientJoinRateLimitReached: Too many joins per second";
      reply(message, "error", { reason });
      return close(1008, "too many joins");
    }
    // A client that joins again has lost the old channel.
    channels.get(topic)?.channel.close();
    if (channels.size >= limits.channelsPerClient) {
      return reply(message, "error", { reason: "ChannelRateLimitReached: Too many channels" });
    }
    const channel = new Channel(socket, context, topic, message.joinRef ?? message.ref);
    channels.set(topic, { channel, work: Promise.resolve(), waiting: 0 });
    enqueue(topic, (channel) => channel.join(message));
  }

  function receive(message: ClientMessage): void {
    const { topic, event } = message;
    if (topic === "phoenix") {
      return event === "heartbeat" ? reply(message, "ok", {}) : undefined;
    }
    if (event === "phx_join") return join(message);
    const entry = channels.get(topic);
    if (entry === undefined) {
      return event === "phx_leave"
        ? reply(message, "ok", {})
        : reply(message, "error", { reason: "unmatched topic" });
    }
    if (!messages.take()) return entry.channel.shutDown("Too many messages per second");
    enqueue(topic, (channel) => channel.receive(message));
  }

  webSocket.binaryType = "arraybuffer";
  webSocket.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>) => {
    lastSeen = Date.now();
    const size = typeof data === "string" ? data.length : data.byteLength;
    if (size > limits.frameBytes) return close(1009, "message too large");
    try {
      receive(codec.decode(data));
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      close(1011, "");
    }
  };
  webSocket.onclose = () => {
    closing = true;
    dropAll();
    onClose();
  };
  return { close };
}
