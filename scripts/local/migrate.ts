/**
 * Applies supabase/migrations as role `postgres`, with the official CLI's history table, so that
 * `supabase migration list`, `db push` and a hosted project agree with what is applied here.
 */
import * as fs from "node:fs/promises";
import path from "node:path";
import postgres from "postgres";
import { StackError } from "./errors.ts";
import { splitStatements } from "./sql-statements.ts";

export interface MigrateOptions {
  /** Connection string as role postgres. */
  url: string;
  /** The folder that holds `migrations/` and perhaps `seed.sql`. */
  supabaseDir: string;
  /** Told of each migration before it runs. */
  onMigration?: (name: string) => void;
}

interface Migration {
  version: string;
  name: string;
  file: string;
  text: string;
}

/**
 * Applies what is missing, each migration in a transaction of its own, then `seed.sql` when the
 * history was empty before.
 *
 * @returns names of the migrations that were applied now
 * @throws StackError when a migration fails (file, line, the server's message), and when the file of
 *   an applied migration changed or is gone
 */
export async function migrateDatabase(options: MigrateOptions): Promise<string[]> {
  const migrations = await readMigrations(path.join(options.supabaseDir, "migrations"));
  const sql = postgres(options.url, { max: 1, onnotice: () => {}, prepare: false });
  try {
    const applied = await readHistory(sql);
    assertUnchanged(migrations, applied);
    const missing = migrations.filter((migration) => !applied.has(migration.version));
    for (const migration of missing) {
      options.onMigration?.(migration.name);
      await apply(sql, migration);
    }
    if (applied.size === 0) await seed(sql, path.join(options.supabaseDir, "seed.sql"));
    return missing.map((migration) => `${migration.version}_${migration.name}`);
  } finally {
    await sql.end();
  }
}

async function readMigrations(folder: string): Promise<Migration[]> {
  const names = await fs.readdir(folder).catch(() => [] as string[]);
  const migrations: Migration[] = [];
  for (const name of names.sort()) {
    const [, version, title] = /^(\d+)_(.*)\.sql$/.exec(name) ?? [];
    if (version === undefined || title === undefined) continue;
    const twin = migrations.find((migration) => migration.version === version);
    if (twin) {
      throw new StackError(
        `Two migrations have the version ${version}: ${twin.file} and ${name}.`,
        "Give one of them another time.",
      );
    }
    const text = await fs.readFile(path.join(folder, name), "utf8");
    migrations.push({ version, name: title, file: `supabase/migrations/${name}`, text });
  }
  return migrations;
}

/** Version → text of what was applied, statements joined as the CLI stores them. */
async function readHistory(sql: postgres.Sql): Promise<Map<string, string>> {
  await sql.unsafe(`
    create schema if not exists supabase_migrations;
    create table if not exists supabase_migrations.schema_migrations (
      version text not null primary key
    );
    alter table supabase_migrations.schema_migrations
      add column if not exists statements text[],
      add column if not exists name text;
  `);
  const rows = await sql<{ version: string; statements: string[] | null }[]>`
    select version, statements from supabase_migrations.schema_migrations`;
  return new Map(rows.map((row) => [row.version, (row.statements ?? []).join(";\n")]));
}

function assertUnchanged(migrations: Migration[], applied: Map<string, string>): void {
  const byVersion = new Map(migrations.map((migration) => [migration.version, migration]));
  const hint = "Run npm run reset: it deletes the local database and builds it anew.";
  for (const [version, text] of applied) {
    const migration = byVersion.get(version);
    if (!migration) {
      throw new StackError(`Migration ${version} is applied but its file is gone.`, hint);
    }
    // The CLI stores statements without the semicolons and blank lines between them; an entry that
    // `migration repair` made has no statements at all.
    if (text && essence(text) !== essence(migration.text)) {
      throw new StackError(`${migration.file} changed after it had been applied.`, hint);
    }
  }
}

const essence = (text: string) => text.replace(/[\s;]+/g, "");

async function apply(sql: postgres.Sql, migration: Migration): Promise<void> {
  try {
    await sql.begin(async (transaction) => {
      await transaction.unsafe(migration.text);
      await transaction`
        insert into supabase_migrations.schema_migrations (version, name, statements)
        values (${migration.version}, ${migration.name}, ${[migration.text]})`;
    });
  } catch (error) {
    throw await explain(sql, error, migration.file, migration.text);
  } finally {
    // A migration may leave the session's settings changed; the next one starts from scratch.
    await sql.unsafe("reset all; reset role");
  }
}

async function seed(sql: postgres.Sql, file: string): Promise<void> {
  const text = await fs.readFile(file, "utf8").catch(() => null);
  if (!text?.trim()) return;
  try {
    await sql.begin((transaction) => transaction.unsafe(text));
  } catch (error) {
    throw await explain(sql, error, "supabase/seed.sql", text);
  }
}

async function explain(
  sql: postgres.Sql,
  error: unknown,
  file: string,
  text: string,
): Promise<Error> {
  if (!(error instanceof postgres.PostgresError)) return error as Error;
  const position = Number((error as { position?: string }).position ?? 0);
  const line = position
    ? [...text].slice(0, position).filter((character) => character === "\n").length + 1
    : await findFailingLine(sql, text);
  const details = [error.detail, error.hint, error.where].filter(Boolean).join("\n  ");
  return new StackError(
    `${file}${line ? `:${line}` : ""}: ${error.message} (${error.code})`,
    details
      ? `${details}\n  Nothing of this file was applied.`
      : "Nothing of this file was applied.",
    { cause: error },
  );
}

/**
 * Errors that happen while a statement runs come without a position. This plays the file again,
 * statement by statement and without keeping anything, to name the one that fails.
 */
async function findFailingLine(sql: postgres.Sql, text: string): Promise<number | null> {
  let line: number | null = null;
  const rollback = new Error("rollback");
  await sql.begin(async (transaction) => {
    for (const statement of splitStatements(text)) {
      line = statement.line;
      await transaction.unsafe(statement.text);
    }
    line = null;
    throw rollback;
  }).catch(() => {});
  return line;
}
