import { expect, test } from "vitest";
import { freshEmail, PASSWORD, useAuth } from "./support.ts";

const auth = await useAuth();

test("signing up gives a session and a confirmed user", async () => {
  const email = freshEmail();
  const { data, error } = await auth.anonymous().auth.signUp({
    email,
    password: PASSWORD,
    options: { data: { full_name: "Ada Lovelace" } },
  });
  expect(error).toBeNull();
  expect(data.session).toMatchObject({ token_type: "bearer", expires_in: 3600 });
  expect(data.session!.refresh_token).toMatch(/^[a-z0-9]{12}$/);
  expect(data.user).toMatchObject({
    aud: "authenticated",
    role: "authenticated",
    email,
    phone: "",
    app_metadata: { provider: "email", providers: ["email"] },
    user_metadata: {
      full_name: "Ada Lovelace",
      email,
      email_verified: true,
      phone_verified: false,
    },
    is_anonymous: false,
  });
  expect(data.user!.email_confirmed_at).toBeTruthy();
  expect(data.user!.identities).toMatchObject([{ provider: "email", id: data.user!.id, email }]);
});

test("a second sign-up with an address is refused, whatever its letter case", async () => {
  const { email } = await auth.signUp();
  const { error } = await auth.anonymous().auth.signUp({
    email: email.toUpperCase(),
    password: PASSWORD,
  });
  expect(error).toMatchObject({ status: 422, code: "user_already_exists" });
});

test("two sign-ups at once with one address make exactly one user", async () => {
  const email = freshEmail();
  const answers = await Promise.all(
    Array.from(
      { length: 6 },
      () => auth.request("/signup", { body: { email, password: PASSWORD } }),
    ),
  );
  expect(answers.map(({ status }) => status).sort()).toEqual([200, 422, 422, 422, 422, 422]);
  expect(answers.filter(({ body }) => body.code === "user_already_exists")).toHaveLength(5);
  const [row] = await auth.sql`
    select count(*)::integer as users from auth.users where email = ${email}`;
  expect(row!.users).toBe(1);
});

test("a short password is weak, with the reason", async () => {
  const { error } = await auth.anonymous().auth.signUp({ email: freshEmail(), password: "abc" });
  expect(error).toMatchObject({ status: 422, code: "weak_password", reasons: ["length"] });
});

test("a password that bcrypt would cut off is refused", async () => {
  const { status, body } = await auth.request("/signup", {
    body: { email: freshEmail(), password: "ä".repeat(37) },
  });
  expect(status).toBe(400);
  expect(body).toMatchObject({ code: "validation_failed" });
});

test.each([
  ["no address at all", { password: PASSWORD }, 422, "anonymous_provider_disabled"],
  [
    "something that is no address",
    { email: "nobody", password: PASSWORD },
    400,
    "validation_failed",
  ],
  ["no password", { email: "a@example.com" }, 400, "validation_failed"],
  ["a phone number", { phone: "49123456", password: PASSWORD }, 400, "phone_provider_disabled"],
  ["a password of the wrong type", { email: "a@example.com", password: 123456 }, 400, "bad_json"],
])("signing up with %s is refused", async (_case, body, status, code) => {
  expect(await auth.request("/signup", { body })).toMatchObject({ status, body: { code } });
});

test("a body that is no JSON is bad_json", async () => {
  const answer = await auth.request("/signup", { body: "{email:" });
  expect(answer).toMatchObject({ status: 400, body: { code: "bad_json" } });
});

test("a NUL in metadata is refused before anything is written", async () => {
  const email = freshEmail();
  const answer = await auth.request("/signup", {
    body: { email, password: PASSWORD, data: { nested: ["\0"] } },
  });
  expect(answer).toMatchObject({ status: 400, body: { code: "validation_failed" } });
});

test("the password is kept as bcrypt with cost 10", async () => {
  const { id } = await auth.signUp();
  const [row] = await auth.sql`select encrypted_password from auth.users where id = ${id}`;
  expect(row!.encrypted_password).toMatch(/^\$2a\$10\$[./A-Za-z0-9]{53}$/);
});
