import { join } from "node:path";
import { rfc3339 } from "./units.ts";

/**
 * A container's output on disk: one record per line, `SECONDS.NANOSECONDS` (20 bytes), a kind (1 byte), the text
 * and a newline. Times rise strictly within a container, so that a reader can go on exactly where it stopped.
 * Segments rotate by size and the oldest go, so that a chatty container cannot fill the disk.
 */
const HEADER = 21;
/** Docker cuts longer lines into pieces, too. */
const LONGEST_LINE = 16 * 1024;
const BLOCK = 64 * 1024;
const encoder = new TextEncoder();
const decoder = new TextDecoder();

export type StreamName = "stdout" | "stderr";
/** A letter for the stream, in capitals when the line goes on in the next record. */
const KINDS = { stdout: ["o", "O"], stderr: ["e", "E"] } as const;

/** A point in time: whole seconds and nanoseconds of the second. */
export interface Instant {
  seconds: number;
  nanoseconds: number;
}

export interface LogRecord extends Instant {
  stream: StreamName;
  text: Uint8Array;
  partial: boolean;
}

export interface LogQuery {
  stdout: boolean;
  stderr: boolean;
  /** Records at or after. */
  since: Instant | null;
  /** Records at or before. */
  until: Instant | null;
  /** The last so many lines; null for all. */
  tail: number | null;
  /** Wait for more until the container ends. */
  follow: boolean;
}

const compare = (a: Instant, b: Instant) => a.seconds - b.seconds || a.nanoseconds - b.nanoseconds;

function instantAt(bytes: Uint8Array, offset: number): Instant {
  const text = decoder.decode(bytes.subarray(offset, offset + 20));
  return { seconds: Number(text.slice(0, 10)), nanoseconds: Number(text.slice(11)) };
}

function recordFrom(line: Uint8Array): LogRecord {
  const kind = String.fromCharCode(line[20]!);
  return {
    ...instantAt(line, 0),
    stream: kind.toLowerCase() === "o" ? "stdout" : "stderr",
    partial: kind < "a",
    text: line.subarray(HEADER),
  };
}

/** Time of a record as `timestamps=1` prints it. */
export const recordTime = (record: Instant): string =>
  rfc3339(record.seconds * 1000).slice(0, 20) + String(record.nanoseconds).padStart(9, "0") + "Z";

export interface LogLimits {
  segmentBytes: number;
  segments: number;
}

export class LogFile {
  readonly #directory: string;
  readonly #limits: LogLimits;
  #segments: number[];
  #file: Deno.FsFile | null = null;
  #size = 0;
  #last: Instant = { seconds: 0, nanoseconds: 0 };
  #rest: Record<StreamName, Uint8Array> = { stdout: new Uint8Array(), stderr: new Uint8Array() };
  #waiting = new Set<() => void>();
  #open = false;

  constructor(directory: string, limits: LogLimits) {
    this.#directory = directory;
    this.#limits = limits;
    Deno.mkdirSync(directory, { recursive: true, mode: 0o700 });
    this.#segments = [...Deno.readDirSync(directory)]
      .map((entry) => Number(entry.name.replace(".log", "")))
      .filter(Number.isInteger)
      .sort((a, b) => a - b);
  }

  #path(segment: number): string {
    return join(this.#directory, `${segment}.log`);
  }

  /** A process starts to write: followers wait from now on. */
  begin(): void {
    this.#open = true;
  }

