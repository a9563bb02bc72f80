/** `supabase db push` of the official CLI to a Postgres with nothing but the platform's own parts. */
import path from "node:path";
import postgres from "postgres";
import { afterAll, beforeAll, expect, test } from "vitest";
import { root } from "../support/deno.ts";
import { createTestDatabase } from "../support/database.ts";
import { type DatabaseServer, startDatabaseServer } from "../support/database-server.ts";
import { describeCatalog } from "./support/catalog.ts";
import { runDeno } from "./support/deno-process.ts";
import { type CliRun, runSupabase } from "./support/supabase-cli.ts";

let server: DatabaseServer;
let url: string;
let pushed: postgres.Sql;
let migrated: postgres.Sql;
let migratedUrl: string;
let first: CliRun;

const push = (to: string) => runSupabase(["db", "push", "--yes", `--remote=${to}`]);

beforeAll(async () => {
  server = await startDatabaseServer("--bare");
  url = `postgresql://postgres:postgres@127.0.0.1:${server.port}/postgres`;
  pushed = postgres(url, { max: 1, onnotice: () => {} });
  const ours = await createTestDatabase();
  migrated = ours.sql;
  migratedUrl = ours.url();
  first = await push(url);
});

afterAll(async () => {
  await pushed.end({ timeout: 1 });
  await server.stop();
});

test("db push applies every migration", async () => {
  expect(first.code, first.output).toBe(0);
  const versions = (await history(pushed)).map((row) => row.version);
  expect(versions).not.toEqual([]);
  for (const version of versions) expect(first.output).toContain(version);
});

test("its history says the same as that of the local stack's own migration", async () => {
  expect(await history(pushed)).toEqual(await history(migrated));
});

test("its database is the same as the local stack's", async () => {
  const lines = await describeCatalog(migrated);
  expect(lines.length).toBeGreaterThan(500);
  expect(await describeCatalog(pushed)).toEqual(lines);
});

test("migration list shows every migration as applied, whoever applied it", async () => {
  for (const target of [url, migratedUrl]) {
    const list = await runSupabase(["migration", "list", `--remote=${target}`]);
    expect(list.code, list.output).toBe(0);
    const rows = [...list.output.matchAll(/^\s*`(\d+| )`\s*\|\s*`(\d+| )`/gm)];
    expect(rows.map(([, local]) => local)).toEqual(
      (await history(migrated)).map((row) => row.version),
    );
    for (const [, local, remote] of rows) expect(remote).toBe(local);
  }
});

test("a second push changes nothing, on a database that either has migrated", async () => {
  for (const [target, sql] of [[url, pushed], [migratedUrl, migrated]] as const) {
    const before = [await history(sql), await describeCatalog(sql)];
    const again = await push(target);
    expect(again.code, again.output).toBe(0);
    expect(again.output).toContain("up to date");
    expect([await history(sql), await describeCatalog(sql)]).toEqual(before);
  }
});

test("the local stack's own migration accepts what db push has applied", async () => {
  const options = { url, supabaseDir: path.join(root, "supabase") };
  const applied = await runDeno([
    ...["eval", "--quiet"],
    `import { migrateDatabase } from "./scripts/local/migrate.ts";
     console.log(JSON.stringify(await migrateDatabase(${JSON.stringify(options)})));`,
  ], root);
  expect(JSON.parse(applied)).toEqual([]);
});

/** The CLI keeps a file as its statements, the local stack as one text; what they say is the same. */
async function history(sql: postgres.Sql) {
  const rows = await sql<{ version: string; name: string; statements: string[] }[]>`
    select version, name, statements from supabase_migrations.schema_migrations order by version`;
  return rows.map(({ version, name, statements }) => ({
    version,
    name,
    text: statements.join("").replace(/[\s;]+/g, ""),
  }));
}
