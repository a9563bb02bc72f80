import { afterAll, beforeAll, expect, test } from "vitest";
import { createTestDatabase } from "../support/database.ts";
import { type OwnAuth, startAuthServer } from "./own-server.ts";
import { claimsOf, freshEmail, PASSWORD, useAuth } from "./support.ts";

let auth: OwnAuth;

beforeAll(async () => {
  const database = await createTestDatabase();
  await database.sql.unsafe(`
    create schema hooks;
    grant usage on schema hooks to supabase_auth_admin;
    create table hooks.events (event jsonb, at timestamptz default clock_timestamp());
    create function hooks.access_token(event jsonb) returns jsonb
    language plpgsql security definer
    set search_path = ''
    as $$
    declare
      wish text := event -> 'claims' -> 'user_metadata' ->> 'wish';
    begin
      insert into hooks.events (event) values (event);
      case wish
        when 'refusal' then
          return '{"error": {"http_code": 403, "message": "Not on Sundays"}}';
        when 'nonsense' then
          return jsonb_build_object('claims', (event -> 'claims') - 'sub');
        when 'failure' then
          raise exception 'the hook fell over';
        when 'sleep' then
          perform pg_sleep(3600);
          return event;
        else
          return jsonb_build_object('claims', (event -> 'claims') || '{"plan": "pro"}');
      end case;
    end;
    $$;
    revoke all on function hooks.access_token from public;
    grant execute on function hooks.access_token to supabase_auth_admin;
  `);
  auth = await startAuthServer(
    `
[auth.hook.custom_access_token]
enabled = true
uri = "pg-functions://postgres/hooks/access_token"
`,
    database,
  );
});
afterAll(() => auth?.stop());

async function signUpWishing(wish: string) {
  const email = freshEmail();
  const answer = await auth.request("/signup", {
    body: { email, password: PASSWORD, data: { wish } },
  });
  const [row] = await auth.sql`
    select count(s.id)::integer as sessions
    from auth.users u left join auth.sessions s on s.user_id = u.id where u.email = ${email}`;
  return { ...answer, email, sessions: row!.sessions };
}

test("the project's own hook adds role and permissions", async () => {
  const { accessToken } = await (await useAuth()).signUp();
  expect(claimsOf(accessToken)).toMatchObject({ user_role: "user" });
  expect(claimsOf(accessToken).permissions).toContain("agents:read");
});

test("what the hook adds is in the token", async () => {
  const { accessToken } = await auth.signUp();
  expect(claimsOf(accessToken)).toMatchObject({ plan: "pro", role: "authenticated" });
});

test("the hook hears who, with which claims and how", async () => {
  const { id, refreshToken } = await auth.signUp();
  await auth.refresh(refreshToken);
  const rows = await auth.sql`
    select event from hooks.events where event ->> 'user_id' = ${id} order by at`;
  expect(rows.map(({ event }) => event.authentication_method)).toEqual([
    "password",
    "token_refresh",
  ]);
  expect(rows[0]!.event.claims).toMatchObject({ sub: id, aal: "aal1", role: "authenticated" });
});

test("a refusal of the hook reaches the client, and no session stays", async () => {
  const { status, body, sessions } = await signUpWishing("refusal");
  expect(status).toBe(403);
  expect(body.message).toBe("Not on Sundays");
  expect(sessions).toBe(0);
});

test("a hook that takes necessary claims away is a failure of ours", async () => {
  const { status, body, sessions } = await signUpWishing("nonsense");
  expect(status).toBe(500);
  expect(body).toMatchObject({ code: "unexpected_failure" });
  expect(body.message).toContain("sub is required");
  expect(sessions).toBe(0);
});

test("a hook that raises tells the log and not the client", async () => {
  const { status, body } = await signUpWishing("failure");
  expect(status).toBe(500);
  expect(body.message).toBe(
    "Error running hook URI: pg-functions://postgres/hooks/access_token",
  );
  expect(auth.output()).toContain("the hook fell over");
});

test("a hook that takes too long is cut off", async () => {
  const { status, sessions } = await signUpWishing("sleep");
  expect([status, sessions]).toEqual([500, 0]);
});
