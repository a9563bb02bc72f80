import type { Buffer } from "node:buffer";
import postgres, { type Sql } from "postgres";
import type { TokenVerifier } from "./keys.ts";
import type { Log } from "./log.ts";
import { createCatalog } from "./realtime/catalog.ts";
import { createChanges } from "./realtime/changes.ts";
import { createConnections } from "./realtime/connections.ts";
import { type Context, DEFAULT_LIMITS, type RealtimeLimits } from "./realtime/context.ts";
import { customHeaders, serveHttp, tokenOf } from "./realtime/http.ts";
import { createHub } from "./realtime/hub.ts";
import { createLedger } from "./realtime/ledger.ts";
import { isMessagesTable, sendMessage } from "./realtime/messages.ts";
import {
  commitTime,
  decodeRelation,
  MESSAGE,
  type Relation,
  relationOf,
  transactionId,
} from "./realtime/pgoutput.ts";
import { codecFor } from "./realtime/protocol.ts";
import { createRate } from "./realtime/rate.ts";
import { startReplication } from "./realtime/replication.ts";
import { type ClientConnection, serveClient } from "./realtime/socket.ts";
import { createRegistry } from "./realtime/subscriptions.ts";
import { TokenError, verifyChannelToken } from "./realtime/tokens.ts";
import type { HttpService } from "./service.ts";

export interface RealtimeOptions {
  /** As `supabase_admin`, who may follow the log and ask as any role. */
  databaseUrl: string;
  verifyToken: TokenVerifier;
  log: Log;
  limits?: Partial<RealtimeLimits>;
}

const PUBLICATIONS = ["supabase_realtime", "supabase_realtime_messages_publication"];
const MAINTENANCE_MS = 3_600_000;
const PUBLICATION_CHECK_MS = 10_000;
const LONGEST_START_MS = 5_000;

/**
 * Supabase Realtime for clients of supabase-js: changes of the tables in publication
 * `supabase_realtime`, broadcasts between clients and from the database, private topics.
 *
 * Sees `/websocket?apikey=&vsn=`, `/api/broadcast` and `/api/broadcast/{topic}/events/{event}`.
 */
