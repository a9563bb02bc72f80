import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { bootstrapDatabase } from "../../scripts/local/bootstrap.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let database: TestDatabase;
let sql: postgres.Sql;

beforeAll(async () => {
  database = await createTestDatabase();
  sql = database.sql;
});

/** Runs one statement as another role, in a transaction that is rolled back. */
async function as(role: string, statement: string): Promise<postgres.Row[]> {
  const rollback = new Error("rollback");
  let result: postgres.Row[] = [];
  await sql.begin(async (transaction) => {
    await transaction.unsafe(`set local role ${role}`);
    result = await transaction.unsafe(statement);
    throw rollback;
  }).catch((error) => {
    if (error !== rollback) throw error;
  });
  return result;
}

describe("bootstrap", () => {
  it("can be applied again", async () => {
    const admin = postgres(database.url("supabase_admin"), { max: 1 });
    await admin`delete from _stack.bootstrap`;
    await admin.end();
    await bootstrapDatabase(database.url("supabase_admin"), "postgres");
  });

  it("gives the roles the platform's attributes", async () => {
    const roles = await sql`
      select rolname, rolsuper, rolinherit, rolcreaterole, rolcanlogin, rolbypassrls from pg_roles
      where rolname in ('anon', 'authenticated', 'service_role', 'authenticator', 'postgres')
      order by rolname`;
    const attributes = (s: number, i: number, c: number, l: number, b: number) => ({
      rolsuper: !!s,
      rolinherit: !!i,
      rolcreaterole: !!c,
      rolcanlogin: !!l,
      rolbypassrls: !!b,
    });
    expect([...roles]).toEqual([
      { rolname: "anon", ...attributes(0, 0, 0, 0, 0) },
      { rolname: "authenticated", ...attributes(0, 0, 0, 0, 0) },
      { rolname: "authenticator", ...attributes(0, 0, 0, 1, 0) },
      { rolname: "postgres", ...attributes(0, 1, 1, 1, 1) },
      { rolname: "service_role", ...attributes(0, 0, 0, 0, 1) },
    ]);
  });

  it("lets authenticator become the three API roles and nobody else", async () => {
    const login = postgres(database.url("authenticator"), { max: 1 });
    for (const role of ["anon", "authenticated", "service_role"]) {
      await login.unsafe(`set role ${role}`);
    }
    await login`reset role`;
    for (const role of ["postgres", "supabase_admin", "supabase_auth_admin"]) {
      await expect(login.unsafe(`set role ${role}`)).rejects.toMatchObject({ code: "42501" });
    }
    await login.end();
  });

  it("grants nothing on new tables, sequences and functions of role postgres", async () => {
    await sql.unsafe(`
      create table public.fresh (id serial primary key);
      create function public.fresh() returns int language sql as 'select 1';`);
    for (const role of ["anon", "authenticated", "service_role"]) {
      await expect(as(role, "select * from public.fresh")).rejects.toMatchObject({ code: "42501" });
      await expect(as(role, "select nextval('public.fresh_id_seq')")).rejects
        .toMatchObject({ code: "42501" });
    }
  });

  it("lets role postgres add tables to the publication and triggers to auth.users", async () => {
    await sql.unsafe(`
      create function public.noop() returns trigger language plpgsql as 'begin return new; end';
      create trigger noop after insert on auth.users for each row execute function public.noop();
      alter publication supabase_realtime add table public.fresh;
      alter publication supabase_realtime drop table public.fresh;`);
  });

  it("sorts text as the platform does", async () => {
    const words =
      await sql`select w from unnest(array['b', 'A', 'a', 'B', 'é', 'z']) as w order by w`;
    expect(words.map((row) => row.w)).toEqual(["a", "A", "b", "B", "é", "z"]);
  });
});

describe("vault", () => {
  it("gives back what was put in, and keeps it encrypted", async () => {
    const [made] = await sql`select vault.create_secret('sécret wörds', 'mine', 'about') as id`;
    const [found] = await sql`select * from vault.decrypted_secrets where id = ${made!.id}`;
    expect(found).toMatchObject({
      name: "mine",
      description: "about",
      decrypted_secret: "sécret wörds",
    });
    const [row] = await sql`select secret from vault.secrets where id = ${made!.id}`;
    expect(Buffer.from(row!.secret, "base64").toString("latin1")).not.toContain("cret");
  });

  it("changes what is given and leaves the rest", async () => {
    const [made] = await sql`select vault.create_secret('one', 'changing', 'about') as id`;
    await sql`select vault.update_secret(${made!.id}, 'two')`;
    await sql`select vault.update_secret(${made!.id}, new_name => 'changed')`;
    const [found] = await sql`select * from vault.decrypted_secrets where id = ${made!.id}`;
    expect(found).toMatchObject({ name: "changed", description: "about", decrypted_secret: "two" });
  });

  it("encrypts the same words differently each time", async () => {
    await sql`select vault.create_secret('same'), vault.create_secret('same')`;
    const [found] = await sql`
      select count(distinct s.secret)::int as different from vault.secrets as s
      join vault.decrypted_secrets as d using (id) where d.decrypted_secret = 'same'`;
    expect(found!.different).toBe(2);
  });

  it("refuses a second secret of the same name", async () => {
    await sql`select vault.create_secret('x', 'unique')`;
    await expect(sql`select vault.create_secret('y', 'unique')`).rejects
      .toMatchObject({ code: "23505" });
  });

  it("does not decrypt a value that was moved to another row", async () => {
    const admin = postgres(database.url("supabase_admin"), { max: 1 });
    await sql`select vault.create_secret('mine', 'target'), vault.create_secret('theirs', 'source')`;
    await admin`
      update vault.secrets as t set secret = s.secret, nonce = s.nonce
      from vault.secrets as s where t.name = 'target' and s.name = 'source'`;
    await expect(sql`select decrypted_secret from vault.decrypted_secrets where name = 'target'`)
      .rejects.toMatchObject({ code: "22000" });
    await admin`delete from vault.secrets where name = 'target'`;
    await admin.end();
  });

  it.each(["anon", "authenticated"])("is closed to %s", async (role) => {
    await expect(as(role, "select * from vault.decrypted_secrets")).rejects
      .toMatchObject({ code: "42501" });
    await expect(as(role, "select vault.create_secret('x')")).rejects
      .toMatchObject({ code: "42501" });
  });

  it("shows its root key to nobody", async () => {
    await expect(sql`select vault._root_key()`).rejects.toMatchObject({ code: "42501" });
    await expect(sql`select pg_read_binary_file('vault.key')`).rejects
      .toMatchObject({ code: "42501" });
  });
});

afterAll(() => database.drop());
