import { createTestDatabase } from "../support/database.ts";
import { afterAll, describe, expect, test } from "vitest";
import { startAuthServer } from "./own-server.ts";
import { codeIn, freshEmail, linkIn, PASSWORD } from "./support.ts";

const auth = await startAuthServer(
  `
[auth]
site_url = "http://localhost:3000"
additional_redirect_urls = ["https://*.example.com/welcome"]
enable_anonymous_sign_ins = true
[auth.email]
enable_confirmations = true
max_frequency = "1ms"
`,
  await createTestDatabase(),
);
afterAll(() => auth.stop());

async function signUpUnconfirmed(redirectTo?: string) {
  const email = freshEmail();
  const { data, error } = await auth.anonymous().auth.signUp({
    email,
    password: PASSWORD,
    options: { ...(redirectTo && { emailRedirectTo: redirectTo }) },
  });
  if (error) throw error;
  return { email, data };
}

async function mailTo(email: string) {
  const mails = await auth.deliveredTo(email);
  expect(mails.length).toBeGreaterThan(0);
  return mails[0]!;
}

/** Where a link leads and with what. */
async function follow(link: string) {
  const { status, headers } = await fetch(link, { redirect: "manual" });
  const location = new URL(headers.get("location")!);
  return { status, location, fragment: new URLSearchParams(location.hash.slice(1)) };
}

