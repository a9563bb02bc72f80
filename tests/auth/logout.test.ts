import { expect, test } from "vitest";
import { useAuth } from "./support.ts";

const auth = await useAuth();

async function threeSessions() {
  const first = await auth.signUp();
  return [first, await auth.signIn(first.email), await auth.signIn(first.email)] as const;
}

async function isAlive(session: { refreshToken: string }): Promise<boolean> {
  return (await auth.refresh(session.refreshToken)).status === 200;
}

test("scope local ends this session only", async () => {
  const [first, second] = await threeSessions();
  expect((await first.client.auth.signOut({ scope: "local" })).error).toBeNull();
  expect(await isAlive(first)).toBe(false);
  expect(await isAlive(second)).toBe(true);
});

test("scope others ends every session but this one", async () => {
  const [first, second, third] = await threeSessions();
  expect((await first.client.auth.signOut({ scope: "others" })).error).toBeNull();
  expect(await isAlive(first)).toBe(true);
  expect(await isAlive(second)).toBe(false);
  expect(await isAlive(third)).toBe(false);
});

test("scope global ends all sessions", async () => {
  const sessions = await threeSessions();
  expect((await sessions[0].client.auth.signOut({ scope: "global" })).error).toBeNull();
  for (const session of sessions) expect(await isAlive(session)).toBe(false);
});

test("an access token of an ended session is worth nothing", async () => {
  const { client, accessToken } = await auth.signUp();
  await client.auth.signOut();
  expect(await auth.request("/user", { token: accessToken })).toMatchObject({
    status: 403,
    body: { code: "session_not_found" },
  });
});

test("an unknown scope is refused", async () => {
  const { accessToken } = await auth.signUp();
  expect(await auth.request("/logout?scope=all", { method: "POST", token: accessToken }))
    .toMatchObject({ status: 400, body: { code: "validation_failed" } });
});

test("signing out of another user's sessions does not happen", async () => {
  const stranger = await auth.signUp();
  const user = await auth.signUp();
  await stranger.client.auth.signOut({ scope: "global" });
  expect(await isAlive(user)).toBe(true);
});
