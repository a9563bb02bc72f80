import { StorageError } from "./errors.ts";

/**
 * A request's body, read once from its beginning. Whoever stops early leaves the rest where it is:
 * a stream that is cancelled would cut the sender off before it reads the answer.
 */
export class RequestBody implements AsyncIterable<Uint8Array> {
  private readonly reader: ReadableStreamDefaultReader<Uint8Array> | null;

  constructor(stream: ReadableStream<Uint8Array> | null) {
    this.reader = stream?.getReader() ?? null;
  }

  /** @throws {StorageError} `Aborted` when the sender went away */
  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    if (this.reader === null) return;
    for (;;) {
      let part: ReadableStreamReadResult<Uint8Array>;
      try {
        part = await this.reader.read();
      } catch (cause) {
        throw new StorageError(499, "Aborted", "Request aborted", { http: 499, cause });
      }
      if (part.done) return;
      yield part.value;
    }
  }

  /** Takes at most `mostBytes` of what is left off the line. */
  async passOver(mostBytes: number): Promise<void> {
    let bytes = 0;
    try {
      for await (const chunk of this) {
        if ((bytes += chunk.byteLength) > mostBytes) return await this.reader!.cancel();
      }
    } catch {
      // The sender is gone; nobody waits for an answer.
    }
  }
}
