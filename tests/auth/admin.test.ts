import { describe, expect, test } from "vitest";
import { freshEmail, PASSWORD, useAuth } from "./support.ts";

const auth = await useAuth();
const admin = () => auth.admin().auth.admin;

describe("only administrators", () => {
  const paths = ["/admin/users", `/admin/users/${crypto.randomUUID()}`];

  test.each(paths)("GET %s with the publishable key is not_admin", async (path) => {
    expect(await auth.request(path)).toMatchObject({ status: 403, body: { code: "not_admin" } });
  });

  test.each(paths)("GET %s as a signed-in user is not_admin", async (path) => {
    const { accessToken } = await auth.signUp();
    expect(await auth.request(path, { token: accessToken })).toMatchObject({
      status: 403,
      body: { code: "not_admin" },
    });
  });

  test("the service role's JWT is one too", async () => {
    const { serviceRoleKey } = auth.access;
    const answer = await auth.request("/admin/users?per_page=1", {
      apikey: serviceRoleKey,
      token: serviceRoleKey,
    });
    expect(answer.status).toBe(200);
  });
});

test("a created user is as asked for and can sign in", async () => {
  const email = freshEmail();
  const { data, error } = await admin().createUser({
    email,
    password: PASSWORD,
    email_confirm: true,
    user_metadata: { full_name: "Ada" },
    app_metadata: { plan: "pro" },
  });
  expect(error).toBeNull();
  expect(data.user).toMatchObject({
    email,
    user_metadata: { full_name: "Ada", email_verified: true },
    app_metadata: { plan: "pro", provider: "email", providers: ["email"] },
  });
  expect((await auth.signIn(email)).id).toBe(data.user!.id);
});

test("a user whose address is not confirmed cannot sign in", async () => {
  const email = freshEmail();
  await admin().createUser({ email, password: PASSWORD });
  const { error } = await auth.anonymous().auth.signInWithPassword({ email, password: PASSWORD });
  expect(error).toMatchObject({ status: 400, code: "email_not_confirmed" });
});

test("an id may be chosen", async () => {
  const id = crypto.randomUUID();
  const { data } = await admin().createUser({ id, email: freshEmail() });
  expect(data.user!.id).toBe(id);
});

test("an address is created once", async () => {
  const { email } = await auth.signUp();
  const { error } = await admin().createUser({ email, password: PASSWORD });
  expect(error).toMatchObject({ status: 422, code: "email_exists" });
});

test("an address created by two administrators at once is created once", async () => {
  const email = freshEmail();
  const answers = await Promise.all([1, 2, 3].map(() => admin().createUser({ email })));
  expect(answers.filter(({ error }) => error === null)).toHaveLength(1);
  expect(answers.filter(({ error }) => error?.code === "email_exists")).toHaveLength(2);
});

test.each([
  ["neither address nor number", {}, "validation_failed"],
  [
    "password and hash",
    { email: "a@b.com", password: "x", password_hash: "y" },
    "validation_failed",
  ],
  ["a hash that is none", { email: "c@b.com", password_hash: "plain" }, "validation_failed"],
  ["an id that is none", { email: "d@b.com", id: "1" }, "validation_failed"],
  ["a duration that is none", { email: "e@b.com", ban_duration: "soon" }, "validation_failed"],
])("a user with %s is refused", async (_case, body, code) => {
  const answer = await auth.request("/admin/users", {
    apikey: auth.access.secretKey,
    body,
  });
  expect(answer).toMatchObject({ status: 400, body: { code } });
});

test("the list is paged, newest first, with the total and links in headers", async () => {
  for (let made = 0; made < 3; made++) await admin().createUser({ email: freshEmail() });
  const answer = await auth.request("/admin/users?page=1&per_page=2", {
    apikey: auth.access.secretKey,
  });
  const [newest, second] = answer.body.users;
  expect(answer.body.users).toHaveLength(2);
  expect(newest!.created_at > second!.created_at).toBe(true);
  expect(Number(answer.headers.get("x-total-count"))).toBeGreaterThanOrEqual(3);
  expect(answer.headers.get("link")).toMatch(
    /^<\/admin\/users\?page=2&per_page=2>; rel="next", <\/admin\/users\?page=\d+&per_page=2>; rel="last"$/,
  );
});

test("supabase-js reads the paging", async () => {
  await auth.signUp();
  const { data } = await admin().listUsers({ page: 1, perPage: 1 });
  expect(data).toMatchObject({ nextPage: 2 });
  expect((data as { total: number }).total).toBeGreaterThan(1);
});

test("a page that is no number is refused", async () => {
  const answer = await auth.request("/admin/users?page=-1", { apikey: auth.access.secretKey });
  expect(answer).toMatchObject({ status: 400, body: { code: "validation_failed" } });
});

test("a user is shown by id, and another id is user_not_found", async () => {
  const { id, email } = await auth.signUp();
  expect((await admin().getUserById(id)).data.user).toMatchObject({ id, email });
  expect((await admin().getUserById(crypto.randomUUID())).error).toMatchObject({
    status: 404,
    code: "user_not_found",
  });
});

