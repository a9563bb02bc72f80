import { runStatements } from "../../shared/database/caller.ts";
import type { Database } from "../../shared/database/connect.ts";
import { jsonb, sqlText } from "../../shared/database/literal.ts";
import { createBatchWriter } from "./batch-writer.ts";

/** Counts are written together after this long. */
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

/**
 * Makes the counter of requests behind the performance figures of `GET /api/metrics`. Counts go to a
 * table that all instances share.
 */
export function createRequestCounter(
  sql: Database,
  now: () => Date,
  batchMs: number = BATCH_MS,
): (request: CountedRequest) => void {
  const count = createBatchWriter<Count>({
    batchMs,
    mostWaiting: MOST_WAITING,
    keyOf: ({ minute, user_id }) => `${minute} ${user_id}`,
    merge(known, { requests, errors, duration_ms }) {
      known.requests += requests;
      known.errors += errors;
      known.duration_ms += duration_ms;
    },
    write: (counts) =>
      runStatements(sql, [sqlText`select private.count_requests(${jsonb(counts)})`]),
  });

  return ({ userId, status, milliseconds }) => {
    const minute = new Date(now());
    minute.setUTCSeconds(0, 0);
    count({
      minute: minute.toISOString(),
      user_id: userId ?? NOBODY,
      requests: 1,
      errors: status >= 500 ? 1 : 0,
      duration_ms: milliseconds,
    });
  };
}