export async function createRealtime(options: RealtimeOptions): Promise<HttpService> {
  const { databaseUrl, verifyToken, log } = options;
  const sql = postgres(databaseUrl, {
    max: 4,
    // An idle backend of Postgres holds about 10 MB.
    idle_timeout: 20,
    onnotice() {},
    connection: {
      application_name: "realtime",
      // A policy that hangs may not hold everybody's changes back.
      statement_timeout: 5_000,
      lock_timeout: 2_000,
    },
  });
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  const clients = new Set<ClientConnection>();
  let following = false;
  const context: Context = {
    sql,
    verifyToken,
    log,
    limits,
    connections: createConnections(() => connectionsPerUser(sql)),
    presenceRate: createRate(limits.presencesPerSecond),
    hub: createHub(),
    registry: createRegistry(),
    ledger: createLedger(sql, log),
    catalog: createCatalog(sql),
    channels: new Set(),
    following: () => following,
  };
  const relations = new Map<number, Relation>();
  let committedAt = 0;
  let transaction = 0;
  let publications: string[] = [];

  const replication = startReplication({
    databaseUrl,
    log,
    publications: async () => publications = await existingPublications(sql),
    onUp() {
      following = true;
      context.ledger.reconcile().catch((error) => {
        log.warn("Subscriptions could not be reconciled", { failure: String(error) });
      });
      for (const channel of context.channels) {
        channel.resubscribe().catch((error) => {
          log.warn("A channel could not be subscribed again", { failure: String(error) });
        });
      }
    },
    onDown() {
      following = false;
      relations.clear();
      context.catalog.clear();
      changes.clear();
    },
    onMessage,
  });
  const changes = createChanges({
    ...context,
    registry: context.registry,
    pause: () => replication.pause(),
    resume: () => replication.resume(),
  });

  function onMessage(message: Buffer): void {
    switch (message[0]) {
      case MESSAGE.begin:
        committedAt = commitTime(message);
        transaction = transactionId(message);
        break;
      case MESSAGE.relation: {
        const relation = decodeRelation(message);
        relations.set(relation.oid, relation);
        break;
      }
      case MESSAGE.insert:
      case MESSAGE.update:
      case MESSAGE.delete: {
        const relation = relations.get(relationOf(message));
        if (relation === undefined) break;
        if (isMessagesTable(relation)) sendMessage(context, relation, message);
        else changes.push({ relation, message, committedAt, transaction });
      }
    }
  }

  const maintain = () =>
    sql`select _realtime.maintain_messages()`.then(() => {}, (error: Error) => {
      log.warn("Partitions of realtime.messages could not be made", { failure: error.message });
    });
  const maintenance = setInterval(maintain, MAINTENANCE_MS);
  const publicationCheck = setInterval(async () => {
    // A publication that came later is not in the stream that runs.
    const now = await existingPublications(sql).catch(() => publications);
    if (now.join() !== publications.join()) replication.restart();
  }, PUBLICATION_CHECK_MS);
  await maintain();
  let late: ReturnType<typeof setTimeout> | undefined;
  await Promise.race([
    replication.ready,
    new Promise<void>((resolve) => late = setTimeout(resolve, LONGEST_START_MS)),
  ]);
  clearTimeout(late);

  async function connect(request: Request, url: URL): Promise<Response> {
    const codec = codecFor(url.searchParams.get("vsn"));
    if (codec === null) return refuse(400, "Unsupported serializer version");
    const token = [
      request.headers.get("x-api-key"),
      url.searchParams.get("apikey"),
      tokenOf(request),
    ]
      .find((token) => token && !token.startsWith("sb_"));
    if (!token) return refuse(401, "API key is missing");
    try {
      const { sub } = await verifyChannelToken(verifyToken, token);
      if (sub && !await context.connections.hasRoom(sub)) {
        return refuse(429, "Too many connected users");
      }
    } catch (error) {
      if (!(error instanceof TokenError)) throw error;
      return refuse(401, error.code === "InvalidJWTToken" ? "Token has expired" : error.message);
    }
    // An upgraded request cannot be read any more.
    const headers = customHeaders(request);
    const { socket, response } = Deno.upgradeWebSocket(request);
    const client = serveClient(
      socket,
      context,
      { codec, token, headers },
      () => clients.delete(client),
    );
    clients.add(client);
    return response;
  }

  return {
    async fetch(request) {
      const url = new URL(request.url);
      if (!/^\/(socket\/)?websocket$/.test(url.pathname)) {
        return await serveHttp(context, request, url.pathname);
      }
      if (request.headers.get("upgrade")?.toLowerCase() !== "websocket") {
        return refuse(400, "This address speaks WebSocket only");
      }
      return await connect(request, url);
    },
    async close() {
      clearInterval(maintenance);
      clearInterval(publicationCheck);
      for (const client of clients) client.close(1001, "Realtime is restarting, please standby");
      await replication.close();
      await changes.idle();
      await context.ledger.idle();
      await sql.end({ timeout: 2 });
    },
  };
}

/** The application's own setting, where it has one. */
async function connectionsPerUser(sql: Sql): Promise<number> {
  const [row] = await sql<{ most: number }[]>`
    select coalesce(_realtime.setting('real_time', 'connections_per_user')::int, 100) as most`;
  return row!.most;
}

async function existingPublications(sql: Sql): Promise<string[]> {
  const rows = await sql<{ name: string }[]>`
    select pubname as name from pg_catalog.pg_publication
    where pubname = any (${PUBLICATIONS}) order by pubname`;
  return rows.map(({ name }) => name);
}

function refuse(status: number, error: string): Response {
  return Response.json({ error }, { status });
}
