import { afterAll, expect, test } from "vitest";
import { createTestDatabase } from "../support/database.ts";
import { type OwnAuth, startAuthServer } from "./own-server.ts";
import { codeIn, freshEmail, PASSWORD } from "./support.ts";

const database = await createTestDatabase();
const started: OwnAuth[] = [];
afterAll(() => Promise.all(started.map((auth) => auth.stop())));

async function authWith(config: string): Promise<OwnAuth> {
  const auth = await startAuthServer(config, database);
  started.push(auth);
  return auth;
}

test("sessions outlive a restart", async () => {
  const auth = await authWith("");
  const { accessToken, refreshToken, id } = await auth.signUp();
  await auth.restart();
  expect(await auth.request("/user", { token: accessToken })).toMatchObject({
    status: 200,
    body: { id },
  });
  expect((await auth.refresh(refreshToken)).status).toBe(200);
});

test("limits of config.toml hold per address", async () => {
  const auth = await authWith("[auth.rate_limit]\nsign_in_sign_ups = 3\ntoken_refresh = 2\n");
  const signUpFrom = (address: string) =>
    auth.request("/signup", {
      body: { email: freshEmail(), password: PASSWORD },
      headers: { "x-forwarded-for": address },
    });
  for (let round = 0; round < 3; round++) {
    expect((await signUpFrom("192.0.2.1")).status).toBe(200);
  }
  expect(await signUpFrom("192.0.2.1")).toMatchObject({
    status: 429,
    body: { code: "over_request_rate_limit", message: "Request rate limit reached" },
  });
  expect((await signUpFrom("192.0.2.2")).status).toBe(200);

  for (let round = 0; round < 2; round++) await auth.refresh("aaaaaaaaaaaa");
  expect((await auth.refresh("aaaaaaaaaaaa")).status).toBe(429);
});

test("two hundred sign-ups from one address pass without limits in config.toml", async () => {
  const auth = await authWith("");
  // Weak passwords count as much as good ones, and cost no hash.
  const answers = await Promise.all(
    Array.from(
      { length: 200 },
      () => auth.request("/signup", { body: { email: freshEmail(), password: "abc" } }),
    ),
  );
  expect(new Set(answers.map(({ body }) => body.code))).toEqual(new Set(["weak_password"]));
});

test("a password must have the characters that config.toml asks for", async () => {
  const auth = await authWith(
    `[auth]\nminimum_password_length = 8\npassword_requirements = "lower_upper_letters_digits"\n`,
  );
  const signUp = (password: string) =>
    auth.anonymous().auth.signUp({ email: freshEmail(), password });
  expect((await signUp("alllowercase")).error).toMatchObject({
    code: "weak_password",
    reasons: ["characters"],
  });
  expect((await signUp("aB1")).error).toMatchObject({ reasons: ["length"] });
  expect((await signUp("abcDEF123")).error).toBeNull();
});

test("an old password that has become weak signs in and is said to be weak", async () => {
  const lax = await authWith("");
  const { email } = await lax.signUp();
  const strict = await authWith("[auth]\nminimum_password_length = 40\n");
  const { data, error } = await strict.anonymous().auth.signInWithPassword({
    email,
    password: PASSWORD,
  });
  expect(error).toBeNull();
  expect(data.weakPassword).toMatchObject({ reasons: ["length"] });
});

test("sign-ups can be switched off", async () => {
  const auth = await authWith("[auth]\nenable_signup = false\n");
  const { error } = await auth.anonymous().auth.signUp({ email: freshEmail(), password: PASSWORD });
  expect(error).toMatchObject({ status: 422, code: "signup_disabled" });
});

test("a session ends at its time box and after inactivity", async () => {
  const auth = await authWith(
    `[auth.sessions]\ntimebox = "24h"\ninactivity_timeout = "8h"\n`,
  );
  const aged = await auth.signUp();
  const idle = await auth.signUp();
  const busy = await auth.signUp();
  await auth.sql`
    update auth.sessions set created_at = now() - interval '25 hours'
    where user_id = ${aged.id}`;
  await auth.sql`
    update auth.sessions
    set created_at = now() - interval '20 hours',
      refreshed_at = now() at time zone 'utc' - case user_id
        when ${idle.id} then interval '9 hours' else interval '7 hours' end
    where user_id in (${idle.id}, ${busy.id})`;
  for (const ended of [aged, idle]) {
    expect(await auth.refresh(ended.refreshToken)).toMatchObject({
      status: 400,
      body: { code: "session_expired" },
    });
  }
  expect((await auth.refresh(busy.refreshToken)).status).toBe(200);
});

test("an old session needs a code by mail to change the password when config.toml says so", async () => {
  const auth = await authWith(
    `[auth.email]\nsecure_password_change = true\nmax_frequency = "1ms"\n`,
  );
  const { client, email, id } = await auth.signUp();
  await auth.sql`
    update auth.sessions set created_at = now() - interval '25 hours' where user_id = ${id}`;
  const without = await client.auth.updateUser({ password: "a new password" });
  expect(without.error).toMatchObject({ status: 400, code: "reauthentication_needed" });
  const guessed = await client.auth.updateUser({ password: "a new password", nonce: "000000" });
  expect(guessed.error).toMatchObject({ status: 422, code: "reauthentication_not_valid" });

  await client.auth.reauthenticate();
  const [mail] = await auth.deliveredTo(email);
  const nonce = codeIn(mail!);
  const { error } = await client.auth.updateUser({ password: "a new password", nonce });
  expect(error).toBeNull();
});

test("a second mail right after the first has to wait", async () => {
  const auth = await authWith(`[auth.email]\nmax_frequency = "1m"\n`);
  const { email } = await auth.signUp();
  expect((await auth.anonymous().auth.resetPasswordForEmail(email)).error).toBeNull();
  expect((await auth.anonymous().auth.resetPasswordForEmail(email)).error).toMatchObject({
    status: 429,
    code: "over_email_send_rate_limit",
  });
});

test("a row that somebody else holds locked costs one request ten seconds, not all of Auth", async () => {
  const auth = await authWith("");
  const held = await auth.signUp();
  const other = await auth.signUp();
  await auth.sql.begin(async (sql) => {
    await sql`select from auth.users where id = ${held.id} for update`;
    const stuck = held.client.auth.updateUser({ data: { a: 1 } });
    expect((await other.client.auth.updateUser({ data: { a: 1 } })).error).toBeNull();
    expect((await stuck).error).toMatchObject({ status: 504 });
  });
  expect((await held.client.auth.updateUser({ data: { a: 1 } })).error).toBeNull();
});

test("lost connections to the database are made anew", async () => {
  const auth = await authWith("");
  const { client } = await auth.signUp();
  await auth.sql.unsafe(`
    select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and usename = 'supabase_auth_admin'
  `);
  await expect.poll(async () => (await client.auth.getUser()).error)
    .toBeNull();
});
