import type postgres from "postgres";
import { copyLogRows, type LogRow } from "../../shared/worker/collector/copy-rows.ts";

/** Writes log lines as the worker does, so that they are counted too. */
export async function writeLog(
  sql: postgres.Sql,
  owner: { agentId: string; userId: string },
  rows: LogRow[],
): Promise<void> {
  await sql.begin((transaction) => copyLogRows(transaction, owner, rows));
}
