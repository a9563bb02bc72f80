import type postgres from "postgres";
import { type Database } from "../../shared/database/connect.ts";

/** One of the connections that a user may have at a time. */
export interface Slot {
  release(): void;
}

export interface Slots {
  /**
   * Counts one more connection of a user.
   * @returns the slot, or how many a user may have when there are so many
   * @throws when the database cannot be asked
   */
  take(userId: string): Promise<Slot | number>;
  close(): Promise<void>;
}

export interface SlotsOptions {
  sql: Database;
  /** Opens a connection that stays: its session says that this instance lives. */
  openSession(onClose: () => void): postgres.Sql;
  log(entry: Record<string, unknown>): void;
}

const SEEN_EVERY_MS = 30_000;
const RETRY_AFTER_MS = 1_000;

/**
 * Counts the connections of users in Postgres, so that the limit holds over all instances of the
 * function. What an instance has open is free again as soon as its session ends, also when it is
 * killed; a session that is lost is replaced, and what is open is counted anew.
 */
export function createSlots({ sql, openSession, log }: SlotsOptions): Slots {
  /** Connection id → user id. */
  const open = new Map<string, string>();
  let instance: Promise<string> | null = null;
  let session: postgres.Sql | null = null;
  let seen: ReturnType<typeof setInterval> | undefined;
  let retry: ReturnType<typeof setTimeout> | undefined;
  let closed = false;

  async function register(): Promise<string> {
    const id = crypto.randomUUID();
    const mine = openSession(() => lost(mine));
    session = mine;
    try {
      await mine`select private.register_ws_instance(${id}, ${
        JSON.stringify(Object.fromEntries(open))
      }::text::jsonb)`;
    } catch (error) {
      lost(mine);
      throw error;
    }
    clearInterval(seen);
    seen = setInterval(() => {
      mine`update private.ws_instances set seen_at = now() where id = ${id} returning id`.then(
        (rows) => rows.length === 0 && lost(mine),
        () => lost(mine),
      );
    }, SEEN_EVERY_MS);
    return id;
  }

  /** The session is gone, and with it all that was counted. */
  function lost(which: postgres.Sql): void {
    if (closed || session !== which) return;
    session = null;
    instance = null;
    clearInterval(seen);
    which.end({ timeout: 0 }).catch(() => {});
    if (open.size === 0) return;
    clearTimeout(retry);
    retry = setTimeout(() => {
      begin().catch((error) => {
        log({ level: "warn", message: "Connections could not be counted", reason: String(error) });
      });
    }, RETRY_AFTER_MS);
  }

  function begin(): Promise<string> {
    const beginning = instance ??= register();
    beginning.catch(() => instance === beginning && (instance = null));
    return beginning;
  }

  async function forget(id: string): Promise<void> {
    open.delete(id);
    try {
      await sql`delete from private.ws_connections where id = ${id}`;
    } catch (error) {
      // With the session of this instance the row goes too, at the latest.
      log({ level: "warn", message: "A connection still counts", reason: String(error) });
    }
  }

  return {
    async take(userId) {
      const id = crypto.randomUUID();
      const [row] = await sql<{ most: number | null }[]>`
        select private.open_ws_connection(${id}, ${userId}, ${await begin()}) as most`;
      if (row!.most !== null) return row!.most;
      open.set(id, userId);
      let released = false;
      return {
        release() {
          if (released) return;
          released = true;
          forget(id);
        },
      };
    },
    async close() {
      closed = true;
      clearInterval(seen);
      clearTimeout(retry);
      await session?.end({ timeout: 1 });
    },
  };
}
