import type { Sql } from "postgres";
import { type StorageApi, StorageApiError } from "../storage/api.ts";
import { type Clock, systemClock } from "./clock.ts";
import type { Log } from "./log.ts";

export interface StorageRoundsOptions {
  /** Connection as the role that owns the migrations. */
  sql: Sql;
  storage: StorageApi;
  log: Log;
  clock?: Clock;
}

/** A claimed folder whose objects are to go. */
interface Removal {
  id: string;
  lease_token: string;
  bucket_id: string;
  prefix: string;
}

const AT_ONCE = 2;
/** What the platform removes with one request. */
const PAGE = 1000;
/** A folder that takes longer makes room for others, and a round for what else the worker has to do. */
const FOLDER_MS = 30_000;
const ROUND_MS = 90_000;
/** Longer than a folder may take, two slow requests included, so that no other worker takes it up meanwhile. */
const LEASE_SECONDS = 90;

type Outcome = "empty" | "more" | "failed";

/**
 * Removes the files of folders that `private.queue_storage_removal` was given, through the Storage API: no SQL can. What is gone
 * already is as good, so a worker that dies in the middle leaves only less to do. Called as often as the worker is woken; it never
 * throws, and a second call while one is under way joins it.
 */
export function createStorageRounds(options: StorageRoundsOptions): () => Promise<void> {
  const { sql, storage, log } = options;
  const clock = options.clock ?? systemClock;
  let underWay: Promise<void> | null = null;

  /** @returns whether nothing is left, or the time was up */
  async function empty({ bucket_id, prefix }: Removal): Promise<Outcome> {
    const until = clock.now() + FOLDER_MS;
    while (clock.now() < until) {
      const names = await storage.list(bucket_id, prefix, PAGE);
      if (names.length === 0) return "empty";
      // Whatever Storage says, nothing of another folder is touched.
      if (!names.every((name) => name.startsWith(prefix))) {
        throw new StorageApiError("Storage listed objects of another folder");
      }
      const gone = await storage.remove(bucket_id, names);
      if (gone.length === 0) throw new StorageApiError("Storage keeps what it was told to remove");
    }
    return "more";
  }

  async function carryOut(removal: Removal): Promise<void> {
    let outcome: Outcome;
    let reason: string | null = null;
    try {
      outcome = await empty(removal);
    } catch (error) {
      outcome = "failed";
      reason = error instanceof StorageApiError ? error.message : "unknown";
      log("warn", "files could not be removed", { removal_id: removal.id, reason });
    }
    await sql`
      select private.end_storage_removal(${removal.id}, ${removal.lease_token}, ${outcome}, ${reason})
    `;
  }

  async function round(): Promise<void> {
    const until = clock.now() + ROUND_MS;
    try {
      while (clock.now() < until) {
        const rows = await sql<{ removal: Removal }[]>`
          select removal from private.claim_storage_removals(${AT_ONCE}, ${LEASE_SECONDS}) removal
        `;
        if (rows.length === 0) return;
        await Promise.all(rows.map(({ removal }) => carryOut(removal)));
      }
    } catch (error) {
      log("warn", "files could not be looked after", {
        reason: error instanceof Error ? error.name : "unknown",
      });
    } finally {
      underWay = null;
    }
  }

  return () => underWay ??= round();
}