describe("signing up", () => {
  test("gives no session before the address is confirmed", async () => {
    const { email, data } = await signUpUnconfirmed();
    expect(data.session).toBeNull();
    expect(data.user).not.toHaveProperty("email_confirmed_at");
    const { error } = await auth.anonymous().auth.signInWithPassword({ email, password: PASSWORD });
    expect(error).toMatchObject({ status: 400, code: "email_not_confirmed" });
  });

  test("is confirmed by the code in the mail", async () => {
    const { email } = await signUpUnconfirmed();
    const { data, error } = await auth.anonymous().auth.verifyOtp({
      email,
      token: codeIn(await mailTo(email)),
      type: "signup",
    });
    expect(error).toBeNull();
    expect(data.user!.email_confirmed_at).toBeTruthy();
    expect(data.user!.user_metadata).toMatchObject({ email_verified: true });
    expect((await auth.signIn(email)).email).toBe(email);
  });

  test("is confirmed by the link in the mail, which leads to the site with a session", async () => {
    const { email } = await signUpUnconfirmed();
    const { status, location, fragment } = await follow(linkIn(await mailTo(email)));
    expect(status).toBe(303);
    expect(location.origin).toBe("http://localhost:3000");
    expect(fragment.get("type")).toBe("signup");
    expect(await auth.request("/user", { token: fragment.get("access_token") })).toMatchObject({
      status: 200,
      body: { email },
    });
  });

  test("leads back to an address that config.toml allows", async () => {
    const { email } = await signUpUnconfirmed("https://app.example.com/welcome");
    const { location } = await follow(linkIn(await mailTo(email)));
    expect(location.origin + location.pathname).toBe("https://app.example.com/welcome");
  });

  test.each([
    "https://evil.test/welcome",
    "https://a.b.example.com/welcome",
    "https://app.example.com/welcome/further",
    "javascript:alert(1)",
    "https://app.example.com.evil.test/welcome",
  ])("never leads to %s", async (target) => {
    const { email } = await signUpUnconfirmed(target);
    const { location } = await follow(linkIn(await mailTo(email)));
    expect(location.origin).toBe("http://localhost:3000");
  });

  test("a link works once", async () => {
    const { email } = await signUpUnconfirmed();
    const link = linkIn(await mailTo(email));
    await follow(link);
    const { fragment } = await follow(link);
    expect(fragment.get("error_code")).toBe("otp_expired");
    expect(fragment.get("error")).toBe("access_denied");
    expect(fragment.has("access_token")).toBe(false);
  });

  test("of two uses of a code at once one succeeds", async () => {
    const { email } = await signUpUnconfirmed();
    const body = { type: "signup", email, token: codeIn(await mailTo(email)) };
    const answers = await auth.sql.begin(async (sql) => {
      // Both get as far as the user's row and wait there for us.
      await sql`select from auth.users where email = ${email} for update`;
      const both = [1, 2].map(() => auth.request("/verify", { body }));
      await expect.poll(async () => {
        const [row] = await auth.sql`
          select count(*)::integer as waiting from pg_stat_activity
          where datname = current_database() and usename = 'supabase_auth_admin'
            and wait_event_type = 'Lock'`;
        return row!.waiting;
      }).toBe(2);
      return { both: Promise.all(both) };
    });
    const [first, second] = (await answers.both).sort((a, b) => a.status - b.status);
    expect(first!.status).toBe(200);
    expect(second).toMatchObject({ status: 403, body: { code: "otp_expired" } });
  });

  test("a code is good for its own address only", async () => {
    const { email } = await signUpUnconfirmed();
    const other = await signUpUnconfirmed();
    const answer = await auth.request("/verify", {
      body: { type: "signup", email: other.email, token: codeIn(await mailTo(email)) },
    });
    expect(answer).toMatchObject({ status: 403, body: { code: "otp_expired" } });
  });

  test("a code is good for an hour", async () => {
    const { email } = await signUpUnconfirmed();
    const token = codeIn(await mailTo(email));
    await auth.sql`
      update auth.users set confirmation_sent_at = now() - interval '61 minutes'
      where email = ${email}`;
    const answer = await auth.request("/verify", { body: { type: "signup", email, token } });
    expect(answer).toMatchObject({ status: 403, body: { code: "otp_expired" } });
  });

  test("again before confirming mails another code and changes nothing", async () => {
    const { email } = await signUpUnconfirmed();
    const first = codeIn(await mailTo(email));
    const again = await auth.anonymous().auth.signUp({ email, password: "another password" });
    expect(again.error).toBeNull();
    expect(await auth.deliveredTo(email)).toHaveLength(2);
    const stale = await auth.request("/verify", { body: { type: "signup", email, token: first } });
    expect(stale.body.code).toBe("otp_expired");
    await auth.anonymous().auth.verifyOtp({
      email,
      token: codeIn(await mailTo(email)),
      type: "signup",
    });
    expect((await auth.signIn(email, PASSWORD)).email).toBe(email);
  });

  test("with a taken address looks like any other sign-up", async () => {
    const { email, data } = await signUpUnconfirmed();
    await auth.anonymous().auth.verifyOtp({
      email,
      token: codeIn(await mailTo(email)),
      type: "signup",
    });
    const decoy = await auth.anonymous().auth.signUp({ email, password: PASSWORD });
    expect(decoy.error).toBeNull();
    expect(decoy.data.session).toBeNull();
    expect(decoy.data.user!.id).not.toBe(data.user!.id);
    expect(decoy.data.user!.identities).toEqual([]);
    expect(await auth.deliveredTo(email)).toHaveLength(1);
  });
});

describe("resending", () => {
  test("mails the confirmation again", async () => {
    const { email } = await signUpUnconfirmed();
    expect((await auth.anonymous().auth.resend({ type: "signup", email })).error).toBeNull();
    expect(await auth.deliveredTo(email)).toHaveLength(2);
  });

  test("does not tell whether an address has an account", async () => {
    const email = freshEmail();
    expect((await auth.anonymous().auth.resend({ type: "signup", email })).error).toBeNull();
    expect(await auth.deliveredTo(email)).toEqual([]);
  });
});

async function confirmedUser() {
  const { email, data } = await signUpUnconfirmed();
  const client = auth.anonymous();
  await client.auth.verifyOtp({ email, token: codeIn(await mailTo(email)), type: "signup" });
  return { email, id: data.user!.id, client };
}

