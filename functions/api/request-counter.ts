import { runStatements } from "../../shared/database/caller.ts";
import type { Database } from "../../shared/database/connect.ts";
import { jsonb, sqlText } from "../../shared/database/literal.ts";

/** Counts are written together after this long; a request itself never waits for it. */
const BATCH_MS = 2000;
/** Counts of more callers than this are not kept while the database is away. */
const MOST_WAITING = 10_000;
/** Stands for callers who did not prove who they are. */
const NOBODY = "00000000-0000-0000-0000-000000000000";

export interface CountedRequest {
  userId: string | null;
  status: number;
  milliseconds: number;
}

interface Count {
  minute: string;
  user_id: string;
  requests: number;
  errors: number;
  duration_ms: number;
}

interface EdgeRuntime {
  waitUntil(work: Promise<unknown>): void;
}

/**
 * Makes the counter of requests behind the performance figures of `GET /api/metrics`. Counts go to a
 * table that all instances share, in batches; those that cannot be written wait for the next one.
 */
export function createRequestCounter(
  sql: Database,
  now: () => Date,
  batchMs: number = BATCH_MS,
): (request: CountedRequest) => void {
  const waiting = new Map<string, Count>();
  let scheduled = false;

  function add(count: Count): void {
    const key = `${count.minute} ${count.user_id}`;
    const known = waiting.get(key);
    if (known === undefined) {
      if (waiting.size < MOST_WAITING) waiting.set(key, { ...count });
      return;
    }
    known.requests += count.requests;
    known.errors += count.errors;
    known.duration_ms += count.duration_ms;
  }

  async function write(): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer: unknown = setTimeout(resolve, batchMs);
      // Node's timers can be told not to keep a process alive; Deno's are numbers.
      if (typeof timer === "object") (timer as { unref(): void }).unref();
    });
    scheduled = false;
    const counts = [...waiting.values()];
    waiting.clear();
    await runStatements(sql, [sqlText`select private.count_requests(${jsonb(counts)})`])
      .catch(() => counts.forEach(add));
  }

  return ({ userId, status, milliseconds }) => {
    const minute = new Date(now());
    minute.setUTCSeconds(0, 0);
    add({
      minute: minute.toISOString(),
      user_id: userId ?? NOBODY,
      requests: 1,
      errors: status >= 500 ? 1 : 0,
      duration_ms: milliseconds,
    });
    if (scheduled) return;
    scheduled = true;
    const writing = write();
    // The platform may end an instance that has answered all its requests.
    (globalThis as { EdgeRuntime?: EdgeRuntime }).EdgeRuntime?.waitUntil(writing);
  };
}
