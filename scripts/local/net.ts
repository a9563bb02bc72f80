/**
 * What sends the requests of the local pg_net: woken at the commit that queues one, it takes it out of
 * net.http_request_queue, sends it and stores the answer in net._http_response.
 *
 * Like pg_net it forgets: a request is gone from the queue when it is sent, whether it arrives or not,
 * and answers are deleted after six hours.
 */
import postgres from "postgres";
import { describeError } from "./errors.ts";
import type { Log } from "./log.ts";

export interface NetOptions {
  /** As the superuser. */
  databaseUrl: string;
  log: Log;
}

interface QueuedRequest {
  id: string;
  method: string;
  url: string;
  headers: Record<string, string> | null;
  body: Uint8Array | null;
  timeout: number;
}

interface Answer {
  status: number | null;
  contentType: string | null;
  headers: Record<string, string> | null;
  content: string | null;
  timedOut: boolean;
  error: string | null;
}

const requestsAtOnce = 100;
/** Of an answer's body; the callers of this stack look at a status and a few words. */
const storedBytes = 1024 * 1024;
const timeToLive = "6 hours";
const purgeEveryMs = 60_000;

/** Starts sending. Requests that were queued while the stack was down leave at once. */
export async function startNet(
  { databaseUrl, log }: NetOptions,
): Promise<{ close(): Promise<void> }> {
  const sql = postgres(databaseUrl, {
    max: 3,
    idle_timeout: 30,
    onnotice: () => {},
    connection: { application_name: "pg_net" },
  });
  const inFlight = new Set<Promise<void>>();
  const closing = new AbortController();
  let draining = false;
  let again = false;

  /** Takes requests until the queue is empty; a wake-up in between asks for one more look. */
  async function drain(): Promise<void> {
    if (draining) {
      again = true;
      return;
    }
    draining = true;
    try {
      do {
        again = false;
        let taken: QueuedRequest[];
        do {
          const room = requestsAtOnce - inFlight.size;
          if (room <= 0) {
            await Promise.race(inFlight);
            taken = [];
            again = true;
            continue;
          }
          taken = closing.signal.aborted ? [] : await take(sql, room);
          for (const request of taken) {
            const sent = deliver(sql, request, closing.signal)
              .catch((error) => {
                if (!closing.signal.aborted) {
                  log.warn(`an answer was lost: ${describeError(error)}`);
                }
              })
              .finally(() => inFlight.delete(sent));
            inFlight.add(sent);
          }
        } while (taken.length > 0);
      } while (again && !closing.signal.aborted);
    } catch (error) {
      if (!closing.signal.aborted) log.warn(`the queue cannot be read: ${describeError(error)}`);
    } finally {
      draining = false;
    }
  }

  const purge = setInterval(() => {
    sql`delete from net._http_response where created < now() - ${timeToLive}::interval`
      .catch(ignoreMissing)
      .catch((error) => log.debug(`answers were not purged: ${describeError(error)}`));
  }, purgeEveryMs);
  const listener = await sql.listen("net", () => void drain(), () => void drain());

  return {
    close: async () => {
      closing.abort();
      clearInterval(purge);
      await listener.unlisten().catch(() => {});
      await Promise.allSettled(inFlight);
      await sql.end({ timeout: 1 });
    },
  };
}

async function take(sql: postgres.Sql, limit: number): Promise<QueuedRequest[]> {
  return await sql<QueuedRequest[]>`
    with taken as (
      delete from net.http_request_queue
      where id in (
        select id from net.http_request_queue order by id limit ${limit} for update skip locked
      )
      returning *
    )
    select id::text, method, url, headers, body, timeout_milliseconds as timeout
    from taken order by taken.id`.catch(ignoreMissing);
}

/** Until a migration creates the extension nothing can be queued. */
function ignoreMissing(error: unknown): never[] {
  const code = (error as { code?: string }).code;
  if (code === "42P01" || code === "3F000") return [];
  throw error;
}

async function deliver(
  sql: postgres.Sql,
  request: QueuedRequest,
  closing: AbortSignal,
): Promise<void> {
  const answer = await send(request, closing);
  await sql`
    insert into net._http_response
      (id, status_code, content_type, headers, content, timed_out, error_msg)
    values (
      ${request.id}, ${answer.status}, ${answer.contentType}, ${
    answer.headers && sql.json(answer.headers)
  },
      ${answer.content}, ${answer.timedOut}, ${answer.error}
    )`;
}

async function send(request: QueuedRequest, closing: AbortSignal): Promise<Answer> {
  const nothing = { status: null, contentType: null, headers: null, content: null };
  const timeout = AbortSignal.timeout(request.timeout);
  try {
    const response = await fetch(request.url, {
      method: request.method.toUpperCase(),
      headers: { "user-agent": "pg_net/0.14.0", ...request.headers },
      body: request.body as Uint8Array<ArrayBuffer> | null,
      signal: AbortSignal.any([timeout, closing]),
    });
    return {
      status: response.status,
      contentType: response.headers.get("content-type"),
      headers: Object.fromEntries(response.headers),
      content: await readText(response),
      timedOut: false,
      error: null,
    };
  } catch (error) {
    const timedOut = timeout.aborted;
    return {
      ...nothing,
      timedOut,
      error: timedOut ? `Timeout of ${request.timeout} ms reached.` : describeError(error),
    };
  }
}

/** The body as text, no more than is stored of it, without the zero bytes Postgres cannot hold. */
async function readText(response: Response): Promise<string> {
  if (!response.body) return "";
  const decoder = new TextDecoder();
  let text = "";
  let bytes = 0;
  for await (const chunk of response.body) {
    text += decoder.decode(chunk.subarray(0, storedBytes - bytes), { stream: true });
    bytes += chunk.length;
    if (bytes >= storedBytes) break;
  }
  return (text + decoder.decode()).replaceAll("\0", "");
}
