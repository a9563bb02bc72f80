import { createPresences, type Presence } from "./presence.ts";
import type { Broadcast, Codec } from "./protocol.ts";

type Frame = string | Uint8Array<ArrayBuffer>;

/** Somebody who joined a topic. */
export interface Listener {
  codec: Codec;
  /** The topic as it was joined: `realtime:room`. */
  topic: string;
  /** @param messageId of a message that the database sent */
  mayReceive(messageId: string | null): boolean;
  /** Whether it hears who comes and goes. */
  mayReceivePresence(): boolean;
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
  /** Tracks a channel in its topic and tells everybody there. */
  track(topic: string, isPrivate: boolean, tracker: Listener, presence: Presence): void;
  untrack(topic: string, isPrivate: boolean, tracker: Listener): void;
  /** Who is there, as JSON text. */
  presences(topic: string, isPrivate: boolean): string;
}

export interface BroadcastOptions {
  /** The sender, unless it wants its own messages. */
  except?: Listener | null;
  messageId?: string;
}

export function createHub(): Hub {
  const rooms = new Map<string, Set<Listener>>();
  const presences = createPresences();
  const name = (topic: string, isPrivate: boolean) =>
    `${isPrivate ? "private" : "public"}:${topic}`;

  function sendAll(
    room: string,
    hears: (listener: Listener) => boolean,
    encode: (listener: Listener) => Frame | null,
  ): void {
    // A frame is the same for everybody who speaks one version and joined by one name.
    const frames = new Map<string, Frame | null>();
    for (const listener of rooms.get(room) ?? []) {
      if (!hears(listener)) continue;
      const key = `${listener.codec.version} ${listener.topic}`;
      let frame = frames.get(key);
      if (frame === undefined) frames.set(key, frame = encode(listener));
      if (frame !== null) listener.send(frame);
    }
  }

  function tellPresence(room: string, diff: string | null): void {
    if (diff === null) return;
    sendAll(
      room,
      (listener) => listener.mayReceivePresence(),
      ({ codec, topic }) => codec.push(null, null, topic, "presence_diff", diff),
    );
  }

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
      sendAll(
        name(topic, isPrivate),
        (listener) => listener !== except && listener.mayReceive(messageId ?? null),
        ({ codec, topic }) => codec.broadcast(topic, message),
      );
    },
    track(topic, isPrivate, tracker, presence) {
      const room = name(topic, isPrivate);
      tellPresence(room, presences.track(room, tracker, presence));
    },
    untrack(topic, isPrivate, tracker) {
      const room = name(topic, isPrivate);
      tellPresence(room, presences.untrack(room, tracker));
    },
    presences: (topic, isPrivate) => presences.state(name(topic, isPrivate)),
  };
}
