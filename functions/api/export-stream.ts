import { ApiError } from "../../shared/contract/errors.ts";
import { type CallerCursor, openAsCaller } from "../../shared/database/caller-cursor.ts";
import { sqlText } from "../../shared/database/literal.ts";
import type { RouteContext } from "./route.ts";

/** Rows of one piece; a row is at most some hundred KiB. */
const ROWS = 100;
/** The database gathers everything before the first row. */
const GATHER_MS = 60_000;
/** A client that takes nothing for so long gives its connection to the database back. */
const STALL_MS = 20_000;
/** Exports of one instance at a time: each holds a connection, and most must be left to requests. */
const AT_ONCE = 2;

let underWay = 0;

/**
 * `{exported_at, user_id, data: {table: [row, …], …}}` as it is read. A download that breaks off is
 * no valid JSON, so that nobody takes a part for the whole.
 *
 * @throws ApiError RESOURCE_EXHAUSTED 503 while others download, and what `export_rows` raises
 */
export async function streamExport(
  context: RouteContext,
  stallMs = STALL_MS,
): Promise<Response> {
  if (underWay >= AT_ONCE) {
    throw new ApiError("RESOURCE_EXHAUSTED", "Other exports are under way", {
      headers: { "Retry-After": "10" },
    });
  }
  underWay++;
  let source: AsyncGenerator<string>;
  try {
    const { sql, caller, request } = context;
    // As text: numbers beyond 2^53 would lose digits on their way.
    const query = sqlText`select source, data::text as data from public.export_rows()`;
    const options = { rows: ROWS, timeoutMs: GATHER_MS };
    const cursor = await openAsCaller(sql, caller, request, query, options);
    // Here already, so that a refusal is an answer and no broken download.
    source = write(context, cursor, await cursor.next());
  } catch (error) {
    underWay--;
    throw error;
  }
  return new Response(bounded(source, stallMs, () => underWay--), {
    headers: {
      "Content-Type": "application/json; charset=utf-8",
      "Content-Disposition": `attachment; filename="agent-launchpad-export.json"`,
      "Cache-Control": "no-store",
    },
  });
}

async function* write(
  { now, caller, followMs }: RouteContext,
  cursor: CallerCursor,
  first: Record<string, unknown>[],
): AsyncGenerator<string> {
  const endsAt = Date.now() + followMs;
  try {
    yield `{"exported_at":${JSON.stringify(now)},"user_id":"${caller.userId}","data":{`;
    let table: unknown = null;
    for (let rows = first; rows.length > 0; rows = await cursor.next()) {
      if (Date.now() > endsAt) throw new Error("The export took too long");
      let text = "";
      for (const { source, data } of rows) {
        if (source === table) text += `,\n${data}`;
        else text += `${table === null ? "" : "],"}\n${JSON.stringify(source)}:[\n${data}`;
        table = source;
      }
      yield text;
    }
    yield "]}}\n";
  } finally {
    await cursor.close();
  }
}

/** What `source` gives, as it is taken; when nobody takes anything any more it is ended. */
function bounded(
  source: AsyncGenerator<string>,
  stallMs: number,
  onEnd: () => void,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  let stall: ReturnType<typeof setTimeout> | undefined;
  let ended = false;
  const end = async () => {
    clearTimeout(stall);
    if (ended) return;
    ended = true;
    await source.return(undefined);
    onEnd();
  };
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      clearTimeout(stall);
      try {
        const { done, value } = await source.next();
        if (done) {
          await end();
          return controller.close();
        }
        controller.enqueue(encoder.encode(value));
        stall = setTimeout(() => {
          controller.error(new Error("Nobody takes the export"));
          void end();
        }, stallMs);
      } catch (error) {
        await end();
        controller.error(error);
      }
    },
    cancel: end,
  });
}
