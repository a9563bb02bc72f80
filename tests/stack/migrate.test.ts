import { spawnSync } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { migrateDatabase } from "../../scripts/local/migrate.ts";
import { splitStatements } from "../../scripts/local/sql-statements.ts";
import { root } from "../support/deno.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let database: TestDatabase;
let folder: string;

const write = (name: string, text: string) => writeFile(path.join(folder, name), text);
const migrate = () => migrateDatabase({ url: database.url(), supabaseDir: folder });

describe("migrateDatabase", () => {
  beforeEach(async () => {
    database = await createTestDatabase();
    await database.sql`truncate supabase_migrations.schema_migrations`;
    folder = await mkdtemp(path.join(tmpdir(), "agent-launchpad-migrations-"));
    await mkdir(path.join(folder, "migrations"));
  });
  afterEach(async () => {
    await database.drop();
    await rm(folder, { recursive: true, force: true });
  });

  it("applies what is missing, in order, once", async () => {
    await write(
      "migrations/20260102000000_second.sql",
      "insert into public.log values ('second');",
    );
    await write("migrations/20260101000000_first.sql", "create table public.log (entry text);");
    expect(await migrate()).toEqual(["20260101000000_first", "20260102000000_second"]);
    expect(await migrate()).toEqual([]);
    expect([...await database.sql`select entry from public.log`]).toEqual([{ entry: "second" }]);
  });

  it("keeps the history that the official CLI reads", async () => {
    await write("migrations/20260101000000_first.sql", "create table public.log (entry text);");
    await migrate();
    const [row] = await database.sql`select * from supabase_migrations.schema_migrations`;
    expect(row).toMatchObject({
      version: "20260101000000",
      name: "first",
      statements: ["create table public.log (entry text);"],
    });
    await mkdir(path.join(folder, "supabase"));
    await mkdir(path.join(folder, "supabase/migrations"));
    await write("supabase/config.toml", 'project_id = "test"\n');
    await write("supabase/migrations/20260101000000_first.sql", "create table public.log ();");
    const listed = spawnSync(
      process.execPath,
      [
        path.join(root, "node_modules/supabase/dist/supabase.js"),
        ...["migration", "up", `--remote=${database.url()}`, "--workdir", folder],
      ],
      {
        encoding: "utf8",
        env: {
          ...process.env,
          SUPABASE_TELEMETRY_DISABLED: "1",
          SUPABASE_NO_UPDATE_NOTIFIER: "1",
        },
      },
    );
    expect(listed.stdout + listed.stderr).toContain("up to date");
  });

  it("accepts a history that the official CLI wrote", async () => {
    await write(
      "migrations/20260101000000_first.sql",
      "create table a ();\n\ncreate table b ();\n",
    );
    await database.sql`
      insert into supabase_migrations.schema_migrations (version, name, statements)
      values ('20260101000000', 'first', array['create table a ()', 'create table b ()'])`;
    expect(await migrate()).toEqual([]);
  });

  it("applies nothing of a migration that fails, and names file, line and message", async () => {
    await write(
      "migrations/20260101000000_broken.sql",
      "create table public.half (n int);\n\n-- so far so good\ncreate table public.half (n int);\n",
    );
    await expect(migrate()).rejects.toMatchObject({
      name: "StackError",
      message:
        'supabase/migrations/20260101000000_broken.sql:4: relation "half" already exists (42P07)',
    });
    expect([...await database.sql`select to_regclass('public.half') as half`])
      .toEqual([{ half: null }]);
  });

  it("names the line of a syntax error", async () => {
    await write("migrations/20260101000000_typo.sql", "select 1;\nselect 2;\nselekt 3;\n");
    await expect(migrate()).rejects.toMatchObject({
      message: expect.stringContaining("_typo.sql:3: syntax error"),
    });
  });

  it("notices that an applied migration's file changed", async () => {
    await write("migrations/20260101000000_first.sql", "create table public.log (entry text);");
    await migrate();
    await write("migrations/20260101000000_first.sql", "create table public.log (entry int);");
    await expect(migrate()).rejects.toMatchObject({
      message: "supabase/migrations/20260101000000_first.sql changed after it had been applied.",
      hint: expect.stringContaining("npm run reset"),
    });
  });

  it("notices that an applied migration's file is gone", async () => {
    await write("migrations/20260101000000_first.sql", "select 1;");
    await migrate();
    await rm(path.join(folder, "migrations/20260101000000_first.sql"));
    await expect(migrate()).rejects.toMatchObject({
      message: "Migration 20260101000000 is applied but its file is gone.",
    });
  });

  it("plants the seed once, after the first migrations", async () => {
    await write("migrations/20260101000000_first.sql", "create table public.log (entry text);");
    await write("seed.sql", "insert into public.log values ('seed');");
    await migrate();
    await migrate();
    expect(await database.sql`select from public.log`).toHaveLength(1);
  });

  it("starts each migration with the session's own settings", async () => {
    await write("migrations/20260101000000_first.sql", "set search_path = pg_catalog;");
    await write("migrations/20260102000000_second.sql", "create table log (entry text);");
    await migrate();
    const [found] = await database.sql`select to_regclass('public.log') is not null as there`;
    expect(found!.there).toBe(true);
  });
});

describe("splitStatements", () => {
  const texts = (script: string) => splitStatements(script).map((statement) => statement.text);

  it.each([
    ["select 1; select 2", ["select 1", "select 2"]],
    ["select ';'; select 2", ["select ';'", "select 2"]],
    ["select E'\\';'; select 2", ["select E'\\';'", "select 2"]],
    ['select ";" ; select 2', ['select ";"', "select 2"]],
    ["do $$ begin; end $$; select 2", ["do $$ begin; end $$", "select 2"]],
    ["do $a$ $$;$$ $a$; select 2", ["do $a$ $$;$$ $a$", "select 2"]],
    ["-- a; b\nselect 1; /* ; */ ;", ["select 1"]],
    [
      "create function f() returns int begin atomic select case when true then 1 end; end; select 2",
      [
        "create function f() returns int begin atomic select case when true then 1 end; end",
        "select 2",
      ],
    ],
  ])("%j", (script, statements) => expect(texts(script)).toEqual(statements));

  it("knows the line on which a statement starts", () => {
    const script = "select 1;\n\n-- a comment\nselect\n  2;\nselect 3;";
    expect(splitStatements(script).map((statement) => statement.line)).toEqual([1, 4, 6]);
  });
});
