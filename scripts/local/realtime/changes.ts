import type { Buffer } from "node:buffer";
import type { Sql } from "postgres";
import type { Log } from "../log.ts";
import type { Catalog } from "./catalog.ts";
import { compareInDatabase, type Comparison } from "./filters.ts";
import { changeData, errorData, type TableChange } from "./payload.ts";
import { decodeChange, type Relation, type Tuple } from "./pgoutput.ts";
import type { Registry, Subscriber, Subscription } from "./subscriptions.ts";
import { askVisibility, type Visibility, type VisibilityRequest } from "./visibility.ts";

/** A change as it came: decoded only when somebody follows its table. */
export interface RawChange {
  relation: Relation;
  message: Buffer;
  committedAt: number;
  /** 32-bit id of the transaction. */
  transaction: number;
}

export interface Changes {
  push(change: RawChange): void;
  /** Forgets what waits; after a lost connection it is of no use any more. */
  clear(): void;
  /** Resolves when nothing waits. */
  idle(): Promise<void>;
}

export interface ChangesOptions {
  sql: Sql;
  catalog: Catalog;
  registry: Registry;
  log: Log;
  /** Called when too much waits, and when there is room again. */
  pause(): void;
  resume(): void;
}

const MOST_WAITING_BYTES = 8 * 1024 * 1024;
/** Changes that are told together; what comes meanwhile waits for the next batch. */
const BATCH = 400;
const RETRY_AFTER_MS = [50, 500];

/**
 * From the log to the subscribers: filters, then one question to Postgres for the whole batch, then
 * payloads. Batches are told one after the other, so each subscriber sees changes in commit order.
 */
export function createChanges(options: ChangesOptions): Changes {
  const { catalog, registry, log } = options;
  let waiting: RawChange[] = [];
  let waitingBytes = 0;
  let paused = false;
  let streams = 0;
  let work: Promise<void> | null = null;

  async function drain(): Promise<void> {
    // What arrived in the same moment goes into the same batch.
    await new Promise((resolve) => setTimeout(resolve, 0));
    while (waiting.length > 0) {
      const batch = waiting.splice(0, BATCH);
      waitingBytes -= batch.reduce((sum, { message }) => sum + message.length, 0);
      if (paused && waitingBytes < MOST_WAITING_BYTES / 2) {
        paused = false;
        options.resume();
      }
      await tellPatiently(batch);
    }
    work = null;
  }

  /** A connection may break while it is asked; as long as the stream stands, the batch is told. */
  async function tellPatiently(batch: RawChange[]): Promise<void> {
    const then = streams;
    for (const pause of [...RETRY_AFTER_MS, null]) {
      try {
        await awaitVisible(options, batch);
        return await tell(options, await followed(catalog, registry, batch));
      } catch (error) {
        if (pause === null || then !== streams) {
          return log.warn("Changes were not told", {
            count: batch.length,
            reason: error instanceof Error ? error.message : String(error),
          });
        }
        await new Promise((resolve) => setTimeout(resolve, pause));
      }
    }
  }

  return {
    push(change) {
      // The usual case: nobody follows this table.
      const table = catalog.known(change.relation);
      if (registry.size === 0 || (table && registry.of(table.oid).size === 0)) return;
      waiting.push(change);
      waitingBytes += change.message.length;
      if (!paused && waitingBytes > MOST_WAITING_BYTES) {
        paused = true;
        options.pause();
      }
      work ??= drain();
    },
    clear() {
      streams++;
      waiting = [];
      waitingBytes = 0;
      if (paused) options.resume();
      paused = false;
    },
    async idle() {
      await work;
    },
  };
}

/** The log tells a commit before other sessions see its rows, and they are asked about next. */
async function awaitVisible({ sql, log }: ChangesOptions, batch: RawChange[]): Promise<void> {
  const transactions = [...new Set(batch.map(({ transaction }) => transaction))];
  const [row] = await sql<{ visible: boolean }[]>`
    select _realtime.await_visible(${transactions}::int8[]) as visible`;
  if (!row!.visible) log.warn("A commit takes long to become visible; its changes may not be told");
}

interface Followed {
  event: TableChange;
  subscriptions: Subscription[];
}

/** The changes of tables that somebody follows for this kind of change. */
async function followed(
  catalog: Catalog,
  registry: Registry,
  batch: RawChange[],
): Promise<Followed[]> {
  const result: Followed[] = [];
  for (const { relation, message, committedAt } of batch) {
    const table = await catalog.table(relation);
    if (table === null) continue;
    const all = registry.of(table.oid);
    if (all.size === 0) continue;
    const change = decodeChange(message);
    const subscriptions = [...all].filter(({ action }) => action === "*" || action === change.type);
    if (subscriptions.length === 0) continue;
    const types = await catalog.types(relation.columns.map(({ type }) => type));
    result.push({ event: { relation, table, change, committedAt, types }, subscriptions });
  }
  return result;
}

async function tell({ sql, registry, log }: ChangesOptions, batch: Followed[]): Promise<void> {
  await keepPassing(sql, batch);
  const questions = createQuestions();
  const told = batch.map(({ event, subscriptions }) => {
    const key = keyOf(event);
    return {
      event,
      asked: subscriptions.map((subscription) => ({
        subscription,
        question: questions.add(event.table.oid, subscription.subscriber, key),
      })),
    };
  });
  const answers = await questions.ask(sql, log);

  for (const { event, asked } of told) {
    const payloads = new Map<Subscription["subscriber"], Map<string, number[]>>();
    const built = new Map<string, string>();
    const followers = registry.of(event.table.oid);
    for (const { subscription, question } of asked) {
      // It may have left while Postgres was asked.
      if (!followers.has(subscription)) continue;
      const data = dataFor(event, subscription, answers(question), built);
      if (data === null) continue;
      const { subscriber, binding } = subscription;
      const bindings = payloads.get(subscriber) ?? new Map<string, number[]>();
      payloads.set(subscriber, bindings.set(data, [...bindings.get(data) ?? [], binding]));
    }
    for (const [subscriber, bindings] of payloads) {
      for (const [data, ids] of bindings) subscriber.deliver(ids, data);
    }
  }
}