  /** The process is gone: what was left of its last line is written, followers come to their end. */
  end(): void {
    for (const stream of ["stdout", "stderr"] as const) {
      if (this.#rest[stream].length > 0) this.append(stream, encoder.encode("\n"));
    }
    this.#open = false;
    this.#file?.close();
    this.#file = null;
    this.#wake();
  }

  /** Writes the whole lines of a chunk and keeps the beginning of the next one. */
  append(stream: StreamName, chunk: Uint8Array): void {
    const rest = this.#rest[stream];
    let data = chunk;
    if (rest.length > 0) {
      data = new Uint8Array(rest.length + chunk.length);
      data.set(rest);
      data.set(chunk, rest.length);
    }
    const lines: { text: Uint8Array; partial: boolean }[] = [];
    let from = 0;
    while (from < data.length) {
      const newline = data.indexOf(10, from);
      const end = newline < 0 ? data.length : newline;
      if (end - from > LONGEST_LINE) {
        lines.push({ text: data.subarray(from, from + LONGEST_LINE), partial: true });
        from += LONGEST_LINE;
      } else if (newline < 0) {
        break;
      } else {
        lines.push({ text: data.subarray(from, newline), partial: false });
        from = newline + 1;
      }
    }
    this.#rest[stream] = data.slice(from);
    if (lines.length > 0) this.#write(stream, lines);
  }

  #nextInstant(now: number): Instant {
    let next: Instant = { seconds: Math.floor(now / 1000), nanoseconds: (now % 1000) * 1e6 };
    if (compare(next, this.#last) <= 0) {
      const { seconds, nanoseconds } = this.#last;
      // The system's clock is read to the millisecond; lines within one are a microsecond apart.
      next = nanoseconds + 1000 < 1e9
        ? { seconds, nanoseconds: nanoseconds + 1000 }
        : { seconds: seconds + 1, nanoseconds: 0 };
    }
    return this.#last = next;
  }

  #write(stream: StreamName, lines: { text: Uint8Array; partial: boolean }[]): void {
    const now = Date.now();
    const size = lines.reduce((sum, line) => sum + HEADER + line.text.length + 1, 0);
    const buffer = new Uint8Array(size);
    let at = 0;
    for (const { text, partial } of lines) {
      const { seconds, nanoseconds } = this.#nextInstant(now);
      const header = `${seconds}.${String(nanoseconds).padStart(9, "0")}${
        KINDS[stream][partial ? 1 : 0]
      }`;
      encoder.encodeInto(header, buffer.subarray(at, at + HEADER));
      buffer.set(text, at + HEADER);
      at += HEADER + text.length;
      buffer[at++] = 10;
    }
    const file = this.#fileFor(size);
    for (let written = 0; written < size;) written += file.writeSync(buffer.subarray(written));
    this.#size += size;
    this.#wake();
  }

  #fileFor(size: number): Deno.FsFile {
    const current = this.#segments.at(-1);
    if (!this.#file && current !== undefined) {
      this.#size = this.#dropTornRecord(current);
      this.#file = Deno.openSync(this.#path(current), { append: true });
    }
    if (!this.#file || (this.#size > 0 && this.#size + size > this.#limits.segmentBytes)) {
      this.#file?.close();
      const next = (current ?? 0) + 1;
      this.#file = Deno.openSync(this.#path(next), { append: true, create: true, mode: 0o600 });
      this.#size = 0;
      this.#segments.push(next);
      while (this.#segments.length > this.#limits.segments) {
        Deno.removeSync(this.#path(this.#segments.shift()!));
      }
    }
    return this.#file;
  }

  /** An engine that was killed while it wrote leaves half a record behind. Returns the size in bytes. */
  #dropTornRecord(segment: number): number {
    const size = this.#sizeOf(segment);
    const from = Math.max(0, size - BLOCK);
    const whole = from + this.#block(segment, from, BLOCK).lastIndexOf(10) + 1;
    if (whole !== size) Deno.truncateSync(this.#path(segment), whole);
    return whole;
  }

  #wake(): void {
    for (const resume of this.#waiting) resume();
    this.#waiting.clear();
  }

