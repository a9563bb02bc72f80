import { afterAll, beforeAll, expect, test } from "vitest";
import { createTestDatabase } from "../support/database.ts";
import { type OwnAuth, startAuthServer } from "./own-server.ts";
import { freshEmail, PASSWORD, useAuth } from "./support.ts";

let auth: OwnAuth;

beforeAll(async () => {
  const database = await createTestDatabase();
  await database.sql.unsafe(`
    create schema hooks;
    grant usage on schema hooks to supabase_auth_admin;
    create table hooks.events (event jsonb, at timestamptz default clock_timestamp());
    create function hooks.password_attempt(event jsonb) returns jsonb
    language plpgsql security definer
    set search_path = ''
    as $$
    begin
      insert into hooks.events (event) values (event);
      return coalesce(
        (select u.raw_user_meta_data -> 'decision' from auth.users u where u.id = (event ->> 'user_id')::uuid),
        '{"decision": "continue"}'
      );
    end;
    $$;
    revoke all on function hooks.password_attempt from public;
    grant execute on function hooks.password_attempt to supabase_auth_admin;
  `);
  auth = await startAuthServer(
    `
[auth.hook.password_verification_attempt]
enabled = true
uri = "pg-functions://postgres/hooks/password_attempt"
`,
    database,
  );
});
afterAll(() => auth?.stop());

const signIn = (email: string, password = PASSWORD) =>
  auth.request("/token?grant_type=password", { body: { email, password } });

const heardOf = async (id: string) =>
  (await auth.sql`select event from hooks.events where event ->> 'user_id' = ${id} order by at`)
    .map((row) => row.event);

test("the hook hears of each attempt, whether it was right, and where it came from", async () => {
  const { email, id } = await auth.signUp();
  expect((await signIn(email)).status).toBe(200);
  expect((await signIn(email, "wrong")).body.code).toBe("invalid_credentials");
  expect(await heardOf(id)).toMatchObject([
    { valid: true, metadata: { name: "password-verification", ip_address: "127.0.0.1" } },
    { valid: false },
  ]);
});

test("the hook hears nothing of an address that nobody has", async () => {
  const [before] = await auth.sql`select count(*)::int as number from hooks.events`;
  expect((await signIn(freshEmail())).status).toBe(400);
  const [after] = await auth.sql`select count(*)::int as number from hooks.events`;
  expect(after!.number).toBe(before!.number);
});

test("a rejection refuses the right password too, and ends sessions only when asked to", async () => {
  const decision = { decision: "reject", message: "Not today" };
  for (const should_logout_user of [false, true]) {
    const { email, id } = await auth.signUp({ decision: { ...decision, should_logout_user } });
    expect(await signIn(email)).toMatchObject({
      status: 400,
      body: { code: "invalid_credentials", message: "Not today" },
    });
    const [row] = await auth
      .sql`select count(*)::int as sessions from auth.sessions where user_id = ${id}`;
    expect(row!.sessions).toBe(should_logout_user ? 0 : 1);
  }
});

test("a rejection without words gets Auth's own", async () => {
  const { email } = await auth.signUp({ decision: { decision: "reject" } });
  expect((await signIn(email)).body.message).toBe(
    "Further password verification attempts will be rejected.",
  );
});

test("an error of the hook reaches the client", async () => {
  const error = { http_code: 429, message: "Slower" };
  const { email } = await auth.signUp({ decision: { error } });
  expect(await signIn(email)).toMatchObject({ status: 429, body: { message: "Slower" } });
});

test("with the project's own hook five failures lock out, and the user can read why", async () => {
  const stack = await useAuth();
  const { email, id, client } = await stack.signUp();
  for (let count = 0; count < 5; count++) {
    const { status } = await stack.request("/token?grant_type=password", {
      body: { email, password: "wrong" },
    });
    expect(status).toBe(400);
  }
  const refused = await stack.anonymous().auth.signInWithPassword({ email, password: PASSWORD });
  expect(refused.error).toMatchObject({ status: 400, code: "invalid_credentials" });
  expect(refused.error!.message).toMatch(
    /^Too many failed sign-ins\. Try again in 1[45] minutes\.$/,
  );
  const { data } = await client.from("security_events").select().eq("severity", "HIGH");
  expect(data).toMatchObject([{
    event_type: "AUTH_FAILURE",
    user_id: id,
    details: { failure_count: 5 },
    automated_response: { action_taken: "TEMPORARY_LOCKOUT" },
  }]);
});

test("with the project's own hook a user signs in so many times an hour, also at once, and stays signed in", async () => {
  const stack = await useAuth();
  const { email, id, refreshToken } = await stack.signUp();
  await stack.sql`
    update public.profiles set rate_limit = '{"auth_limit": 3}' where id = ${id}`;
  const answers = await Promise.all(
    [1, 2, 3, 4].map(() =>
      stack.request("/token?grant_type=password", { body: { email, password: PASSWORD } })
    ),
  );
  // The sign-up was the first.
  expect(answers.map(({ status }) => status).sort()).toEqual([200, 200, 429, 429]);
  const refused = answers.find(({ status }) => status === 429)!;
  expect(refused.body.message).toMatch(/^Rate limit exceeded: too many sign-ins within an hour\./);
  const [row] = await stack.sql`
    select count(*)::int as sessions from auth.sessions where user_id = ${id}`;
  expect(row!.sessions).toBe(3);
  expect((await stack.refresh(refreshToken)).status).toBe(200);
});
