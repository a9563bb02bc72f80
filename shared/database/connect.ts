import postgres from "postgres";
import { surviveLostConnections } from "./lost-connections.ts";

export type Database = postgres.Sql;

export interface ConnectOptions {
  /** `SUPABASE_DB_URL`: direct, session pooler or transaction pooler. */
  url: string;
  /** Connections of this instance. Few are enough: a request holds one for a single message. */
  max?: number;
  applicationName?: string;
}

/**
 * Opens the pool of an Edge Function (role `postgres`, or what the URL says). Nothing is connected
 * before the first statement.
 *
 * No prepared statements: behind a transaction pooler they would be lost, and the simple protocol
 * that this code uses has none. Idle connections close, so that a sleeping instance holds none.
 */
export function connectDatabase(options: ConnectOptions): Database {
  return surviveLostConnections(postgres(options.url, {
    max: options.max ?? 10,
    prepare: false,
    // The array types that this would look up are never read; it costs a round trip at connect.
    fetch_types: false,
    idle_timeout: 30,
    connect_timeout: 5,
    // The default grows to 20 s, and requests would wait that long after the database is back.
    backoff: () => 0.25,
    onnotice: () => {},
    connection: {
      application_name: options.applicationName ?? "agent-launchpad",
      standard_conforming_strings: "on",
    },
  }));
}
