import type { Sql } from "postgres";
import type { Log } from "../log.ts";

/** Asks as one subscriber about rows of one table. */
export interface VisibilityRequest {
  table: number;
  role: string;
  claims: string;
  /** Primary keys; null when only the columns matter. */
  keys: string[][] | null;
}

export interface Visibility {
  /** Whether the table has row level security; null when the table is gone. */
  rowSecurity: boolean | null;
  /** Columns the role may select. */
  selectable: Set<string>;
  /** Positions in `keys` of the rows the subscriber may see. */
  visible: Set<number>;
}

const NOTHING: Visibility = { rowSecurity: null, selectable: new Set(), visible: new Set() };

/**
 * Lets Postgres decide, as each subscriber, which rows may be seen: one statement for the whole batch.
 * When it fails as a whole (a policy that takes too long), the requests are asked one by one, and one
 * that fails by itself sees nothing.
 */
export async function askVisibility(
  sql: Sql,
  requests: VisibilityRequest[],
  log: Log,
): Promise<Visibility[]> {
  if (requests.length === 0) return [];
  try {
    const rows = await sql<InspectRow[]>`
      select row_security, selectable, visible, failure
      from _realtime.inspect(${JSON.stringify(requests)}::text::jsonb)`;
    return rows.map((row, index) => toVisibility(row, requests[index]!, log));
  } catch (error) {
    const failure = error instanceof Error ? error.message : String(error);
    if (requests.length === 1) {
      log.warn("A change was not told: its visibility could not be asked", { failure });
      return [NOTHING];
    }
    const answers: Visibility[] = [];
    for (const request of requests) answers.push(...await askVisibility(sql, [request], log));
    return answers;
  }
}

interface InspectRow {
  row_security: boolean | null;
  selectable: string[];
  visible: number[] | null;
  failure: string | null;
}

function toVisibility(row: InspectRow, request: VisibilityRequest, log: Log): Visibility {
  if (row.failure !== null) {
    log.warn("A policy failed while a change was to be told", {
      table: request.table,
      role: request.role,
      failure: row.failure,
    });
  }
  const visible = row.visible ?? request.keys?.map((_, index) => index) ?? [];
  return {
    rowSecurity: row.row_security,
    selectable: new Set(row.selectable),
    visible: new Set(visible),
  };
}
