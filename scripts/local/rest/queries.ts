/**
 * The query builder that lite writes its SQL with, over one open transaction, and what PostgREST does
 * otherwise than lite: `count=estimated` is exact for few rows, where lite takes the planner's guess,
 * and CSV holds values as Postgres writes them, where lite has JSON's.
 */
import {
  type CompiledQuery,
  type DatabaseConnection,
  Kysely,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
} from "kysely";
import type { RawRowList, Row, TransactionSql } from "postgres";

// deno-lint-ignore no-explicit-any
type Database = any;

const explain = "EXPLAIN (FORMAT JSON) ";

/** The query whose plan lite asks for, which it does for counts that need not be exact and nothing else. */
const planOf = (sql: string) => sql.startsWith(explain) ? sql.slice(explain.length) : null;

const planThatSays = (rows: number) => ({ "QUERY PLAN": [{ Plan: { "Plan Rows": rows } }] });

/** What the request's headers ask of its queries. */
export interface Wishes {
  /** How many rows are counted before the planner is asked; null asks it at once. */
  exactUpTo: number | null;
  /** Values as Postgres's own text. */
  asText: boolean;
}

export function readWishes(headers: Record<string, string>, maxRows: number): Wishes {
  const estimated = /(^|[\s,;])count=estimated\b/.test(headers.prefer ?? "");
  return {
    exactUpTo: estimated ? maxRows : null,
    asText: /\btext\/csv\b/.test(headers.accept ?? ""),
  };
}

/** The rows with each value as the server sent it. */
function textsOf({ columns }: RawRowList<Row[]>, rows: (Uint8Array | null)[][]): unknown[] {
  const decoder = new TextDecoder();
  return rows.map((values) =>
    Object.fromEntries(columns.map(({ name }, index) => {
      const value = values[index];
      return [name, value ? decoder.decode(value) : null];
    }))
  );
}

function answerOf<R>(sent: { command: string; count: number | null }, rows: unknown[]) {
  return sent.command === "SELECT"
    ? { rows: rows as R[] }
    // EXPLAIN has no count.
    : { rows: rows as R[], numAffectedRows: BigInt(sent.count ?? 0) };
}

export function kyselyOver(
  transaction: TransactionSql,
  { exactUpTo, asText }: Wishes,
): Kysely<Database> {
  const connection: DatabaseConnection = {
    executeQuery: async <R>(query: CompiledQuery) => {
      const asked = planOf(query.sql);
      if (asked !== null && exactUpTo !== null) {
        const limit = exactUpTo + 1;
        const [row] = await transaction.unsafe(
          `select count(*)::int as counted from (${asked} limit ${limit}) as counted`,
          query.parameters as never[],
        );
        if (row!.counted < limit) return { rows: [planThatSays(row!.counted) as R] };
      }
      const sending = transaction.unsafe(query.sql, query.parameters as never[]);
      if (asText && asked === null) {
        const raw = await sending.raw();
        return answerOf<R>(raw, textsOf(raw, raw));
      }
      const result = await sending;
      return answerOf<R>(result, Array.from(result));
    },
    streamQuery: () => {
      throw new Error("results are not streamed");
    },
  };
  const nothing = () => Promise.resolve();
  return new Kysely({
    dialect: {
      createAdapter: () => new PostgresAdapter(),
      createIntrospector: (db) => new PostgresIntrospector(db),
      createQueryCompiler: () => new PostgresQueryCompiler(),
      createDriver: () => ({
        init: nothing,
        acquireConnection: () => Promise.resolve(connection),
        // The request's transaction is begun and ended around all of its queries.
        beginTransaction: nothing,
        commitTransaction: nothing,
        rollbackTransaction: nothing,
        releaseConnection: nothing,
        destroy: nothing,
      }),
    },
  });
}
