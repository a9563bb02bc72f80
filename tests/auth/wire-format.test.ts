import { describe, expect, test } from "vitest";
import { freshEmail, useAuth } from "./support.ts";

const auth = await useAuth();

function wrongPassword(version: string | undefined) {
  return auth.request("/token?grant_type=password", {
    body: { email: freshEmail(), password: "wrong" },
    headers: { "x-supabase-api-version": version ?? "" },
  });
}

describe("an error", () => {
  test("is {code, message} from API version 2024-01-01 on, and says so", async () => {
    for (const version of ["2024-01-01", "2025-06-30"]) {
      const { body, headers } = await wrongPassword(version);
      expect(body).toEqual({ code: "invalid_credentials", message: "Invalid login credentials" });
      expect(headers.get("x-supabase-api-version")).toBe("2024-01-01");
      expect(headers.get("x-sb-error-code")).toBe("invalid_credentials");
    }
  });

  test.each([undefined, "2023-12-31", "nonsense"])(
    "is {code: status, error_code, msg} for version %s",
    async (version) => {
      const { body, headers } = await wrongPassword(version);
      expect(body).toEqual({
        code: 400,
        error_code: "invalid_credentials",
        msg: "Invalid login credentials",
      });
      expect(headers.has("x-supabase-api-version")).toBe(false);
    },
  );

  test("about a weak password lists the reasons in both forms", async () => {
    for (const version of ["2024-01-01", ""]) {
      const { body } = await auth.request("/signup", {
        body: { email: freshEmail(), password: "abc" },
        headers: { "x-supabase-api-version": version },
      });
      expect(body.weak_password).toEqual({ reasons: ["length"] });
    }
  });
});

test("a path that Auth does not have is 404, a wrong method 405", async () => {
  expect((await auth.request("/nothing")).status).toBe(404);
  expect((await auth.request("/signup")).status).toBe(405);
});

test("a body over a megabyte is refused", async () => {
  const answer = await auth.request("/signup", {
    body: { email: freshEmail(), password: "x", data: { large: "x".repeat(1 << 20) } },
  });
  expect(answer).toMatchObject({ status: 413, body: { code: "request_entity_too_large" } });
});

test.each(["/verify?type=signup&token=a%00b", "/admin/users?filter=%00"])(
  "a NUL in a query parameter is the client's fault: %s",
  async (path) => {
    const { status } = await auth.request(path, { apikey: auth.access.secretKey });
    expect(status).toBe(400);
  },
);

test("an address with a zone does not get in the way", async () => {
  const answer = await auth.request("/signup", {
    body: { email: freshEmail(), password: "long enough" },
    headers: { "x-forwarded-for": "fe80::1%eth0" },
  });
  expect(answer.status).toBe(200);
});

test("health answers without a key", async () => {
  expect(await auth.request("/health", { apikey: null })).toMatchObject({
    status: 200,
    body: { name: "GoTrue" },
  });
});

test("settings say which ways to sign in there are", async () => {
  const { body } = await auth.request("/settings");
  expect(body).toMatchObject({
    external: { email: true, phone: false, github: false, anonymous_users: false },
    disable_signup: false,
    mailer_autoconfirm: true,
  });
});

test("a script of another origin may read the paging headers", async () => {
  const answer = await auth.request("/admin/users?per_page=1", {
    apikey: auth.access.secretKey,
    headers: { origin: "https://app.example.com" },
  });
  expect(answer.headers.get("access-control-allow-origin")).toBe("*");
  expect(answer.headers.get("access-control-expose-headers")?.toLowerCase())
    .toContain("x-total-count");
});
