import postgres from "postgres";
import { expect, test } from "vitest";
import { createTestDatabase } from "../support/database.ts";
import { startAuthServer } from "./own-server.ts";
import { freshEmail, PASSWORD, useAuth } from "./support.ts";

const auth = await useAuth();

test("signing in opens another session of the same user", async () => {
  const first = await auth.signUp();
  const second = await auth.signIn(first.email);
  expect(second.id).toBe(first.id);
  const [row] = await auth.sql`
    select count(*)::integer as sessions from auth.sessions where user_id = ${first.id}`;
  expect(row!.sessions).toBe(2);
});

test("the address may be written in any letter case", async () => {
  const { email, id } = await auth.signUp();
  expect((await auth.signIn(email.toUpperCase())).id).toBe(id);
});

test("a wrong password and an unknown address get the same answer", async () => {
  const { email } = await auth.signUp();
  const [wrong, unknown] = await Promise.all([
    auth.request("/token?grant_type=password", { body: { email, password: "wrong" } }),
    auth.request("/token?grant_type=password", {
      body: { email: freshEmail(), password: "wrong" },
    }),
  ]);
  expect(wrong).toMatchObject({ status: 400, body: { code: "invalid_credentials" } });
  expect(unknown.status).toBe(wrong.status);
  expect(unknown.body).toEqual(wrong.body);
});

test("an unknown address takes as much work as a wrong password", async () => {
  const database = await createTestDatabase();
  const admin = postgres(database.url("supabase_admin"), { max: 1, onnotice: () => {} });
  // Counts without a transaction that a refusal could take back. All but bcrypt's rounds costs next to nothing.
  await admin.unsafe(`
    create sequence public.bcrypts;
    alter function extensions.crypt(text, text) rename to crypt_itself;
    create function extensions.crypt(password text, salt text) returns text language plpgsql
    security definer set search_path = '' as $$
    begin
      if salt ~ '^\\$2a\\$10\\$[./A-Za-z0-9]{53}$' then perform nextval('public.bcrypts'); end if;
      return extensions.crypt_itself(password, salt);
    end $$`);
  const own = await startAuthServer("", database);
  const bcryptsOf = async (email: string) => {
    const count = async () => Number((await admin`select nextval('public.bcrypts')`)[0]!.nextval);
    const before = await count();
    await own.request("/token?grant_type=password", { body: { email, password: "wrong" } });
    return await count() - before - 1;
  };
  const { email } = await own.signUp();
  expect([await bcryptsOf(email), await bcryptsOf(freshEmail())]).toEqual([1, 1]);
  await own.stop();
  await admin.end();
});

test("a banned user cannot sign in", async () => {
  const { email, id } = await auth.signUp();
  await auth.admin().auth.admin.updateUserById(id, { ban_duration: "1h" });
  const { error } = await auth.anonymous().auth.signInWithPassword({ email, password: PASSWORD });
  expect(error).toMatchObject({ status: 400, code: "user_banned" });
});

test("a password hash of another spelling of bcrypt signs in", async () => {
  const email = freshEmail();
  const [row] = await auth.sql`
    select replace(extensions.crypt(${PASSWORD}, extensions.gen_salt('bf', 6)), '$2a$', '$2y$') as hash`;
  const { error } = await auth.admin().auth.admin.createUser(
    {
      email,
      email_confirm: true,
      password_hash: row!.hash,
    } as Parameters<ReturnType<typeof auth.admin>["auth"]["admin"]["createUser"]>[0],
  );
  expect(error).toBeNull();
  expect((await auth.signIn(email)).email).toBe(email);
});

test("a grant that Auth does not know is refused", async () => {
  const answer = await auth.request("/token?grant_type=magic", { body: {} });
  expect(answer).toMatchObject({ status: 400, body: { message: "unsupported_grant_type" } });
});

test("signing in leaves its line in the audit trail", async () => {
  const { email, id } = await auth.signUp({ full_name: "Grace Hopper" });
  await auth.signIn(email);
  const rows = await auth.sql`
    select payload from auth.audit_log_entries
    where payload ->> 'actor_id' = ${id} order by created_at`;
  expect(rows.map(({ payload }) => payload.action)).toEqual(["user_signedup", "login", "login"]);
  expect(rows[1]!.payload).toMatchObject({
    actor_username: email,
    actor_name: "Grace Hopper",
    actor_via_sso: false,
    log_type: "account",
    traits: { provider: "email" },
  });
});
