import type { Sql } from "postgres";
import type { Log } from "../log.ts";
import type { Subscription } from "./subscriptions.ts";

/** What realtime.subscription says of one binding. */
export interface LedgerEntry {
  /** Of the binding, as the platform's `subscription_id`. */
  id: string;
  /** Verified claims as JSON text. */
  claims: string;
  subscriptions: Subscription[];
}

/**
 * Writes down in `realtime.subscription` who follows which table, as the platform does; the
 * application counts these rows. What this server does not have open is not in the table: rows of one
 * that was killed go at the next start.
 */
export interface Ledger {
  /** Resolves once the rows stand: before the client hears that it is subscribed. */
  write(entries: LedgerEntry[]): Promise<void>;
  erase(ids: string[]): void;
  /** Removes what is not open here, after a start and when the database is back. */
  reconcile(): Promise<void>;
  /** Resolves when nothing waits to be erased. */
  idle(): Promise<void>;
}

const RETRY_AFTER_MS = 5_000;

export function createLedger(sql: Sql, log: Log): Ledger {
  const open = new Set<string>();
  let erased: string[] = [];
  let work: Promise<void> | null = null;
  let retry: ReturnType<typeof setTimeout> | undefined;
  let reconciling: Promise<unknown> = Promise.resolve();

  function enqueue(ids: string[]): void {
    if (ids.length === 0) return;
    erased.push(...ids);
    work ??= drain();
  }

  /** One statement for all that were closed in the same moment: a lost connection closes many. */
  async function drain(): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, 0));
    while (erased.length > 0) {
      const ids = erased;
      erased = [];
      try {
        await sql`delete from realtime.subscription where subscription_id = any (${ids}::uuid[])`;
      } catch (error) {
        log.warn("Closed subscriptions could not be removed; trying again", {
          reason: error instanceof Error ? error.message : String(error),
        });
        clearTimeout(retry);
        retry = setTimeout(() => void ledger.reconcile().catch(() => {}), RETRY_AFTER_MS);
        break;
      }
    }
    work = null;
  }

  const ledger: Ledger = {
    async write(entries) {
      for (const { id } of entries) open.add(id);
      // It would take these rows for somebody else's.
      await reconciling;
      const rows = entries.flatMap(({ id, claims, subscriptions }) =>
        subscriptions.map(({ table, action, filters, selected }) => ({
          id,
          entity: table,
          claims: JSON.parse(claims),
          action,
          selected: selected === null ? null : [...selected],
          filters: filters.map(({ column, op, wanted, negate }) => ({
            column_name: column,
            op,
            value: wanted,
            negate,
          })),
        }))
      );
      const ids = entries.map(({ id }) => id);
      await sql`select _realtime.write_subscriptions(${ids}::uuid[], ${
        JSON.stringify(rows)
      }::text::jsonb)`;
      // The client may have left meanwhile.
      enqueue(ids.filter((id) => !open.has(id)));
    },
    erase(ids) {
      enqueue(ids.filter((id) => open.delete(id)));
    },
    async reconcile() {
      const removed = sql`
        delete from realtime.subscription where not (subscription_id = any (${[...open]}::uuid[]))`
        .execute();
      reconciling = removed.catch(() => {});
      await removed;
    },
    async idle() {
      clearTimeout(retry);
      await work;
    },
  };
  return ledger;
}
