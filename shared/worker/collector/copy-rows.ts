import type { TransactionSql } from "postgres";

/** A row of `agent_logs`. */
export interface LogRow {
  /** RFC 3339. */
  timestamp: string;
  level: string;
  message: string;
  source: string | null;
  container_id: string | null;
  container_name: string | null;
  metadata: Record<string, unknown> | null;
}

/** Rows that go to the server in one write. */
const ROWS_PER_WRITE = 1000;

/** Inserts log rows by `copy`, in the order given. */
export async function copyLogRows(
  sql: TransactionSql,
  owner: { agentId: string; userId: string },
  rows: readonly LogRow[],
): Promise<void> {
  const stream = await sql`
    copy public.agent_logs (
      agent_id, user_id, timestamp, level, message, source, container_id, container_name, metadata
    ) from stdin
  `.writable();
  const finished = new Promise<void>((resolve, reject) => {
    stream.once("finish", resolve);
    stream.once("error", reject);
    stream.once("close", () => reject(new Error("the connection closed during a copy")));
  });
  // An error in a write comes out of `finished`; without this it would count as unhandled until the await below.
  finished.catch(() => {});
  const prefix = `${owner.agentId}\t${owner.userId}\t`;
  for (let start = 0; start < rows.length; start += ROWS_PER_WRITE) {
    let text = "";
    for (const row of rows.slice(start, start + ROWS_PER_WRITE)) text += prefix + copyLine(row);
    if (!stream.write(text)) {
      await Promise.race([new Promise((resolve) => stream.once("drain", resolve)), finished]);
    }
  }
  stream.end();
  await finished;
}

function copyLine(row: LogRow): string {
  return `${row.timestamp}\t${row.level}\t${field(row.message)}\t${field(row.source)}\t` +
    `${field(row.container_id)}\t${field(row.container_name)}\t${field(jsonb(row.metadata))}\n`;
}

const SPECIAL = /[\\\t\n\r]/;
const ESCAPES: Record<string, string> = { "\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r" };

function field(value: string | null): string {
  if (value === null) return "\\N";
  return SPECIAL.test(value)
    ? value.replace(/[\\\t\n\r]/g, (character) => ESCAPES[character]!)
    : value;
}

/** What jsonb cannot hold (NUL, half a surrogate pair) is left out whole. */
function jsonb(value: Record<string, unknown> | null): string {
  if (value === null) return "{}";
  const text = JSON.stringify(value);
  return /\\u(?:0000|d[89a-f][0-9a-f]{2})/i.test(text) ? "{}" : text;
}