  remove(): void {
    this.end();
    Deno.removeSync(this.#directory, { recursive: true });
    this.#segments = [];
  }

  /** Batches of records, oldest first, read from disk as they are asked for. */
  async *read(query: LogQuery, signal: AbortSignal): AsyncGenerator<LogRecord[]> {
    let position = this.#start(query);
    // Without `follow` the log is what it was when it was asked for, however fast it grows meanwhile.
    const newest = this.#segments.at(-1) ?? 0;
    const end = query.follow ? null : { segment: newest, offset: this.#sizeOf(newest) };
    while (!signal.aborted) {
      if (end && !isBefore(position, end)) return;
      const batch = this.#readFrom(position);
      if (batch) {
        position = batch.next;
        const wanted = batch.records.filter((record) =>
          query[record.stream] && (!query.since || compare(record, query.since) >= 0) &&
          (!query.until || compare(record, query.until) <= 0)
        );
        if (wanted.length > 0) yield wanted;
        const last = batch.records.at(-1);
        if (query.until && last && compare(last, query.until) > 0) return;
        continue;
      }
      if (!query.follow || !this.#open) return;
      await new Promise<void>((resume) => {
        this.#waiting.add(resume);
        signal.addEventListener("abort", () => resume(), { once: true });
        if (query.until) {
          const left = query.until.seconds * 1000 + query.until.nanoseconds / 1e6 - Date.now();
          setTimeout(resume, Math.max(0, Math.min(left, 2 ** 31 - 1)));
        }
      });
      const now = Date.now();
      if (query.until && now > query.until.seconds * 1000 + query.until.nanoseconds / 1e6) {
        query = { ...query, follow: false };
      }
    }
  }

  #start(query: LogQuery): Position {
    const oldest = { segment: this.#segments[0] ?? 1, offset: 0 };
    const bySince = query.since ? this.#seek(query.since) : oldest;
    const byTail = query.tail === null ? oldest : this.#seekTail(query.tail, query);
    return isBefore(byTail, bySince) ? bySince : byTail;
  }

  /** The next block of whole records, or null at the end. */
  #readFrom(position: Position): { records: LogRecord[]; next: Position } | null {
    let { segment, offset } = position;
    const oldest = this.#segments[0];
    if (oldest === undefined) return null;
    if (segment < oldest) [segment, offset] = [oldest, 0];
    while (true) {
      const bytes = this.#block(segment, offset, BLOCK);
      const end = bytes.lastIndexOf(10) + 1;
      if (end > 0) {
        const records: LogRecord[] = [];
        for (let from = 0; from < end;) {
          const newline = bytes.indexOf(10, from);
          records.push(recordFrom(bytes.subarray(from, newline)));
          from = newline + 1;
        }
        return { records, next: { segment, offset: offset + end } };
      }
      if (segment >= this.#segments.at(-1)!) return null;
      [segment, offset] = [segment + 1, 0];
    }
  }

  #block(segment: number, offset: number, size: number): Uint8Array {
    let file: Deno.FsFile;
    try {
      file = Deno.openSync(this.#path(segment), { read: true });
    } catch {
      return new Uint8Array();
    }
    try {
      file.seekSync(offset, Deno.SeekMode.Start);
      const buffer = new Uint8Array(size);
      let length = 0;
      while (length < size) {
        const read = file.readSync(buffer.subarray(length));
        if (read === null) break;
        length += read;
      }
      return buffer.subarray(0, length);
    } finally {
      file.close();
    }
  }

  #sizeOf(segment: number): number {
    try {
      return Deno.statSync(this.#path(segment)).size;
    } catch {
      return 0;
    }
  }

  /** Halves the segment that holds the instant until one block is left to read in order. */
  #seek(since: Instant): Position {
    let segment = this.#segments[0] ?? 1;
    for (const candidate of this.#segments) {
      const first = this.#block(candidate, 0, HEADER);
      if (first.length === HEADER && compare(instantAt(first, 0), since) < 0) segment = candidate;
    }
    let low = 0;
    let high = this.#sizeOf(segment);
    while (high - low > BLOCK) {
      const middle = Math.floor((low + high) / 2);
      const bytes = this.#block(segment, middle, LONGEST_LINE + 2 * HEADER);
      const start = bytes.indexOf(10) + 1;
      if (start === 0 || bytes.length - start < HEADER) break;
      if (compare(instantAt(bytes, start), since) < 0) low = middle + start;
      else high = middle;
    }
    return { segment, offset: low };
  }

  #seekTail(lines: number, query: LogQuery): Position {
    const newest = this.#segments.at(-1) ?? 1;
    if (lines === 0) return { segment: newest, offset: this.#sizeOf(newest) };
    let missing = lines;
    for (const segment of this.#segments.toReversed()) {
      let end = this.#sizeOf(segment);
      while (end > 0) {
        const from = Math.max(0, end - BLOCK);
        const bytes = this.#block(segment, from, end - from);
        const first = from === 0 ? 0 : bytes.indexOf(10) + 1;
        for (let at = bytes.length; at > first;) {
          const start = bytes.lastIndexOf(10, at - 2) + 1;
          if (start < first) break;
          const { stream, partial } = recordFrom(bytes.subarray(start, at - 1));
          if (query[stream] && !partial && --missing === 0) {
            return { segment, offset: from + start };
          }
          at = start;
        }
        end = from + first;
      }
    }
    return { segment: this.#segments[0] ?? 1, offset: 0 };
  }
}

const isBefore = (a: Position, b: Position) =>
  a.segment < b.segment || (a.segment === b.segment && a.offset < b.offset);

interface Position {
  segment: number;
  offset: number;
}
