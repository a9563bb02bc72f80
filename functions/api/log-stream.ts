import { type Edition, type JsonObject, mergeAnswers } from "../../shared/contract/editions.ts";
import type { LogRow } from "../../shared/contract/facts.ts";
import { ApiError } from "../../shared/contract/errors.ts";
import { runAsCaller } from "../../shared/database/caller.ts";
import { type LogFacts, presentLogLine } from "./presenters/logs.ts";
import type { RouteContext } from "./route.ts";
import { type LogsInput, logStatement } from "./routes/log-statement.ts";

/** Lines of one read while following; more wait in the database, so memory stays bounded. */
const BATCH = 1000;
const SHORTEST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 2000;
/** Proxies close a connection that is silent for long. */
const HEARTBEAT_MS = 15_000;

type Page = Omit<LogFacts, "agentId">;

interface Format {
  type: string;
  line(id: string, line: JsonObject): string;
  heartbeat: string | null;
  error(error: JsonObject): string;
  end: string | null;
}

const EVENT_STREAM: Format = {
  type: "text/event-stream",
  line: (id, line) => `id: ${id}\nevent: log\ndata: ${JSON.stringify(line)}\n\n`,
  heartbeat: ": alive\n\n",
  error: (error) => `event: error\ndata: ${JSON.stringify({ error })}\n\n`,
  // `retry` makes an EventSource come back at once, with the id of the last line it saw.
  end: "retry: 100\nevent: end\ndata: {}\n\n",
};

const JSON_LINES: Format = {
  type: "application/x-ndjson",
  line: (_id, line) => `${JSON.stringify(line)}\n`,
  heartbeat: null,
  error: (error) => `${JSON.stringify({ error })}\n`,
  end: null,
};

/** The line before which nothing is sent again: `Last-Event-ID`, as an EventSource sends it. */
function lastEventId(headers: Headers): string | null {
  const id = headers.get("last-event-id");
  return id !== null && /^\d{1,18}$/.test(id) ? id : null;
}

function shown(editions: readonly Edition[], line: LogRow): JsonObject {
  return editions.map((edition) => presentLogLine[edition](line))
    .reduce((strong, weak) => mergeAnswers(strong, weak) as JsonObject);
}

/**
 * Follows the log of an agent: the last lines, then each as it is written, as JSON lines or, when
 * the client accepts `text/event-stream`, as server-sent events whose ids make a reconnect go on
 * where it broke off. Each read runs as the caller, so that a revoked right ends the stream. It
 * ends by itself before the platform would cut it, and when the caller's credential ends.
 * @throws ApiError for the first read; later ones are told in the stream, which then ends
 */
export async function followLogs(input: LogsInput, context: RouteContext): Promise<Response> {
  const { sql, caller, request, editions } = context;
  const format = (context.headers.get("accept") ?? "").includes("text/event-stream")
    ? EVENT_STREAM
    : JSON_LINES;
  const endsAt = Math.min(Date.now() + context.followMs, context.credentialExpiresAt);
  const stop = new AbortController();
  const read = (limit: number, after: string | null) =>
    runAsCaller<Page>(sql, caller, request, logStatement({ ...input, lines: limit }, after), {
      repeatable: true,
    });

  let after = lastEventId(context.headers);
  let page = await read(after === null ? input.lines : BATCH, after);

  async function* chunks(): AsyncGenerator<string> {
    let wait = SHORTEST_WAIT_MS;
    let spokenAt = Date.now();
    // The first chunk makes the platform send the headers at once.
    if (format.heartbeat !== null) yield format.heartbeat;
    for (;;) {
      if (page.lines.length > 0) {
        yield page.lines.map((line) => format.line(String(line.id), shown(editions, line)))
          .join("");
        wait = SHORTEST_WAIT_MS;
        spokenAt = Date.now();
      }
      after = page.last_id === null ? after ?? "0" : String(page.last_id);
      const behind = page.lines.length >= BATCH;
      if (!behind) {
        const left = endsAt - Date.now();
        if (left <= 0 || stop.signal.aborted) break;
        await pause(Math.min(wait, left), stop.signal);
        wait = Math.min(wait * 1.5, LONGEST_WAIT_MS);
      }
      if (stop.signal.aborted) return;
      if (format.heartbeat !== null && Date.now() - spokenAt > HEARTBEAT_MS) {
        yield format.heartbeat;
        spokenAt = Date.now();
      }
      try {
        page = await read(BATCH, after);
      } catch (error) {
        const { code, message } = error instanceof ApiError
          ? error
          : new ApiError("INTERNAL_ERROR", "Something went wrong");
        yield format.error({ code, message });
        return;
      }
    }
    if (format.end !== null) yield format.end;
  }

  const source = chunks();
  const encoder = new TextEncoder();
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      const { done, value } = await source.next();
      if (done) controller.close();
      else controller.enqueue(encoder.encode(value));
    },
    cancel() {
      stop.abort();
    },
  });
  return new Response(body, {
    headers: {
      "Content-Type": format.type,
      "Cache-Control": "no-store, no-transform",
      "X-Accel-Buffering": "no",
    },
  });
}

function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener("abort", done);
  });
}
