import { Buffer } from "node:buffer";
import type { Duplex } from "node:stream";
import postgres from "postgres";
import type { Log } from "../log.ts";
import { commitEnd, MESSAGE } from "./pgoutput.ts";

export interface ReplicationOptions {
  /** Of a role with REPLICATION. */
  databaseUrl: string;
  /** Publications that exist now; asked at each connect. Empty means: wait. */
  publications(): Promise<string[]>;
  /** One pgoutput message, in the order of the log. */
  onMessage(message: Buffer): void;
  /** The slot stands: everything committed from now on arrives. */
  onUp(): void;
  onDown(): void;
  log: Log;
}

export interface Replication {
  /** Resolves once the first slot stands. */
  ready: Promise<void>;
  /** Stops reading; Postgres keeps what comes meanwhile. */
  pause(): void;
  resume(): void;
  /** Ends this connection and makes another, with the publications that exist then. */
  restart(): void;
  close(): Promise<void>;
}

const STATUS_INTERVAL_MS = 5_000;
const FIRST_RETRY_MS = 100;
const LONGEST_RETRY_MS = 5_000;
const POSTGRES_EPOCH_MS = Date.UTC(2000, 0, 1);

/**
 * Follows the write-ahead log through pgoutput. postgres.js, which the project has anyway, speaks the
 * replication protocol: `replication=database` makes a walsender, and COPY BOTH is a Duplex with
 * back pressure. So there is no second driver and no authentication code here.
 *
 * The slot is temporary: it goes with the connection, also after kill -9. What is committed while
 * there is no connection is not told to anybody, as on the platform. Each message counts as received
 * as soon as it is here, so that Postgres keeps no log for us but what `pause` makes it keep.
 */
export function startReplication(options: ReplicationOptions): Replication {
  const { log } = options;
  let connection: Connection | null = null;
  let paused = false;
  let closed = false;
  const wake = { now: () => {} };
  const ready = Promise.withResolvers<void>();

  async function run(): Promise<void> {
    let pause = FIRST_RETRY_MS;
    while (!closed) {
      try {
        const publications = await options.publications();
        if (publications.length > 0) {
          connection = await connect(options, publications);
          if (paused) connection.stream.pause();
          pause = FIRST_RETRY_MS;
          options.onUp();
          ready.resolve();
          const failure = await connection.ended;
          if (!closed && failure !== null) {
            log.warn("The replication connection ended", { reason: failure });
          }
        }
      } catch (error) {
        if (!closed) log.warn("Cannot follow the database's changes", { reason: reason(error) });
      }
      if (connection !== null) options.onDown();
      connection = null;
      if (closed) return;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, pause * (0.75 + Math.random() / 2));
        wake.now = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      pause = Math.min(pause * 2, LONGEST_RETRY_MS);
    }
  }
  const running = run();

  return {
    ready: ready.promise,
    pause() {
      paused = true;
      connection?.stream.pause();
    },
    resume() {
      paused = false;
      connection?.stream.resume();
    },
    restart() {
      connection?.end();
      wake.now();
    },
    async close() {
      closed = true;
      connection?.end();
      wake.now();
      await running;
    },
  };
}

interface Connection {
  stream: Duplex;
  /** What ended it, or null when `end` did. */
  ended: Promise<string | null>;
  end(): void;
}

async function connect(options: ReplicationOptions, publications: string[]): Promise<Connection> {
  const sql = postgres(options.databaseUrl, {
    max: 1,
    fetch_types: false,
    idle_timeout: 0,
    max_lifetime: null,
    onnotice() {},
    connection: {
      application_name: "realtime_replication_connection",
      // Values arrive as text; these settings make it the text that JSON wants.
      DateStyle: "ISO",
      TimeZone: "UTC",
      IntervalStyle: "postgres",
      ...({ replication: "database" } as Record<string, string>),
    },
  });
  const slot = `supabase_realtime_${crypto.randomUUID().replaceAll("-", "").slice(0, 12)}`;
  let stream: Duplex;
  try {
    // The walsender's grammar knows its commands in capitals only.
    await sql.unsafe(
      `CREATE_REPLICATION_SLOT ${slot} TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT`,
    );
    const names = publications.map((name) => `"${name}"`).join(",");
    stream = await (sql.unsafe(
      `START_REPLICATION SLOT ${slot} LOGICAL 0/0 ` +
        `(proto_version '1', publication_names '${names.replaceAll("'", "''")}')`,
    ) as unknown as { writable(): Promise<Duplex> }).writable();
  } catch (error) {
    await sql.end({ timeout: 0 });
    throw error;
  }

  let received = 0n;
  const acknowledge = () => {
    if (stream.writable) stream.write(statusUpdate(received));
  };
  const timer = setInterval(acknowledge, STATUS_INTERVAL_MS);
  const ended = Promise.withResolvers<string | null>();

  stream.on("data", (data: Buffer) => {
    if (data[0] === 0x77) {
      const message = data.subarray(25);
      if (message[0] === MESSAGE.commit) received = commitEnd(message);
      options.onMessage(message);
    } else if (data[0] === 0x6b) {
      received = data.readBigUInt64BE(1);
      if (data[17] === 1) acknowledge();
    }
  });
  const finish = (failure: string | null) => {
    clearInterval(timer);
    ended.resolve(failure);
    sql.end({ timeout: 0 }).catch(() => {});
  };
  stream.on("error", (error: Error) => finish(reason(error)));
  stream.on("close", () => finish("the server closed the connection"));
  return { stream, ended: ended.promise, end: () => finish(null) };
}

/** Standby status update: written, flushed and applied up to `position`. */
function statusUpdate(position: bigint): Buffer {
  const message = Buffer.alloc(34);
  message[0] = 0x72;
  for (const offset of [1, 9, 17]) message.writeBigUInt64BE(position, offset);
  message.writeBigInt64BE(BigInt(Date.now() - POSTGRES_EPOCH_MS) * 1000n, 25);
  return message;
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
