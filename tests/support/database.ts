/** Databases of their own for tests: Supabase's bootstrap and our migrations, nobody else in them. */
import postgres from "postgres";
import { afterAll } from "vitest";
import { type DatabaseServer, doorVariable, startDatabaseServer } from "./database-server.ts";

export interface TestDatabase {
  name: string;
  /** Role `postgres`, which owns the application's objects and bypasses row level security. */
  sql: postgres.Sql;
  /** Connection string as a login role: postgres, authenticator, supabase_admin … */
  url(role?: string): string;
  /** Disconnects everybody and drops the database. */
  drop(): Promise<void>;
}

let own: Promise<DatabaseServer> | undefined;
let count = 0;

/**
 * A fresh database, cloned from the migrated one in a fraction of a second. It is dropped after the
 * test file, or earlier by `drop()`.
 */
export async function createTestDatabase(): Promise<TestDatabase> {
  const port = await serverPort();
  const name = `test_${process.pid}_${Date.now().toString(36)}_${++count}`;
  const url = (role: string, database: string) =>
    `postgresql://${role}:postgres@127.0.0.1:${port}/${database}`;
  // Not through the database `postgres`: it is the template and nobody may be connected to it.
  const run = async (...statements: string[]) => {
    const admin = postgres(url("supabase_admin", "template1"), { max: 1, onnotice: () => {} });
    try {
      for (const statement of statements) await admin.unsafe(statement);
    } finally {
      await admin.end();
    }
  };
  await run(`create database ${name} template postgres owner postgres`);
  const sql = postgres(url("postgres", name), { max: 4, onnotice: () => {} });
  let dropped: Promise<void> | undefined;
  const drop = () => {
    dropped ??= sql.end({ timeout: 1 }).then(() => run(`drop database ${name} with (force)`));
    return dropped;
  };
  onEnd.push(drop);
  return { name, sql, url: (role = "postgres") => url(role, name), drop };
}

const onEnd: (() => Promise<void>)[] = [];

afterAll(async () => {
  for (const drop of onEnd.splice(0)) await drop();
  await own?.then((server) => server.stop());
  own = undefined;
});

async function serverPort(): Promise<number> {
  const door = process.env[doorVariable];
  if (!door) {
    own ??= startDatabaseServer();
    return (await own).port;
  }
  const response = await fetch(door);
  if (!response.ok) throw new Error(await response.text());
  return (await response.json() as { port: number }).port;
}
