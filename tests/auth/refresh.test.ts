import { expect, test } from "vitest";
import { claimsOf, useAuth } from "./support.ts";

const auth = await useAuth();

/** Makes a token look as if it had been spent so long ago; the reuse interval is ten seconds. */
async function age(token: string, seconds = 11) {
  await auth.sql`
    update auth.refresh_tokens set updated_at = now() - make_interval(secs => ${seconds})
    where token = ${token}`;
}

async function next(token: string): Promise<string> {
  const { status, body } = await auth.refresh(token);
  expect(status).toBe(200);
  return body.refresh_token;
}

test("refreshing swaps both tokens and keeps the session", async () => {
  const user = await auth.signUp();
  const { data, error } = await user.client.auth.refreshSession();
  expect(error).toBeNull();
  expect(data.session!.refresh_token).not.toBe(user.refreshToken);
  expect(claimsOf(data.session!.access_token).session_id).toBe(
    claimsOf(user.accessToken).session_id,
  );
});

test("the parent of the current token gives the current token again, however late", async () => {
  const { refreshToken } = await auth.signUp();
  const current = await next(refreshToken);
  await age(refreshToken);
  expect(await next(refreshToken)).toBe(current);
});

test("an older token within the reuse interval gets a token of the same family", async () => {
  const { refreshToken, id } = await auth.signUp();
  await next(await next(refreshToken));
  await age(refreshToken, 0);
  const extra = await next(refreshToken);
  const rows = await auth.sql`
    select session_id from auth.refresh_tokens where user_id = ${id} group by session_id`;
  expect(rows).toHaveLength(1);
  expect(await next(extra)).toMatch(/^[a-z0-9]{12}$/);
});

test("an older token after the reuse interval revokes the whole family", async () => {
  const { refreshToken } = await auth.signUp();
  const current = await next(await next(refreshToken));
  await age(refreshToken);
  expect(await auth.refresh(refreshToken)).toMatchObject({
    status: 400,
    body: { code: "refresh_token_already_used" },
  });
  await age(current);
  expect(await auth.refresh(current)).toMatchObject({
    status: 400,
    body: { code: "refresh_token_already_used" },
  });
});

test("ten refreshes at once end with one family that goes on", async () => {
  const { refreshToken } = await auth.signUp();
  const answers = await Promise.all(Array.from({ length: 10 }, () => auth.refresh(refreshToken)));
  expect(answers.map(({ status }) => status)).toEqual(Array(10).fill(200));
  expect(new Set(answers.map(({ body }) => body.refresh_token)).size).toBe(1);
  await next(answers[0]!.body.refresh_token);
});

test("a token that was never issued is not found", async () => {
  expect(await auth.refresh("aaaaaaaaaaaa")).toMatchObject({
    status: 400,
    body: { code: "refresh_token_not_found" },
  });
});

test.each(["", "short", "NOT-A-TOKEN!", "x".repeat(200)])(
  "%j has not the shape of a token",
  async (token) => {
    expect(await auth.refresh(token)).toMatchObject({
      status: 400,
      body: { code: "validation_failed" },
    });
  },
);

test("a banned user gets no new tokens", async () => {
  const { refreshToken, id } = await auth.signUp();
  await auth.admin().auth.admin.updateUserById(id, { ban_duration: "1h" });
  expect(await auth.refresh(refreshToken)).toMatchObject({
    status: 400,
    body: { code: "user_banned" },
  });
});

test("refreshing leaves its lines in the audit trail", async () => {
  const { refreshToken, id } = await auth.signUp();
  await next(refreshToken);
  const rows = await auth.sql`
    select payload ->> 'action' as action from auth.audit_log_entries
    where payload ->> 'actor_id' = ${id} and payload ->> 'log_type' = 'token' order by created_at`;
  expect(rows.map(({ action }) => action)).toEqual(["token_refreshed", "token_revoked"]);
});
