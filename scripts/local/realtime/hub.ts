import type { Broadcast, Codec } from "./protocol.ts";

/** Somebody who joined a topic. */
export interface Listener {
  codec: Codec;
  /** The topic as it was joined: `realtime:room`. */
  topic: string;
  /** @param messageId of a message that the database sent */
  mayReceive(messageId: string | null): boolean;
  send(frame: string | Uint8Array<ArrayBuffer>): void;
}

/**
 * Who listens to which topic. Private and public channels of one name are two topics: what is sent to
 * one never reaches the other.
 */
export interface Hub {
  join(topic: string, isPrivate: boolean, listener: Listener): void;
  leave(topic: string, isPrivate: boolean, listener: Listener): void;
  broadcast(
    topic: string,
    isPrivate: boolean,
    message: Broadcast,
    options?: BroadcastOptions,
  ): void;
}

export interface BroadcastOptions {
  /** The sender, unless it wants its own messages. */
  except?: Listener | null;
  messageId?: string;
}

export function createHub(): Hub {
  const rooms = new Map<string, Set<Listener>>();
  const name = (topic: string, isPrivate: boolean) =>
    `${isPrivate ? "private" : "public"}:${topic}`;
  return {
    join(topic, isPrivate, listener) {
      const key = name(topic, isPrivate);
      const room = rooms.get(key) ?? new Set();
      rooms.set(key, room.add(listener));
    },
    leave(topic, isPrivate, listener) {
      const key = name(topic, isPrivate);
      const room = rooms.get(key);
      room?.delete(listener);
      if (room?.size === 0) rooms.delete(key);
    },
    broadcast(topic, isPrivate, message, { except = null, messageId } = {}) {
      // A frame is the same for everybody who speaks one version and joined by one name.
      const frames = new Map<string, string | Uint8Array<ArrayBuffer> | null>();
      for (const listener of rooms.get(name(topic, isPrivate)) ?? []) {
        if (listener === except || !listener.mayReceive(messageId ?? null)) continue;
        const key = `${listener.codec.version} ${listener.topic}`;
        let frame = frames.get(key);
        if (frame === undefined) {
          frame = listener.codec.broadcast(listener.topic, message);
          frames.set(key, frame);
        }
        if (frame !== null) listener.send(frame);
      }
    },
  };
}