describe("recovering a password", () => {
  test("signs in by the link, and a new password can be set", async () => {
    const { email, id } = await confirmedUser();
    await auth.anonymous().auth.resetPasswordForEmail(email);
    const { fragment } = await follow(linkIn(await mailTo(email)));
    expect(fragment.get("type")).toBe("recovery");
    const answer = await auth.request("/user", {
      method: "PUT",
      token: fragment.get("access_token"),
      body: { password: "a new password" },
    });
    expect(answer.status).toBe(200);
    expect((await auth.signIn(email, "a new password")).id).toBe(id);
  });

  test("does not tell whether an address has an account", async () => {
    const answer = await auth.request("/recover", { body: { email: freshEmail() } });
    expect(answer).toMatchObject({ status: 200, body: {} });
  });
});

describe("a sign-in link", () => {
  test("signs a known user in by the code", async () => {
    const { email, id } = await confirmedUser();
    await auth.anonymous().auth.signInWithOtp({ email });
    const { data, error } = await auth.anonymous().auth.verifyOtp({
      email,
      token: codeIn(await mailTo(email)),
      type: "email",
    });
    expect(error).toBeNull();
    expect(data.user!.id).toBe(id);
  });

  test("creates an unknown user, unless told not to", async () => {
    const email = freshEmail();
    const refused = await auth.anonymous().auth.signInWithOtp({
      email,
      options: { shouldCreateUser: false },
    });
    expect(refused.error).toMatchObject({ status: 422, code: "otp_disabled" });
    await auth.anonymous().auth.signInWithOtp({ email });
    const { data } = await auth.anonymous().auth.verifyOtp({
      email,
      token: codeIn(await mailTo(email)),
      type: "email",
    });
    expect(data.user).toMatchObject({ email });
  });
});

test("a change of address takes the consent of both", async () => {
  const { email, client } = await confirmedUser();
  const newEmail = freshEmail();
  await client.auth.updateUser({ email: newEmail });
  const first = await follow(linkIn(await mailTo(newEmail)));
  expect(first.fragment.get("message")).toContain("confirm link sent to the other email");
  expect((await client.auth.getUser()).data.user!.email).toBe(email);
  const second = await follow(linkIn(await mailTo(email)));
  expect(second.fragment.get("type")).toBe("email_change");
  expect((await client.auth.getUser()).data.user!.email).toBe(newEmail);
});

test("an invitation lets the invited sign in and set a password", async () => {
  const email = freshEmail();
  const { error } = await auth.admin().auth.admin.inviteUserByEmail(email);
  expect(error).toBeNull();
  const { fragment } = await follow(linkIn(await mailTo(email)));
  const answer = await auth.request("/user", {
    method: "PUT",
    token: fragment.get("access_token"),
    body: { password: PASSWORD },
  });
  expect(answer.status).toBe(200);
  expect((await auth.signIn(email)).email).toBe(email);
});

test("an anonymous user signs in without anything", async () => {
  const { data, error } = await auth.anonymous().auth.signInAnonymously();
  expect(error).toBeNull();
  expect(data.user).toMatchObject({ is_anonymous: true, email: "", app_metadata: {} });
});

test("no password, token or code is in any log line", async () => {
  const { email, client } = await confirmedUser();
  const code = codeIn(await mailTo(email));
  const { data } = await client.auth.refreshSession();
  await auth.anonymous().auth.signInWithPassword({ email, password: "wrong-password-1" });
  await auth.request("/user", { token: `${data.session!.access_token}x` });
  await auth.refresh(`${data.session!.refresh_token.slice(0, 11)}1`);
  const log = auth.output();
  expect(log).toContain("request refused");
  const secrets = [
    PASSWORD,
    "wrong-password-1",
    code,
    data.session!.access_token,
    data.session!.refresh_token,
    auth.access.secretKey,
    "$2a$",
    email,
  ];
  for (const secret of secrets) expect(log).not.toContain(secret);
});
