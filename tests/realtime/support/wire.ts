import { expect } from "vitest";
import { POLL } from "./listen.ts";

/** One frame as `[join_ref, ref, topic, event, payload]`, whatever the version; bytes stay bytes. */
// deno-lint-ignore no-explicit-any -- payloads of many shapes, looked into by tests
export type Frame = [string | null, string | null, string, string, any] | ArrayBuffer;

export interface Wire {
  socket: WebSocket;
  frames: Frame[];
  closed: { code: number; reason: string } | null;
  send(joinRef: string | null, ref: string, topic: string, event: string, payload: unknown): void;
  /** Waits for the answer to `ref`. */
  // deno-lint-ignore no-explicit-any
  reply(ref: string): Promise<any>;
  /** Waits for a frame of this event. */
  // deno-lint-ignore no-explicit-any
  event(name: string): Promise<any>;
  /** Joins and gives the answer. */
  // deno-lint-ignore no-explicit-any
  join(topic: string, config?: Record<string, unknown>, token?: string): Promise<any>;
}

/** Speaks the protocol by hand, for what supabase-js hides. */
export async function openWire(
  url: string,
  key: string,
  vsn: "1.0.0" | "2.0.0" = "2.0.0",
): Promise<Wire> {
  const address = `${url.replace("http", "ws")}/realtime/v1/websocket?apikey=${key}&vsn=${vsn}`;
  const socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  let refs = 0;
  const wire: Wire = {
    socket,
    frames: [],
    closed: null,
    send(joinRef, ref, topic, event, payload) {
      socket.send(JSON.stringify(
        vsn === "2.0.0"
          ? [joinRef, ref, topic, event, payload]
          : { topic, event, payload, ref, join_ref: joinRef },
      ));
    },
    async reply(ref) {
      const find = () =>
        wire.frames.find((frame) =>
          Array.isArray(frame) && frame[1] === ref && frame[3] === "phx_reply"
        );
      await expect.poll(find, POLL).toBeDefined();
      return (find() as Exclude<Frame, ArrayBuffer>)[4];
    },
    async event(name) {
      const find = () => wire.frames.find((frame) => Array.isArray(frame) && frame[3] === name);
      await expect.poll(find, POLL).toBeDefined();
      return (find() as Exclude<Frame, ArrayBuffer>)[4];
    },
    join(topic, config = {}, token) {
      const ref = `join-${++refs}`;
      wire.send(ref, ref, topic, "phx_join", { config, ...(token && { access_token: token }) });
      return wire.reply(ref);
    },
  };
  socket.onmessage = ({ data }) => {
    if (typeof data !== "string") return void wire.frames.push(data);
    const frame = JSON.parse(data);
    wire.frames.push(
      Array.isArray(frame)
        ? frame as Frame
        : [frame.join_ref, frame.ref, frame.topic, frame.event, frame.payload],
    );
  };
  socket.onclose = ({ code, reason }) => wire.closed = { code, reason };
  await new Promise<void>((resolve, reject) => {
    socket.onopen = () => resolve();
    socket.onerror = () => reject(new Error("the WebSocket was refused"));
  });
  return wire;
}
