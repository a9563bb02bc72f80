import { connect, createServer, type Socket } from "node:net";
import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { runStatements } from "../../shared/database/caller.ts";
import { connectDatabase } from "../../shared/database/connect.ts";
import { sqlText } from "../../shared/database/literal.ts";
import { surviveLostConnections } from "../../shared/database/lost-connections.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let database: TestDatabase;
let sql: postgres.Sql;

beforeAll(async () => {
  database = await createTestDatabase();
  sql = surviveLostConnections(postgres(database.url(), { max: 1, backoff: () => 0 }));
});
afterAll(() => sql.end({ timeout: 1 }));

/** As the superuser, because role postgres may not end what it cannot be. */
async function cut(pid: number): Promise<void> {
  const admin = postgres(database.url("supabase_admin"), { max: 1 });
  await admin`select pg_terminate_backend(${pid})`;
  await admin.end();
}

/** The driver hands the old connection's last words to its first query on the new one. */
const answers = () => sql`select 1`.then(() => true, () => false);

// An exception that nobody catches would fail the run as a whole.
describe("a transaction whose connection dies", () => {
  it("rejects while a query runs, and the pool goes on", async () => {
    const transaction = sql.begin(async (inner) => {
      const [row] = await inner`select pg_backend_pid() as pid`;
      const query = inner`select pg_sleep(20)`;
      query.catch(() => {});
      await Promise.all([query, cut(row!.pid)]);
    });
    await expect(transaction).rejects.toThrow(/terminating connection|CONNECTION_CLOSED/);
    await expect.poll(answers).toBe(true);
  });

  it("rejects between two queries, and the pool goes on", async () => {
    const transaction = sql.begin(async (inner) => {
      const [row] = await inner`select pg_backend_pid() as pid`;
      await cut(row!.pid);
      await new Promise(() => {});
    });
    await expect(transaction).rejects.toThrow(/terminating connection|CONNECTION_CLOSED/);
    await expect.poll(answers).toBe(true);
  });
});

/** A way to the database that can be made to let nothing through, while all connections stay open. */
async function createPassage() {
  const url = new URL(database.url());
  const port = Number(url.port);
  const ends: Socket[] = [];
  const passage = createServer((inner) => {
    const outer = connect(port, "127.0.0.1");
    ends.push(inner, outer);
    for (const end of [inner, outer]) end.on("error", () => {});
    inner.pipe(outer).pipe(inner);
  });
  await new Promise<void>((resolve) => passage.listen(0, "127.0.0.1", resolve));
  url.host = `127.0.0.1:${(passage.address() as { port: number }).port}`;
  return {
    url: url.href,
    block() {
      for (const end of ends) end.unpipe().pause();
    },
    close() {
      for (const end of ends) end.destroy();
      passage.close();
    },
  };
}

describe("a database that neither answers nor closes the connection", () => {
  it("is not waited for, and not asked once more", async () => {
    const passage = await createPassage();
    const pool = connectDatabase({ url: passage.url, max: 1 });
    const one = sqlText`select 1 as result`;
    expect(await runStatements(pool, [one])).toEqual([[{ result: 1 }]]);
    passage.block();
    const options = { repeatable: true, answerMs: 200 };
    await expect(runStatements(pool, [one], options)).rejects.toMatchObject({
      code: "SUPABASE_CONNECTION_ERROR",
      status: 503,
    });
    passage.close();
    await pool.end({ timeout: 1 });
  });
});

describe("a transaction whose connection lives", () => {
  it("still rolls back and passes the error on", async () => {
    await database.sql`create table public.kept (n int)`;
    await expect(sql.begin(async (inner) => {
      await inner`insert into public.kept values (1)`;
      throw new Error("mine");
    })).rejects.toThrow("mine");
    expect(await sql`select from public.kept`).toHaveLength(0);
  });

  it("still runs an array of queries as a pipeline", async () => {
    const [first, second] = await sql.begin((inner) => [
      inner`select 1 as n`,
      inner`select 2 as n`,
    ]);
    expect([first![0]!.n, second![0]!.n]).toEqual([1, 2]);
  });
});
