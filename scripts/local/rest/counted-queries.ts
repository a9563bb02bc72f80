/**
 * The query builder that lite writes its SQL with, over one open transaction, and what PostgREST does
 * for `count=estimated`: lite takes the planner's guess however few rows there are.
 */
import {
  type CompiledQuery,
  type DatabaseConnection,
  Kysely,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
} from "kysely";
import type { TransactionSql } from "postgres";

// deno-lint-ignore no-explicit-any
type Database = any;

const explain = "EXPLAIN (FORMAT JSON) ";

/** The query whose plan lite asks for, which it does for counts that need not be exact and nothing else. */
const planOf = (sql: string) => sql.startsWith(explain) ? sql.slice(explain.length) : null;

const planThatSays = (rows: number) => ({ "QUERY PLAN": [{ Plan: { "Plan Rows": rows } }] });

/** Whether the request wants a count that is exact for few rows and the planner's for many. */
export function countsByEstimate(headers: Record<string, string>): boolean {
  return /(^|[\s,;])count=estimated\b/.test(headers.prefer ?? "");
}

/**
 * @param exactUpTo how many rows are counted before the planner is asked; null asks it at once
 */
export function kyselyOver(
  transaction: TransactionSql,
  exactUpTo: number | null,
): Kysely<Database> {
  const connection: DatabaseConnection = {
    executeQuery: async <R>(query: CompiledQuery) => {
      const asked = exactUpTo === null ? null : planOf(query.sql);
      if (asked !== null) {
        const limit = exactUpTo! + 1;
        const [row] = await transaction.unsafe(
          `select count(*)::int as counted from (${asked} limit ${limit}) as counted`,
          query.parameters as never[],
        );
        if (row!.counted < limit) return { rows: [planThatSays(row!.counted) as R] };
      }
      const result = await transaction.unsafe(query.sql, query.parameters as never[]);
      const rows = Array.from(result) as R[];
      return result.command === "SELECT"
        ? { rows }
        : { rows, numAffectedRows: BigInt(result.count ?? 0) };
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
