import { createClient } from "@supabase/supabase-js";
import { afterAll, expect, test } from "vitest";
import { startAuthServer } from "./own-server.ts";
import { claimsOf, codeIn, freshEmail, linkIn, PASSWORD } from "./support.ts";

const auth = await startAuthServer(`
[auth.email]
enable_confirmations = true
max_frequency = "1ms"
`);
afterAll(() => auth.stop());

/** A client as server-side frameworks make it: it keeps a code verifier. */
function verifyingClient() {
  return createClient(auth.access.apiUrl, auth.access.publishableKey, {
    auth: {
      flowType: "pkce",
      persistSession: false,
      autoRefreshToken: false,
      detectSessionInUrl: false,
    },
    realtime: { transport: class {} as unknown as typeof WebSocket },
  });
}

async function followLatest(email: string): Promise<URL> {
  const [mail] = await auth.deliveredTo(email);
  const { headers } = await fetch(linkIn(mail!), { redirect: "manual" });
  return new URL(headers.get("location")!);
}

async function signedUpByCode() {
  const email = freshEmail();
  const client = verifyingClient();
  const { error } = await client.auth.signUp({ email, password: PASSWORD });
  if (error) throw error;
  const location = await followLatest(email);
  return { email, client, location, code: location.searchParams.get("code")! };
}

test("the link leads back with a code and no token", async () => {
  const { location, code } = await signedUpByCode();
  expect(code).toMatch(/^[0-9a-f-]{36}$/);
  expect(location.href).not.toContain("access_token");
});

test("the client that asked exchanges the code for a session", async () => {
  const { client, code, email } = await signedUpByCode();
  const { data, error } = await client.auth.exchangeCodeForSession(code);
  expect(error).toBeNull();
  expect(data.user).toMatchObject({ email });
  expect(claimsOf(data.session!.access_token).amr).toMatchObject([{ method: "email/signup" }]);
});

test("a code works once", async () => {
  const { client, code } = await signedUpByCode();
  await client.auth.exchangeCodeForSession(code);
  const again = await auth.request("/token?grant_type=pkce", {
    body: { auth_code: code, code_verifier: "x".repeat(56) },
  });
  expect(again).toMatchObject({ status: 404, body: { code: "flow_state_not_found" } });
});

test("another client has not the verifier", async () => {
  const { code } = await signedUpByCode();
  const stolen = await auth.request("/token?grant_type=pkce", {
    body: { auth_code: code, code_verifier: "x".repeat(56) },
  });
  expect(stolen).toMatchObject({ status: 400, body: { code: "bad_code_verifier" } });
});

test("a code is good for five minutes", async () => {
  const { client, code } = await signedUpByCode();
  await auth.sql`
    update auth.flow_state set auth_code_issued_at = now() - interval '6 minutes'
    where auth_code = ${code}`;
  const { error } = await client.auth.exchangeCodeForSession(code);
  expect(error).toMatchObject({ status: 422, code: "flow_state_expired" });
});

test("a code is worth nothing before its link was followed", async () => {
  const email = freshEmail();
  await verifyingClient().auth.signUp({ email, password: PASSWORD });
  const [flow] = await auth.sql`
    select auth_code from auth.flow_state
    where user_id = (select id from auth.users where email = ${email})`;
  const early = await auth.request("/token?grant_type=pkce", {
    body: { auth_code: flow!.auth_code, code_verifier: "x".repeat(56) },
  });
  expect(early).toMatchObject({ status: 404, body: { code: "flow_state_not_found" } });
});

test("the digits in the mail sign in without the exchange", async () => {
  const email = freshEmail();
  const client = verifyingClient();
  await client.auth.signUp({ email, password: PASSWORD });
  const [mail] = await auth.deliveredTo(email);
  const { data, error } = await client.auth.verifyOtp({
    email,
    token: codeIn(mail!),
    type: "signup",
  });
  expect(error).toBeNull();
  expect(data.session).not.toBeNull();
});

test("a password is recovered by the exchange", async () => {
  const { client, code, email } = await signedUpByCode();
  await client.auth.exchangeCodeForSession(code);
  const forgetful = verifyingClient();
  await forgetful.auth.resetPasswordForEmail(email);
  const location = await followLatest(email);
  await forgetful.auth.exchangeCodeForSession(location.searchParams.get("code")!);
  expect((await forgetful.auth.updateUser({ password: "a new password" })).error).toBeNull();
  expect((await auth.signIn(email, "a new password")).email).toBe(email);
});

test("a spent link says so in the query as well, where servers can read it", async () => {
  const { email } = await signedUpByCode();
  const location = await followLatest(email);
  expect(location.searchParams.get("error_code")).toBe("otp_expired");
  expect(location.hash).toContain("error_code=otp_expired");
});

test.each([
  ["half of it", { code_challenge: "x".repeat(43) }],
  ["too short", { code_challenge: "x", code_challenge_method: "s256" }],
  ["with other characters", { code_challenge: "*".repeat(43), code_challenge_method: "s256" }],
  ["by another method", { code_challenge: "x".repeat(43), code_challenge_method: "md5" }],
])("a challenge %s is refused", async (_case, challenge) => {
  const answer = await auth.request("/recover", { body: { email: freshEmail(), ...challenge } });
  expect(answer).toMatchObject({ status: 400, body: { code: "validation_failed" } });
});
