import postgres, { type Sql } from "postgres";
import { compileTest, type Filter, FilterError, parseFilter, type Test } from "./filters.ts";
import type { Catalog } from "./catalog.ts";

/** One entry of `config.postgres_changes` of a join. */
export interface Binding {
  /** What the client names it by: `ids` of a change. */
  id: number;
  /** What realtime.subscription names it by. */
  subscriptionId: string;
  params: Record<string, unknown>;
}

export type Action = "INSERT" | "UPDATE" | "DELETE";

/** A binding on one table of the publication. */
export interface Subscription {
  binding: number;
  table: number;
  action: Action | "*";
  filters: CompiledFilter[];
  /** Columns asked for besides the primary key; null for all. */
  selected: Set<string> | null;
  subscriber: Subscriber;
}

export interface CompiledFilter extends Filter {
  /** The value as Postgres spells it. */
  wanted: string;
  type: number;
  test: Test;
}

/** A joined channel, as far as changes go. */
export interface Subscriber {
  role: string;
  /** Verified claims as JSON text, for `request.jwt.claims`. */
  claims: string;
  /** @param data the payload's `data` as JSON text */
  deliver(bindings: number[], data: string): void;
}

/** Why a channel gets no changes; the message is Realtime's. */
export class SubscriptionError extends Error {
  override name = "SubscriptionError";
}

/**
 * Checks what a channel asks for and names the tables it means.
 *
 * @throws {SubscriptionError} for parameters that can never work: retrying is of no use
 */
export async function resolveBindings(
  sql: Sql,
  catalog: Catalog,
  bindings: Binding[],
  subscriber: Subscriber,
): Promise<Subscription[]> {
  const subscriptions: Subscription[] = [];
  for (const { id, params } of bindings) {
    const wanted = parseParams(params);
    const rows = await lookUp(sql, wanted, subscriber.role);
    if (rows.length === 0) {
      throw new SubscriptionError(
        "Unable to subscribe to changes with given parameters. Please check Realtime is enabled " +
          `for the given connect parameters: [${described(wanted)}]`,
      );
    }
    for (const { entity, spellings, types } of rows) {
      const known = await catalog.types(types);
      subscriptions.push({
        binding: id,
        table: entity,
        action: wanted.action,
        filters: wanted.filters.map((filter, index) => ({
          ...filter,
          wanted: spellings[index]!,
          type: types[index]!,
          test: compileTest(filter, spellings[index]!, known.get(types[index]!)!.name),
        })),
        selected: wanted.select === null ? null : new Set(wanted.select),
        subscriber,
      });
    }
  }
  return subscriptions;
}

interface Wanted {
  action: Action | "*";
  schema: string;
  table: string;
  filters: Filter[];
  select: string[] | null;
}

function parseParams(params: Record<string, unknown>): Wanted {
  const { schema, table, filter, event } = params;
  const given = (value: unknown): value is string => typeof value === "string";
  const select = parseSelect(params.select);
  const action = given(event) && /^(insert|update|delete)$/i.test(event)
    ? event.toUpperCase() as Action
    : "*";
  if (!given(schema) && !given(table)) {
    throw new SubscriptionError(
      "No subscription params provided. Please provide at least a `schema` or `table` to " +
        `subscribe to: ${JSON.stringify(params)}`,
    );
  }
  const wanted: Wanted = {
    action,
    schema: given(schema) ? schema : "public",
    table: given(table) ? table : "*",
    filters: [],
    select,
  };
  if (select !== null && (wanted.schema === "*" || wanted.table === "*")) {
    throw new SubscriptionError(
      "Column selection is not supported for wildcard subscriptions. Provide an explicit schema " +
        "and table name.",
    );
  }
  try {
    wanted.filters = given(filter) ? parseFilter(filter) : [];
  } catch (error) {
    if (!(error instanceof FilterError)) throw error;
    throw new SubscriptionError(`Error parsing \`filter\` params: ${error.message}`);
  }
  return wanted;
}

function parseSelect(select: unknown): string[] | null {
  if (select === undefined || select === null) return null;
  if (Array.isArray(select) && select.every((name) => typeof name === "string")) {
    return select.length === 0 ? null : select;
  }
  throw new SubscriptionError("`select` must be a list of column names");
}

async function lookUp(
  sql: Sql,
  wanted: Wanted,
  role: string,
): Promise<{ entity: number; spellings: string[]; types: number[] }[]> {
  const filters = wanted.filters.map(({ column, op, value }) => ({ column, op, value }));
  try {
    return await sql`
      select entity::int8::float8 as entity, spellings, types::int8[]::float8[] as types
      from _realtime.subscribe(
        ${wanted.schema}, ${wanted.table}, ${role},
        ${JSON.stringify(filters)}::text::jsonb, ${wanted.select ?? []}::text[]
      )`;
  } catch (error) {
    if (!(error instanceof postgres.PostgresError) || /^(08|53|57)/.test(error.code)) throw error;
    throw new SubscriptionError(
      "Unable to subscribe to changes with given parameters. An exception happened so please " +
        `check your connect parameters: [${described(wanted)}]. ` +
        `Exception: ERROR ${error.code} (${conditionName(error.code)}) ${error.message}`,
    );
  }
}

const CONDITION_NAMES: Record<string, string> = {
  P0001: "raise_exception",
  "22P02": "invalid_text_representation",
  "22003": "numeric_value_out_of_range",
  "22007": "invalid_datetime_format",
  "22008": "datetime_field_overflow",
};

function conditionName(code: string): string {
  return CONDITION_NAMES[code] ?? "unknown";
}

/** As Realtime's own messages print the parameters. */
function described({ action, schema, table, filters, select }: Wanted): string {
  const tuples = filters.map(({ column, op, value, negate }) =>
    `{${JSON.stringify(column)}, ${JSON.stringify(op)}, ${JSON.stringify(value)}, ${negate}}`
  );
  const columns = select === null
    ? "nil"
    : `[${select.map((name) => JSON.stringify(name)).join(", ")}]`;
  return `event: ${action}, schema: ${schema}, table: ${table}, filters: [${tuples.join(", ")}], ` +
    `select: ${columns}`;
}

/** Who follows which table. */
export interface Registry {
  readonly size: number;
  of(table: number): ReadonlySet<Subscription>;
  add(subscriptions: Subscription[]): void;
  remove(subscriptions: Subscription[]): void;
}

export function createRegistry(): Registry {
  const tables = new Map<number, Set<Subscription>>();
  const none: ReadonlySet<Subscription> = new Set();
  let size = 0;
  return {
    get size() {
      return size;
    },
    of: (table) => tables.get(table) ?? none,
    add(subscriptions) {
      for (const subscription of subscriptions) {
        const set = tables.get(subscription.table) ?? new Set();
        tables.set(subscription.table, set.add(subscription));
      }
      size += subscriptions.length;
    },
    remove(subscriptions) {
      for (const subscription of subscriptions) {
        const set = tables.get(subscription.table);
        if (set?.delete(subscription)) size--;
        if (set?.size === 0) tables.delete(subscription.table);
      }
    },
  };
}
