import type { Sql, TransactionSql } from "postgres";

/**
 * Makes `sql.begin` survive a connection that dies in the transaction (a restarted server, a pooler
 * that lets go). postgres.js 3.4 sends its rollback through the closed connection: that throws where
 * nobody can catch it, ends the process, and would leave the connection stuck for good.
 *
 * Here nothing more is sent after a fatal error; the driver's own notice of the closed connection ends
 * the transaction, which rejects with the first error.
 *
 * @returns the same object
 */
export function surviveLostConnections<T extends Record<string, unknown>>(sql: Sql<T>): Sql<T> {
  const begin = sql.begin as (...args: unknown[]) => Promise<unknown>;
  const safely = async (...args: unknown[]) => {
    const work = args.pop() as (transaction: TransactionSql<T>) => unknown;
    let fatal: unknown;
    try {
      return await begin(...args, async (transaction: TransactionSql<T>) => {
        try {
          const result = await work(transaction);
          // Queries that are returned in an array run as a pipeline.
          return Array.isArray(result) ? await Promise.all(result) : result;
        } catch (error) {
          if (!isConnectionLost(error)) throw error;
          fatal = error;
          return await new Promise<never>(() => {});
        }
      });
    } catch (error) {
      throw fatal ?? error;
    }
  };
  return Object.assign(sql, { begin: safely as unknown as Sql<T>["begin"] });
}

/** Whether after this error the connection is gone, or about to go. */
export function isConnectionLost(error: unknown): boolean {
  const { code, severity_local, severity } = (error ?? {}) as Record<string, unknown>;
  return severity === "FATAL" || severity_local === "FATAL" ||
    /^(CONNECT|ECONN|EPIPE|ENOTFOUND|57P0[123]$)/.test(String(code));
}
