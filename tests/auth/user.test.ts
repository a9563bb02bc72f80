import type { SupabaseClient } from "@supabase/supabase-js";
import { expect, test } from "vitest";
import { claimsOf, codeIn, freshEmail, linkIn, PASSWORD, useAuth } from "./support.ts";

const auth = await useAuth();

test("metadata are merged, and null removes a key", async () => {
  const { client } = await auth.signUp({ full_name: "Ada", color: "red" });
  const { data } = await client.auth.updateUser({ data: { color: null, size: 3 } });
  expect(data.user!.user_metadata).toMatchObject({ full_name: "Ada", size: 3 });
  expect(data.user!.user_metadata).not.toHaveProperty("color");
});

const preferences = async ({ client }: { client: SupabaseClient }) =>
  (await client.from("profiles").select("notification_preferences").single()).data!
    .notification_preferences;
const untouched = { email: true, slack: false, real_time: true, security_alerts: true };

test("notification preferences among the metadata are in force", async () => {
  const user = await auth.signUp({ notification_preferences: { slack: true } });
  expect(await preferences(user)).toEqual({ ...untouched, slack: true });
  const chosen = { email: false, real_time: false };
  await user.client.auth.updateUser({ data: { notification_preferences: chosen } });
  expect(await preferences(user)).toEqual({ ...untouched, slack: true, ...chosen });
});

test("what was chosen in the profile since stays when other metadata change", async () => {
  const user = await auth.signUp({ notification_preferences: { email: false } });
  const { error } = await user.client.rpc("update_profile", {
    changes: { notification_preferences: { email: true } },
  });
  expect(error).toBeNull();
  await user.client.auth.updateUser({ data: { color: "red" } });
  expect(await preferences(user)).toEqual(untouched);
});

test.each([
  [{ email: "no", sms: true }],
  ["none"],
  [[false]],
])("metadata that are no preferences stay metadata: %j", async (notification_preferences) => {
  const user = await auth.signUp({ notification_preferences });
  const { data, error } = await user.client.auth.getUser();
  expect(error).toBeNull();
  expect(data.user!.user_metadata).toMatchObject({ notification_preferences });
  expect(await preferences(user)).toEqual(untouched);
});

test("a user cannot write app_metadata", async () => {
  const { accessToken, id } = await auth.signUp();
  const answer = await auth.request("/user", {
    method: "PUT",
    token: accessToken,
    body: { app_metadata: { role: "admin" } },
  });
  expect(answer).toMatchObject({ status: 403, body: { code: "not_admin" } });
  const [row] = await auth.sql`select raw_app_meta_data as meta from auth.users where id = ${id}`;
  expect(row!.meta).toEqual({ provider: "email", providers: ["email"] });
});

test("a new password replaces the old one", async () => {
  const { client, email } = await auth.signUp();
  expect((await client.auth.updateUser({ password: "a new password" })).error).toBeNull();
  const old = await auth.anonymous().auth.signInWithPassword({ email, password: PASSWORD });
  expect(old.error).toMatchObject({ code: "invalid_credentials" });
  expect((await auth.signIn(email, "a new password")).email).toBe(email);
});

test("a new password ends every session but this one", async () => {
  const here = await auth.signUp();
  const there = await auth.signIn(here.email);
  await here.client.auth.updateUser({ password: "a new password" });
  expect((await here.client.auth.getUser()).error).toBeNull();
  expect(await auth.request("/user", { token: there.accessToken })).toMatchObject({
    status: 403,
    body: { code: "session_not_found" },
  });
  expect((await auth.refresh(there.refreshToken)).body.code).toBe("refresh_token_not_found");
});

test("the same password again is refused", async () => {
  const { client } = await auth.signUp();
  const { error } = await client.auth.updateUser({ password: PASSWORD });
  expect(error).toMatchObject({ status: 422, code: "same_password" });
});

test("a weak new password is refused", async () => {
  const { client } = await auth.signUp();
  const { error } = await client.auth.updateUser({ password: "123" });
  expect(error).toMatchObject({ status: 422, code: "weak_password" });
});

test("a new address holds once its mail is confirmed", async () => {
  const { client, email, id } = await auth.signUp();
  const newEmail = freshEmail();
  const { data } = await client.auth.updateUser({ email: newEmail });
  expect(data.user).toMatchObject({ email, new_email: newEmail });

  const [mail] = await auth.deliveredTo(newEmail);
  const verified = await auth.anonymous().auth.verifyOtp({
    email: newEmail,
    token: codeIn(mail!),
    type: "email_change",
  });
  expect(verified.error).toBeNull();
  expect(verified.data.user).toMatchObject({ id, email: newEmail });
  expect(verified.data.user!.identities).toMatchObject([{ email: newEmail }]);
  expect((await auth.signIn(newEmail)).id).toBe(id);
});

test("the address of somebody else cannot be taken", async () => {
  const other = await auth.signUp();
  const { client } = await auth.signUp();
  const { error } = await client.auth.updateUser({ email: other.email });
  expect(error).toMatchObject({ status: 422, code: "email_exists" });
});

test("an address that somebody else confirms first is gone", async () => {
  const { client } = await auth.signUp();
  const wanted = freshEmail();
  await client.auth.updateUser({ email: wanted });
  const [mail] = await auth.deliveredTo(wanted);
  await auth.anonymous().auth.signUp({ email: wanted, password: PASSWORD });
  const answer = await fetch(linkIn(mail!), { redirect: "manual" });
  expect(answer.headers.get("location")).toContain("error_code=email_exists");
});

test("permissions that a user writes into the metadata give none", async () => {
  const { client, accessToken } = await auth.signUp();
  const before = claimsOf(accessToken).permissions;
  const { data } = await client.auth.updateUser({ data: { permissions: ["system:*", "users:*"] } });
  expect(data.user!.user_metadata.permissions).toEqual(before);
  const refreshed = await client.auth.refreshSession();
  expect(claimsOf(refreshed.data.session!.access_token).permissions).toEqual(before);
  expect((await client.rpc("my_permissions")).data).not.toContain("system:*");
  const written = await client.from("settings").update({ value: 1 }).eq("key", "logs_days")
    .select();
  expect(written.data).toEqual([]);
});
