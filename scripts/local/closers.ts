import { describeError } from "./errors.ts";
import type { Log } from "./log.ts";

interface Closer {
  name: string;
  close: () => Promise<void>;
}

/** What has been started, to be closed in the opposite order, whatever one of them does. */
export class Closers {
  private readonly closers: Closer[] = [];
  private closing: Promise<void> | null = null;

  constructor(private readonly log: Log) {}

  add(name: string, close: () => Promise<void>): void {
    this.closers.push({ name, close });
  }

  /** Safe to call twice. Errors go to the log: the rest must be closed all the same. */
  close(): Promise<void> {
    return this.closing ??= this.closeAll();
  }

  private async closeAll(): Promise<void> {
    for (let closer = this.closers.pop(); closer !== undefined; closer = this.closers.pop()) {
      const { name, close } = closer;
      await close().catch((error) =>
        this.log.error(`closing ${name} failed`, { reason: describeError(error) })
      );
    }
  }
}

/** Waits for `work`, but no longer than `milliseconds`. */
export async function within(milliseconds: number, work: Promise<unknown>): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<void>((resolve) => timer = setTimeout(resolve, milliseconds));
  try {
    await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
