import { become, type Caller, type RequestFacts } from "./caller.ts";
import type { Database } from "./connect.ts";
import { toApiError } from "./errors.ts";
import { type SqlFragment, sqlText } from "./literal.ts";

type Row = Record<string, unknown>;

export interface CallerCursor {
  /** The next rows; none at the end. */
  next(): Promise<Row[]>;
  /** Gives the connection back. Called again it does nothing. */
  close(): Promise<void>;
}

/**
 * Reads a long result as the caller in pieces, all of one moment, so that no more than a piece is
 * ever in memory. It holds a connection until it is closed.
 *
 * @param timeoutMs longest that the database may take for a piece
 * @throws ApiError what SQL raised, or what went wrong with the connection
 */
export async function openAsCaller(
  sql: Database,
  caller: Caller,
  request: RequestFacts,
  query: SqlFragment,
  { rows, timeoutMs }: { rows: number; timeoutMs: number },
): Promise<CallerCursor> {
  const connection = await sql.reserve();
  let open = true;
  const run = async (text: string): Promise<Row[]> => {
    try {
      return await connection.unsafe(text).simple() as unknown as Row[];
    } catch (error) {
      await close();
      throw toApiError(error);
    }
  };
  const close = async () => {
    if (!open) return;
    open = false;
    await connection.unsafe("rollback").simple().catch(() => {});
    connection.release();
  };
  const timeout = sqlText`select set_config('statement_timeout',${String(timeoutMs)}, true)`;
  await run([
    "begin isolation level repeatable read",
    ...become(caller, request).map(({ text }) => text),
    timeout.text,
    `declare long_result no scroll cursor for ${query.text}`,
  ].join(";\n"));
  return { next: () => run(`fetch ${rows} from long_result`), close };
}
