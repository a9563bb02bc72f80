import { describe, expect, it } from "vitest";
import { createFrameReader, createLineCollector } from "../../shared/orchestrators/log-lines.ts";
import { toNanoseconds } from "../../shared/orchestrators/timestamps.ts";

const encoder = new TextEncoder();
const stamp = (second: number, nanoseconds = 0) =>
  `2026-01-01T00:00:${String(second).padStart(2, "0")}.${String(nanoseconds).padStart(9, "0")}Z`;

function frame(stream: 1 | 2, text: string): Uint8Array {
  const payload = encoder.encode(text);
  const bytes = new Uint8Array(8 + payload.length);
  bytes[0] = stream;
  new DataView(bytes.buffer).setUint32(4, payload.length);
  bytes.set(payload, 8);
  return bytes;
}

function join(...parts: Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

function collect(chunks: Uint8Array[], options: { after?: string; limitBytes?: number } = {}) {
  const collector = createLineCollector({
    after: options.after ? toNanoseconds(options.after) : null,
    limitBytes: options.limitBytes ?? 100_000,
  });
  const read = createFrameReader((stream, payload) => void collector.push(stream, payload));
  for (const chunk of chunks) read(chunk);
  return collector.finish();
}

describe("Docker's log frames", () => {
  const whole = join(
    frame(1, `${stamp(1)} one é\n`),
    frame(2, `${stamp(2)} two\n`),
    frame(1, `${stamp(3)} three\n${stamp(4)} four\n`),
  );

  it("give the same lines however the network cuts them", () => {
    const expected = collect([whole]);
    expect(expected.lines.map(({ stream, message }) => `${stream} ${message}`))
      .toEqual(["stdout one é", "stderr two", "stdout three", "stdout four"]);
    for (let size = 1; size < whole.length; size++) {
      const chunks = [];
      for (let at = 0; at < whole.length; at += size) chunks.push(whole.slice(at, at + size));
      expect(collect(chunks), `chunks of ${size}`).toEqual(expected);
    }
  });

  it("keep a half line of one stream apart from the other's", () => {
    const page = collect([
      frame(1, `${stamp(1)} begin`),
      frame(2, `${stamp(2)} error\n`),
      frame(1, " end\n"),
    ]);
    expect(page.lines.map(({ message }) => message)).toEqual(["begin end", "error"]);
  });

  it("give a last line without its line break", () => {
    expect(collect([frame(1, `${stamp(1)} last words`)]).lines[0]?.message).toBe("last words");
  });
});

describe("the line collector", () => {
  it("leaves out what is not strictly later, to the nanosecond", () => {
    const text = [1, 2, 3].map((n) => `${stamp(1, n)} ${n}\n`).join("");
    const page = collect([frame(1, text)], { after: stamp(1, 2) });
    expect(page.lines.map(({ message }) => message)).toEqual(["3"]);
  });

  it("puts streams in the order of time", () => {
    const page = collect([frame(1, `${stamp(2)} b\n`), frame(2, `${stamp(1)} a\n`)]);
    expect(page.lines.map(({ message }) => message)).toEqual(["a", "b"]);
  });

  it("stops at the limit, keeps the oldest lines whole and says so", () => {
    const text = [1, 2, 3].map((n) => `${stamp(n)} ${"x".repeat(20)}\n`).join("");
    const page = collect([frame(1, text)], { limitBytes: 110 });
    expect(page).toMatchObject({ truncated: true });
    expect(page.lines.map(({ timestamp }) => timestamp)).toEqual([stamp(1), stamp(2)]);
  });

  it("gets past a line that is longer than the limit", () => {
    const page = collect([frame(1, `${stamp(1)} ${"x".repeat(500)}\n`)], { limitBytes: 50 });
    expect(page.truncated).toBe(true);
    expect(page.lines).toHaveLength(1);
    expect(page.lines[0]!.message).toHaveLength(50);
  });

  it("holds no more than the limit of a line without an end", () => {
    const collector = createLineCollector({ after: null, limitBytes: 1000 });
    let wanted = collector.push("stdout", encoder.encode(`${stamp(1)} `));
    for (let n = 0; n < 100 && wanted; n++) {
      wanted = collector.push("stdout", encoder.encode("y".repeat(100)));
    }
    expect(wanted).toBe(false);
    expect(collector.finish().truncated).toBe(true);
  });

  it("drops the line in whose middle the source stopped", () => {
    const collector = createLineCollector({ after: null, limitBytes: 1000 });
    collector.push(null, encoder.encode(`${stamp(1)} whole\n${stamp(2)} hal`));
    expect(collector.finish(true)).toEqual({
      lines: [{ timestamp: stamp(1), stream: null, message: "whole" }],
      truncated: true,
    });
  });
});