test("changes take hold at once", async () => {
  const { id } = await auth.signUp();
  const email = freshEmail();
  const { data } = await admin().updateUserById(id, {
    email,
    password: "another password",
    app_metadata: { plan: "pro", provider: null },
    user_metadata: { size: 3 },
    role: "authenticated",
  });
  expect(data.user).toMatchObject({
    email,
    app_metadata: { plan: "pro" },
    user_metadata: { size: 3 },
  });
  expect(data.user!.app_metadata).not.toHaveProperty("provider");
  expect((await auth.signIn(email, "another password")).id).toBe(id);
});

test("a password set by an administrator ends all sessions", async () => {
  const { id, refreshToken } = await auth.signUp();
  await admin().updateUserById(id, { password: "another password" });
  expect((await auth.refresh(refreshToken)).body.code).toBe("refresh_token_not_found");
});

test("a ban ends with ban_duration none", async () => {
  const { id, email } = await auth.signUp();
  await admin().updateUserById(id, { ban_duration: "24h" });
  const { data } = await admin().updateUserById(id, { ban_duration: "none" });
  expect(data.user).not.toHaveProperty("banned_until");
  expect((await auth.signIn(email)).id).toBe(id);
});

test("a ban of centuries is a date that everybody can read", async () => {
  const { id } = await auth.signUp();
  const { data, error } = await admin().updateUserById(id, { ban_duration: "87600000h" });
  expect(error).toBeNull();
  expect(new Date((data.user as { banned_until?: string }).banned_until!).getTime())
    .toBeGreaterThan(Date.now());
});

test("a deleted user is gone with sessions and identities", async () => {
  const { id, refreshToken } = await auth.signUp();
  expect((await admin().deleteUser(id)).error).toBeNull();
  expect((await auth.refresh(refreshToken)).body.code).toBe("refresh_token_not_found");
  const [row] = await auth.sql`
    select (select count(*) from auth.users where id = ${id})::integer
      + (select count(*) from auth.identities where user_id = ${id})::integer
      + (select count(*) from auth.sessions where user_id = ${id})::integer as left`;
  expect(row!.left).toBe(0);
});

test("a soft-deleted user keeps the row and nothing personal", async () => {
  const { id, email, refreshToken } = await auth.signUp({ full_name: "Ada Lovelace" });
  expect((await admin().deleteUser(id, true)).error).toBeNull();
  const [row] = await auth.sql`
    select (to_jsonb(u)::text || (select jsonb_agg(i)::text from auth.identities i where i.user_id = u.id))
      as everything, u.deleted_at
    from auth.users u where u.id = ${id}`;
  expect(row!.deleted_at).toBeInstanceOf(Date);
  expect(row!.everything).not.toContain(email);
  expect(row!.everything).not.toContain("Lovelace");
  expect((await auth.refresh(refreshToken)).status).toBe(400);
  const { error } = await auth.anonymous().auth.signInWithPassword({ email, password: PASSWORD });
  expect(error).toMatchObject({ code: "invalid_credentials" });
  // The address is free again.
  expect((await auth.anonymous().auth.signUp({ email, password: PASSWORD })).error).toBeNull();
});

test("what administrators do is in the audit trail", async () => {
  const { data } = await admin().createUser({ email: freshEmail() });
  const id = data.user!.id;
  await admin().updateUserById(id, { user_metadata: { a: 1 } });
  await admin().deleteUser(id);
  const rows = await auth.sql`
    select payload from auth.audit_log_entries
    where payload -> 'traits' ->> 'user_id' = ${id} order by created_at`;
  expect(rows.map(({ payload }) => payload.action)).toEqual([
    "user_signedup",
    "user_modified",
    "user_deleted",
  ]);
  expect(rows[0]!.payload).toMatchObject({ actor_username: "service_role", log_type: "team" });
});

test("a generated recovery link signs in", async () => {
  const { id, email } = await auth.signUp();
  const { data, error } = await admin().generateLink({ type: "recovery", email });
  expect(error).toBeNull();
  expect(data.properties).toMatchObject({ verification_type: "recovery" });
  const verified = await auth.anonymous().auth.verifyOtp({
    token_hash: data.properties!.hashed_token,
    type: "recovery",
  });
  expect(verified.data.user!.id).toBe(id);
});

test("a generated invitation creates the user", async () => {
  const email = freshEmail();
  const { data } = await admin().generateLink({ type: "invite", email });
  expect(data.user).toMatchObject({ email });
  const answer = await fetch(data.properties!.action_link, { redirect: "manual" });
  expect(answer.status).toBe(303);
  expect(answer.headers.get("location")).toContain("access_token=");
});

test("a link for an unknown address to recover is user_not_found", async () => {
  const { error } = await admin().generateLink({ type: "recovery", email: freshEmail() });
  expect(error).toMatchObject({ status: 404, code: "user_not_found" });
});
