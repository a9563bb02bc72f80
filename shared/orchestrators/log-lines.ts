import { toNanoseconds } from "./timestamps.ts";
import type { LogLine, LogPage } from "./types.ts";

type StreamName = LogLine["stream"];

const HEADER_BYTES = 8;

/**
 * Takes Docker's log framing apart: 8 bytes (stream, three zeros, big-endian length), then so many bytes, cut into
 * network chunks at any place. Give it chunks in order; it hands on each payload part with its stream.
 */
export function createFrameReader(
  onPayload: (stream: StreamName, payload: Uint8Array) => void,
): (chunk: Uint8Array) => void {
  const header = new Uint8Array(HEADER_BYTES);
  let headerFilled = 0;
  let remaining = 0;
  let stream: StreamName = null;
  return (chunk) => {
    let offset = 0;
    while (offset < chunk.length) {
      if (remaining === 0) {
        const part = chunk.subarray(offset, offset + HEADER_BYTES - headerFilled);
        header.set(part, headerFilled);
        headerFilled += part.length;
        offset += part.length;
        if (headerFilled < HEADER_BYTES) return;
        headerFilled = 0;
        stream = header[0] === 2 ? "stderr" : "stdout";
        remaining = new DataView(header.buffer).getUint32(4);
        continue;
      }
      const payload = chunk.subarray(offset, offset + remaining);
      offset += payload.length;
      remaining -= payload.length;
      onPayload(stream, payload);
    }
  };
}

export interface LineCollectorOptions {
  /** Only lines strictly later, in nanoseconds since 1970. */
  after: bigint | null;
  limitBytes: number;
}

/** Gathers `timestamp message` lines under a size limit. */
export interface LineCollector {
  /** Returns false once the limit is reached: nothing more is wanted. */
  push(stream: StreamName, payload: Uint8Array): boolean;
  /** The lines so far, oldest first. `cut`: the source itself stopped in the middle. */
  finish(cut?: boolean): LogPage;
}

export function createLineCollector(options: LineCollectorOptions): LineCollector {
  const lines: LogLine[] = [];
  // stdout and stderr are cut into frames independently: half a line of one may be followed by the other.
  const open = new Map<StreamName, { decoder: TextDecoder; text: string }>();
  let size = 0;
  let truncated = false;

  function add(stream: StreamName, text: string): void {
    if (truncated) return;
    const line = parseLine(stream, text);
    if (line === null) return;
    if (options.after !== null) {
      const time = toNanoseconds(line.timestamp);
      if (time !== null && time <= options.after) return;
    }
    // Counts text and not bytes: near enough for a bound, and free.
    if (size + text.length > options.limitBytes) {
      truncated = true;
      // A single line beyond the limit is cut; without it a reader would never get past.
      if (lines.length === 0) {
        lines.push({ ...line, message: line.message.slice(0, options.limitBytes) });
      }
      return;
    }
    size += text.length;
    lines.push(line);
  }

  return {
    push(stream, payload) {
      let state = open.get(stream);
      if (!state) {
        state = { decoder: new TextDecoder(), text: "" };
        open.set(stream, state);
      }
      const parts = (state.text + state.decoder.decode(payload, { stream: true })).split("\n");
      state.text = parts.pop() ?? "";
      for (const part of parts) {
        add(stream, part);
        if (truncated) return false;
      }
      if (state.text.length > options.limitBytes) {
        add(stream, state.text);
        state.text = "";
        truncated = true;
      }
      return !truncated;
    },
    finish(cut = false) {
      for (const [stream, state] of open) {
        // The last line of a source that stopped in the middle is not whole: it comes again next time.
        if (state.text !== "" && !(cut && lines.length > 0)) add(stream, state.text);
      }
      return { lines: inOrder(lines), truncated: truncated || cut };
    },
  };
}

function parseLine(stream: StreamName, text: string): LogLine | null {
  const line = text.endsWith("\r") ? text.slice(0, -1) : text;
  const space = line.indexOf(" ");
  const timestamp = space === -1 ? line : line.slice(0, space);
  if (toNanoseconds(timestamp) === null) return null;
  return { timestamp, stream, message: space === -1 ? "" : line.slice(space + 1) };
}

/** Engines interleave stdout and stderr by arrival; a stable sort by time costs little and makes it certain. */
function inOrder(lines: LogLine[]): LogLine[] {
  const keyed = lines.map((line) => ({ line, time: toNanoseconds(line.timestamp) ?? 0n }));
  const sorted = keyed.every((entry, index) => index === 0 || keyed[index - 1]!.time <= entry.time);
  if (!sorted) keyed.sort((a, b) => (a.time < b.time ? -1 : a.time > b.time ? 1 : 0));
  return keyed.map(({ line }) => line);
}
