import { Buffer } from "node:buffer";

/** Begin of every binary copy: signature, no flags, no extension. */
const HEADER = [
  0x50,
  0x47,
  0x43,
  0x4f,
  0x50,
  0x59,
  0x0a,
  0xff,
  0x0d,
  0x0a,
  0,
  0,
  0,
  0,
  0,
  0,
  0,
  0,
  0,
];
/** Postgres counts time from 2000. */
export const EPOCH_MS = Date.UTC(2000, 0, 1);

/** Writes rows in Postgres's binary copy format into a buffer that grows as needed. */
export class BinaryRows {
  #buffer: Buffer;
  #used = 0;
  /** Most rows fall into the same second as the one before. */
  #second = "";
  #secondMs = 0;

  constructor(private readonly capacity: number) {
    this.#buffer = Buffer.allocUnsafe(capacity * 2);
  }

  get size(): number {
    return this.#used;
  }

  /** What was written since the last call. */
  take(): Buffer {
    const taken = this.#buffer.subarray(0, this.#used);
    this.#buffer = Buffer.allocUnsafe(this.capacity * 2);
    this.#used = 0;
    return taken;
  }

  header(): void {
    this.#reserve(HEADER.length);
    this.#buffer.set(HEADER, this.#used);
    this.#used += HEADER.length;
  }

  /** Begins a row; as many values must follow. */
  row(fields: number): void {
    this.#reserve(2);
    this.#used = this.#buffer.writeInt16BE(fields, this.#used);
  }

  trailer(): void {
    this.row(-1);
  }

  bytes(value: Uint8Array): void {
    this.#reserve(4 + value.length);
    this.#used = this.#buffer.writeInt32BE(value.length, this.#used);
    this.#buffer.set(value, this.#used);
    this.#used += value.length;
  }

  text(value: string | null): void {
    if (value === null) {
      this.#reserve(4);
      this.#used = this.#buffer.writeInt32BE(-1, this.#used);
    } else {
      // Text in Postgres has no NUL.
      this.#string(value.includes("\0") ? value.replaceAll("\0", "") : value, 0);
    }
  }

  /** @param text JSON */
  jsonb(text: string): void {
    this.#string(text, 1);
  }

  /**
   * @param time RFC 3339; what is finer than a microsecond is cut off
   * @returns the time as it is stored, in microseconds since 2000
   */
  timestamp(time: string): number {
    const second = time.slice(0, 19);
    const zone = time.slice(19).search(/[Zz+-]/);
    const key = second + time.slice(19 + zone);
    if (key !== this.#second) {
      this.#second = key;
      this.#secondMs = Date.parse(key);
    }
    const fraction = zone > 1 ? time.slice(20, 19 + Math.min(zone, 7)).padEnd(6, "0") : "0";
    const micros = (this.#secondMs - EPOCH_MS) * 1000 + Number(fraction);
    this.#reserve(12);
    this.#used = this.#buffer.writeInt32BE(8, this.#used);
    this.#used = this.#buffer.writeInt32BE(Math.floor(micros / 2 ** 32), this.#used);
    this.#used = this.#buffer.writeUInt32BE(
      micros - Math.floor(micros / 2 ** 32) * 2 ** 32,
      this.#used,
    );
    return micros;
  }

  /** @param version written before the text when not 0, as jsonb has it */
  #string(value: string, version: number): void {
    // A UTF-16 unit takes at most three bytes in UTF-8.
    this.#reserve(5 + value.length * 3);
    const start = this.#used + 4;
    let end = start;
    if (version !== 0) end = this.#buffer.writeUInt8(version, end);
    end += this.#buffer.write(value, end);
    this.#buffer.writeInt32BE(end - start, this.#used);
    this.#used = end;
  }

  #reserve(bytes: number): void {
    if (this.#used + bytes <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafe(Math.max(this.#buffer.length * 2, this.#used + bytes));
    this.#buffer.copy(larger, 0, 0, this.#used);
    this.#buffer = larger;
  }
}
