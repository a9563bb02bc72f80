/**
 * Makes a bare database what Supabase's image is: roles, schemas, extensions, vault, auth, realtime.
 * Nothing of it is the application's; that is in supabase/migrations, which run on a hosted project
 * as they are.
 */
import { createHash, randomBytes } from "node:crypto";
import * as fs from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import postgres from "postgres";

const folder = path.join(path.dirname(fileURLToPath(import.meta.url)), "bootstrap");

/** In the order in which they build on one another. A missing one is skipped. */
const files = ["roles", "schemas", "extensions", "auth", "storage", "realtime"]
  .map((topic) => `${topic}.sql`);

/** Roles that log in; all share one password, as in Supabase's image. */
const loginRoles = [
  "postgres",
  "authenticator",
  "supabase_auth_admin",
  "supabase_storage_admin",
  "supabase_functions_admin",
  "supabase_replication_admin",
  "supabase_etl_admin",
  "supabase_read_only_user",
];

/**
 * Brings one database up to the bootstrap of this checkout. A file runs when its text changed since
 * it ran last, each in a transaction of its own, so a start without changes costs one query.
 *
 * @param url connection string as the superuser
 * @param password of the login roles
 */
export async function bootstrapDatabase(url: string, password: string): Promise<void> {
  const sql = postgres(url, { max: 1, onnotice: () => {}, prepare: false });
  try {
    await sql.unsafe(`
      create schema if not exists _stack;
      create table if not exists _stack.bootstrap (file text primary key, digest text not null);
    `);
    await ensureVaultKey(sql);
    const applied = new Map(
      (await sql<{ file: string; digest: string }[]>`select file, digest from _stack.bootstrap`)
        .map((row) => [row.file, row.digest]),
    );
    for (const file of files) {
      const text = await fs.readFile(path.join(folder, file), "utf8").catch(() => null);
      if (text === null) continue;
      await applyOnce(sql, applied, file, text, async (transaction) => {
        await transaction.unsafe(text);
        if (file === "roles.sql") await setPasswords(transaction, password);
      });
    }
    await refreshExtensions(sql, applied);
  } finally {
    await sql.end();
  }
}

type Applied = Map<string, string>;

async function applyOnce(
  sql: postgres.Sql,
  applied: Applied,
  name: string,
  text: string,
  apply: (transaction: postgres.TransactionSql) => Promise<void>,
): Promise<void> {
  const digest = createHash("sha256").update(text).digest("hex");
  if (applied.get(name) === digest) return;
  try {
    await sql.begin(async (transaction) => {
      await apply(transaction);
      await transaction`
        insert into _stack.bootstrap (file, digest) values (${name}, ${digest})
        on conflict (file) do update set digest = excluded.digest`;
    });
  } catch (error) {
    throw new Error(`scripts/local/bootstrap/${name}: ${explain(error, text)}`, { cause: error });
  }
}

/** Message of a database error with the line it stands in, when the server told the position. */
function explain(error: unknown, text: string): string {
  if (!(error instanceof postgres.PostgresError)) return String(error);
  const position = Number((error as { position?: string }).position);
  const line = position ? ` (line ${text.slice(0, position).split("\n").length})` : "";
  return `${error.message}${line}${error.where ? `, ${error.where}` : ""}`;
}

async function setPasswords(sql: postgres.TransactionSql, password: string): Promise<void> {
  for (const role of loginRoles) {
    await sql.unsafe(`alter role ${role} with password '${password.replaceAll("'", "''")}'`);
  }
}

/** The vault's root key: made once, in a file of the server's that SQL reads through one function. */
async function ensureVaultKey(sql: postgres.Sql): Promise<void> {
  const [found] = await sql`select (pg_stat_file('vault.key', true)).size as size`;
  if (found?.size) return;
  // Only the server itself can surely write its own directory; a large object exports raw bytes.
  const key = randomBytes(32).toString("hex");
  await sql.begin(async (transaction) => {
    const [made] = await transaction`select lo_from_bytea(0, decode(${key}, 'hex')) as id`;
    await transaction`select lo_export(${made!.id}, 'vault.key')`;
    await transaction`select lo_unlink(${made!.id})`;
  });
}

/**
 * `create extension` runs a script once; an edited script of ours is run again here, with every
 * statement of it written to be repeated.
 */
async function refreshExtensions(sql: postgres.Sql, applied: Applied): Promise<void> {
  const installed = new Set(
    (await sql<{ name: string }[]>`
      select extname || '--' || extversion || '.sql' as name from pg_extension`)
      .map((row) => row.name),
  );
  for (const name of await fs.readdir(path.join(folder, "extension"))) {
    if (!installed.has(name)) continue;
    const text = await fs.readFile(path.join(folder, "extension", name), "utf8");
    await applyOnce(sql, applied, `extension/${name}`, text, async (transaction) => {
      await transaction.unsafe(text);
    });
  }
}
