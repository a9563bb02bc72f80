/** What the operator of a hosted project says to the database once, as the README has it, by the CLI. */
import { afterAll, beforeAll, expect, test } from "vitest";
import postgres from "postgres";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { runSupabase } from "./support/supabase-cli.ts";

let database: TestDatabase;
let platform: postgres.Sql;

beforeAll(async () => {
  database = await createTestDatabase();
  platform = postgres(database.url("supabase_admin"), { max: 1, onnotice: () => {} });
});

afterAll(() => platform.end({ timeout: 1 }));

async function say(statement: string): Promise<void> {
  const query = await runSupabase([
    "db",
    "query",
    "--yes",
    `--remote=${database.url()}`,
    statement,
  ]);
  expect(query.code, query.output).toBe(0);
}

test("two Vault secrets let the database wake the worker", async () => {
  const called = async () => {
    await database.sql`select private.wake_worker()`;
    return await platform`
      select url, headers->>'apikey' as apikey from net.http_request_queue order by id`;
  };
  expect(await called()).toEqual([]);
  await say(
    `select vault.create_secret('https://abc.supabase.co', 'project_url'),
            vault.create_secret('sb_secret_example', 'secret_key')`,
  );
  expect(await called()).toEqual([
    { url: "https://abc.supabase.co/functions/v1/worker", apikey: "sb_secret_example" },
  ]);
});

test("one statement makes the first administrator", async () => {
  const email = "you@example.com";
  const [user] = await platform`
    insert into auth.users (id, email, aud, role)
    values (gen_random_uuid(), ${email}, 'authenticated', 'authenticated') returning id`;
  await say(
    `update public.profiles set role = 'admin'
     where id = (select id from auth.users where email = '${email}')`,
  );
  expect(await database.sql`select role from public.profiles where id = ${user!.id}`)
    .toEqual([{ role: "admin" }]);
});
