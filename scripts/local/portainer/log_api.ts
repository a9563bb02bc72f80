import { DockerError } from "./errors.ts";
import type { ApiRequest } from "./http.ts";
import {
  type Instant,
  type LogFile,
  type LogQuery,
  type LogRecord,
  recordTime,
} from "./log_file.ts";
import { delay } from "./time.ts";

const encoder = new TextEncoder();

/** Unix time with an optional fraction, or RFC 3339. @throws DockerError 400 */
function parseInstant(text: string | null, name: string): Instant | null {
  if (!text || text === "0") return null;
  const unix = /^(\d+)(?:\.(\d{1,9}))?$/.exec(text);
  if (unix) {
    return { seconds: Number(unix[1]), nanoseconds: Number((unix[2] ?? "").padEnd(9, "0")) };
  }
  const date = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/.exec(text);
  if (date) {
    const seconds = Date.parse(text.replace(/\.\d+/, "")) / 1000;
    return { seconds, nanoseconds: Number((date[1] ?? "").padEnd(9, "0")) };
  }
  throw new DockerError(400, `invalid value for "${name}": strconv.ParseInt: parsing "${text}"`);
}

/** Reads the parameters of Docker's log calls. @throws DockerError 400 */
export function logQuery({ query }: ApiRequest): LogQuery & { timestamps: boolean } {
  const flag = (name: string) => ["1", "true", "True", "TRUE"].includes(query.get(name) ?? "");
  const tail = query.get("tail") ?? "all";
  if (!flag("stdout") && !flag("stderr")) {
    throw new DockerError(400, "Bad parameters: you must choose at least one stream");
  }
  return {
    stdout: flag("stdout"),
    stderr: flag("stderr"),
    timestamps: flag("timestamps"),
    follow: flag("follow"),
    tail: /^\d+$/.test(tail) ? Number(tail) : null,
    since: parseInstant(query.get("since"), "since"),
    until: parseInstant(query.get("until"), "until"),
  };
}

/** Frames as Docker multiplexes them: stream, three zeros, big-endian length, text. */
function frames(records: LogRecord[], timestamps: boolean): Uint8Array {
  const stamps = timestamps
    ? records.map((record) => encoder.encode(recordTime(record) + " "))
    : [];
  const lengths = records.map((record, index) =>
    (stamps[index]?.length ?? 0) + record.text.length + (record.partial ? 0 : 1)
  );
  const buffer = new Uint8Array(lengths.reduce((sum, length) => sum + 8 + length, 0));
  const view = new DataView(buffer.buffer);
  let at = 0;
  records.forEach((record, index) => {
    const length = lengths[index]!;
    buffer[at] = record.stream === "stdout" ? 1 : 2;
    view.setUint32(at + 4, length);
    at += 8;
    if (timestamps) {
      buffer.set(stamps[index]!, at);
      buffer.set(record.text, at + stamps[index]!.length);
    } else {
      buffer.set(record.text, at);
    }
    at += length;
    if (!record.partial) buffer[at - 1] = 10;
  });
  return buffer;
}

/** Sizes that fit no frame, so that a reader that takes a chunk for a frame is found out here and not in use. */
const CHUNK = 8191;

/** The framed log of a container. */
export async function* framedLog(
  log: LogFile,
  query: LogQuery & { timestamps: boolean },
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  let isFirst = true;
  for await (const records of log.read(query, signal)) {
    const bytes = frames(records, query.timestamps);
    const head = isFirst ? 5 : 0;
    if (isFirst) {
      // The first cut goes through a header, as networks cut there, too; the pause keeps it from being mended on the way.
      yield bytes.subarray(0, head);
      await delay(1);
    }
    isFirst = false;
    for (let at = head; at < bytes.length; at += CHUNK) yield bytes.subarray(at, at + CHUNK);
  }
}

/** The logs of several containers as one, in order of time; when following, in order of arrival. */
export async function* framedLogs(
  logs: LogFile[],
  query: LogQuery & { timestamps: boolean },
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const readers = logs.map((log) => ({ source: log.read(query, signal), rest: [] as LogRecord[] }));
  if (query.follow) {
    const next = (reader: typeof readers[number]) =>
      reader.source.next().then((result) => ({ reader, result }));
    const waiting = new Map(readers.map((reader) => [reader, next(reader)]));
    while (waiting.size > 0) {
      const { reader, result } = await Promise.race(waiting.values());
      if (result.done) {
        waiting.delete(reader);
        continue;
      }
      yield frames(result.value, query.timestamps);
      waiting.set(reader, next(reader));
    }
    return;
  }
  const merged: LogRecord[] = [];
  const live = new Set(readers);
  while (true) {
    for (const reader of live) {
      if (reader.rest.length > 0) continue;
      const { done, value } = await reader.source.next();
      if (done) live.delete(reader);
      else reader.rest = value;
    }
    let first: typeof readers[number] | null = null;
    for (const reader of live) {
      const [a, b] = [reader.rest[0]!, first?.rest[0]];
      const isEarlier = !b || a.seconds < b.seconds ||
        (a.seconds === b.seconds && a.nanoseconds < b.nanoseconds);
      if (isEarlier) first = reader;
    }
    if (first) merged.push(first.rest.shift()!);
    if (merged.length >= 500 || (!first && merged.length > 0)) {
      yield frames(merged.splice(0), query.timestamps);
    }
    if (!first) return;
  }
}
