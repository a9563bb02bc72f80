import { Buffer } from "node:buffer";

/** The first file of a form and the fields that came before it. */
export interface FormFile {
  fields: Map<string, string>;
  contentType: string;
  /** To be read to its end. */
  chunks: AsyncGenerator<Uint8Array>;
}

/** The body is not what its header says. */
export class MalformedForm extends Error {
  override readonly name = "MalformedForm";
}

const MOST_HEADER_BYTES = 16 * 1024;
const MOST_FIELD_BYTES = 1024 * 1024;
const MOST_FIELDS = 10;

/**
 * Reads `multipart/form-data` up to its first file and hands the file on as it arrives: the platform's
 * own reader would hold all of it in memory.
 *
 * @returns null when the form has no file
 * @throws {MalformedForm}
 */
export async function readForm(
  body: AsyncIterable<Uint8Array>,
  contentType: string,
): Promise<FormFile | null> {
  const boundary = /;\s*boundary=(?:"([^"]+)"|([^;\s]+))/i.exec(contentType);
  if (boundary === null) throw new MalformedForm("the form has no boundary");
  const reader = new PartReader(body, boundary[1] ?? boundary[2]!);
  const fields = new Map<string, string>();
  for (let headers = await reader.next(); headers !== null; headers = await reader.next()) {
    const disposition = headers.get("content-disposition") ?? "";
    const type = headers.get("content-type");
    if (/;\s*filename\*?=/i.test(disposition) || type === "application/octet-stream") {
      return {
        fields,
        contentType: type ?? "application/octet-stream",
        chunks: reader.chunks(),
      };
    }
    if (fields.size >= MOST_FIELDS) throw new MalformedForm("the form has too many fields");
    const name = /;\s*name="([^"]*)"/i.exec(disposition)?.[1];
    if (name === undefined) throw new MalformedForm("a field has no name");
    fields.set(name, await fieldText(reader.chunks()));
  }
  return null;
}

async function fieldText(chunks: AsyncIterable<Uint8Array>): Promise<string> {
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of chunks) {
    size += chunk.byteLength;
    if (size > MOST_FIELD_BYTES) throw new MalformedForm("a field is too long");
    parts.push(chunk);
  }
  return Buffer.concat(parts).toString("utf8");
}

/** Cuts a body at its boundaries, holding no more of it than one chunk and a boundary. */
class PartReader {
  private readonly source: AsyncIterator<Uint8Array>;
  private readonly delimiter: Buffer;
  private held: Buffer = Buffer.from("\r\n");

  constructor(body: AsyncIterable<Uint8Array>, boundary: string) {
    this.source = body[Symbol.asyncIterator]();
    this.delimiter = Buffer.from(`\r\n--${boundary}`);
  }

  /** Headers of the next part, in lower case; null after the last. What is left of this one is passed over. */
  async next(): Promise<Map<string, string> | null> {
    for await (const _ of this.chunks()) { /* passed over */ }
    await this.hold(this.delimiter.length + 2);
    const after = this.held.subarray(this.delimiter.length, this.delimiter.length + 2).toString();
    if (after === "--") return null;
    let end: number;
    while ((end = this.held.indexOf("\r\n\r\n", this.delimiter.length)) < 0) {
      if (this.held.length > MOST_HEADER_BYTES) throw new MalformedForm("a header is too long");
      await this.more();
    }
    const lines = this.held.subarray(this.delimiter.length, end).toString("utf8").split("\r\n");
    this.held = this.held.subarray(end + 4);
    return new Map(
      lines.filter((line) => line.includes(":")).map((line) => {
        const at = line.indexOf(":");
        return [line.slice(0, at).trim().toLowerCase(), line.slice(at + 1).trim()] as const;
      }),
    );
  }

  /** Bytes up to the next boundary, which stays. */
  async *chunks(): AsyncGenerator<Uint8Array> {
    for (;;) {
      const at = this.held.indexOf(this.delimiter);
      // The end of what is held may be the beginning of a boundary.
      const sure = at >= 0 ? at : this.held.length - this.delimiter.length + 1;
      if (sure > 0) {
        const chunk = this.held.subarray(0, sure);
        this.held = this.held.subarray(sure);
        yield chunk;
      }
      if (at >= 0) return;
      const end = this.held;
      this.held = await this.read();
      const seam = Buffer.concat([end, this.held.subarray(0, this.delimiter.length)]);
      // A copy of each chunk would double what a large file costs; few chunks end within a boundary.
      if (seam.includes(this.delimiter) || this.held.length < this.delimiter.length) {
        this.held = Buffer.concat([end, this.held]);
      } else if (end.length > 0) yield end;
    }
  }

  private async hold(bytes: number): Promise<void> {
    while (this.held.length < bytes) await this.more();
  }

  private async more(): Promise<void> {
    this.held = Buffer.concat([this.held, await this.read()]);
  }

  private async read(): Promise<Buffer> {
    const { done, value } = await this.source.next();
    if (done) throw new MalformedForm("Unexpected end of form");
    return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  }
}