/** The payload for one subscription, or null when it is not told. Payloads are built once a role. */
function dataFor(
  event: TableChange,
  { selected, subscriber }: Subscription,
  { visibility, seen }: Answer,
  built: Map<string, string>,
): string | null {
  const { change, table } = event;
  const { rowSecurity, selectable } = visibility;
  if (rowSecurity === null) return null;
  const once = (name: string, build: () => string) => {
    const data = built.get(name) ?? build();
    built.set(name, data);
    return data;
  };
  if (change.type !== "DELETE") {
    if (table.primaryKey.length === 0) {
      return once("400", () => errorData(event, "Error 400: Bad Request, no primary key"));
    }
    if (!table.primaryKey.every((name) => selectable.has(name))) {
      return once("401", () => errorData(event, "Error 401: Unauthorized"));
    }
    if (!seen) return null;
  }
  const columns = selected === null ? "*" : [...selected].join();
  return once(
    `${subscriber.role} ${columns}`,
    () => changeData(event, selectable, selected, rowSecurity),
  );
}

/** The primary key of a row that still is; null when there is none to ask for. */
function keyOf({ relation, table, change }: TableChange): string[] | null {
  if (change.new === null || table.primaryKey.length === 0) return null;
  const key = table.primaryKey.map((name) => {
    const index = relation.columns.findIndex((column) => column.name === name);
    return change.new![index];
  });
  return key.every((value) => typeof value === "string") ? key as string[] : null;
}

/** Leaves of each change's subscriptions those whose filters hold. */
async function keepPassing(sql: Sql, batch: Followed[]): Promise<void> {
  const comparisons: Comparison[] = [];
  const undecided: { followed: Followed; subscription: Subscription; from: number; to: number }[] =
    [];
  for (const followed of batch) {
    followed.subscriptions = followed.subscriptions.filter((subscription) => {
      const from = comparisons.length;
      const verdict = holds(followed.event, subscription, comparisons);
      if (verdict === null) {
        undecided.push({ followed, subscription, from, to: comparisons.length });
      }
      return verdict !== false;
    });
  }
  if (undecided.length === 0) return;
  const verdicts = await compareInDatabase(sql, comparisons);
  for (const { followed, subscription, from, to } of undecided) {
    if (verdicts.slice(from, to).every(Boolean)) continue;
    followed.subscriptions = followed.subscriptions.filter((other) => other !== subscription);
  }
}

/** Null when Postgres must compare; `comparisons` has what. */
function holds(
  { relation, change }: TableChange,
  { filters }: Subscription,
  comparisons: Comparison[],
): boolean | null {
  const open: Comparison[] = [];
  for (const { column, op, negate, wanted, type, test } of filters) {
    const index = relation.columns.findIndex(({ name }) => name === column);
    const tuple: Tuple | null = change.new ?? change.old;
    // Of a deleted row often only the key is known; a filter on anything else holds for none.
    const known = change.new !== null || !change.keysOnly || relation.columns[index]?.key;
    let value = index < 0 || !known ? undefined : tuple?.[index];
    if (value === undefined && change.new !== null && change.old !== null && !change.keysOnly) {
      value = change.old[index];
    }
    if (value === undefined) return false;
    const verdict = test(value);
    if (verdict === false) return false;
    if (verdict === null) open.push({ type, op, negate, value, wanted });
  }
  if (open.length === 0) return true;
  comparisons.push(...open);
  return null;
}

interface Answer {
  visibility: Visibility;
  /** Whether the row asked about may be seen. */
  seen: boolean;
}

/** A place in the batch's list of questions. */
interface Question {
  request: number;
  row: number;
}

/** Collects the batch's questions: each subscriber's about one table become one request. */
function createQuestions() {
  const requests: VisibilityRequest[] = [];
  const known = new Map<string, { request: number; rows: Map<string, number> }>();
  return {
    add(table: number, { role, claims }: Subscriber, key: string[] | null): Question {
      // Without a row only the columns matter, which are the same for everybody of the role.
      const name = key === null ? `${table} ${role}` : `${table} ${role} ${claims}`;
      let place = known.get(name);
      if (place === undefined) {
        const request = requests.push({
          table,
          role,
          claims: key === null ? "{}" : claims,
          keys: key && [],
        });
        known.set(name, place = { request: request - 1, rows: new Map() });
      }
      if (key === null) return { request: place.request, row: -1 };
      const keyName = JSON.stringify(key);
      let row = place.rows.get(keyName);
      if (row === undefined) {
        row = requests[place.request]!.keys!.push(key) - 1;
        place.rows.set(keyName, row);
      }
      return { request: place.request, row };
    },
    async ask(sql: Sql, log: Log): Promise<(question: Question) => Answer> {
      const answers = await askVisibility(sql, requests, log);
      return ({ request, row }) => {
        const visibility = answers[request]!;
        return { visibility, seen: visibility.visible.has(row) };
      };
    },
  };
}
