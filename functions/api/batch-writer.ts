import { edgeRuntime } from "./edge-runtime.ts";

export interface BatchWriterOptions<Item> {
  /** Items are written together after this long; nobody waits for it. */
  batchMs: number;
  /** Different items that are kept at most while they cannot be written. */
  mostWaiting: number;
  keyOf(item: Item): string;
  /** Adds an item to the one that waits under its key. */
  merge(waiting: Item, item: Item): void;
  write(items: Item[]): Promise<unknown>;
}

/**
 * Makes the writer of what need not be written at once: items are gathered by key and written
 * together. Those that cannot be written wait for the next batch.
 */
export function createBatchWriter<Item extends object>(
  options: BatchWriterOptions<Item>,
): (item: Item) => void {
  const { batchMs, mostWaiting, keyOf, merge, write } = options;
  const waiting = new Map<string, Item>();
  let scheduled = false;

  function add(item: Item): void {
    const key = keyOf(item);
    const known = waiting.get(key);
    if (known !== undefined) merge(known, item);
    else if (waiting.size < mostWaiting) waiting.set(key, { ...item });
  }

  async function writeSoon(): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer: unknown = setTimeout(resolve, batchMs);
      // Node's timers can be told not to keep a process alive; Deno's are numbers.
      if (typeof timer === "object") (timer as { unref(): void }).unref();
    });
    scheduled = false;
    const items = [...waiting.values()];
    waiting.clear();
    await write(items).catch(() => items.forEach(add));
  }

  return (item) => {
    add(item);
    if (scheduled) return;
    scheduled = true;
    const writing = writeSoon();
    // The platform may end an instance that has answered all its requests.
    edgeRuntime()?.waitUntil(writing);
  };
}
