import { beforeAll, describe, expect, it } from "vitest";
import { type StorageStack, useStorage } from "./support.ts";

let test: StorageStack;
let bucket: string;
beforeAll(async () => {
  test = await useStorage();
  bucket = await test.bucket();
});

const url = (path: string) => `${test.access.apiUrl}/storage/v1${path}`;

describe("a request", () => {
  it("without a token is told so", async () => {
    const answer = await fetch(url("/bucket"));
    expect([answer.status, await answer.json()]).toEqual([400, {
      statusCode: "400",
      error: "Error",
      code: "InvalidRequest",
      message: "headers must have required property 'authorization'",
    }]);
  });

  it("with a token that does not hold is refused", async () => {
    const answer = await test.request("/bucket", { token: "nonsense" });
    expect([answer.status, await answer.json()]).toEqual([400, {
      statusCode: "403",
      error: "Unauthorized",
      code: "AccessDenied",
      message: "Invalid Compact JWS",
    }]);
  });

  it.each(["publishableKey", "anonKey", "secretKey", "serviceRoleKey"] as const)(
    "with the %s is that role's",
    async (key) => {
      const answer = await fetch(url("/bucket"), { headers: { apikey: test.access[key] } });
      const names = (await answer.json() as { name: string }[]).map(({ name }) => name);
      expect(names.includes(bucket)).toBe(!["publishableKey", "anonKey"].includes(key));
    },
  );

  it("to no route, and by no method of one, is not found", async () => {
    for (const [method, path] of [["GET", "/nothing"], ["PATCH", "/bucket"]] as const) {
      const answer = await test.request(path, { method });
      expect([answer.status, await answer.json()]).toEqual([404, {
        statusCode: "404",
        error: "Not Found",
        code: "InvalidRequest",
        message: `Route ${method}:${path} not found`,
      }]);
    }
  });

  it("with a body that is none is refused", async () => {
    const create = (body: string, type = "application/json") =>
      test.request("/bucket", { method: "POST", body, headers: { "content-type": type } })
        .then((answer) => answer.json());
    expect(await create("{")).toMatchObject({ statusCode: "400", code: "InvalidRequest" });
    expect(await create("{}", "text/plain")).toMatchObject({ message: "body must be object" });
    expect(await create("{}")).toMatchObject({
      message: "body must have required property 'name'",
    });
    expect(await create(`{"name": "${"x".repeat(2_000_000)}"}`)).toMatchObject({
      code: "EntityTooLarge",
    });
  });

  it("with a path that does not decode is refused", async () => {
    expect((await test.request(`/object/${bucket}/%E0%A4%A`)).status).toBe(400);
    expect((await test.request(`/object/${bucket}/a%00b`)).status).toBe(400);
    expect((await test.request("/bucket/a%00b")).status).toBe(400);
  });
});

describe("browsers", () => {
  it("may ask from every origin", async () => {
    const preflight = await fetch(url(`/object/${bucket}/a`), {
      method: "OPTIONS",
      headers: {
        origin: "https://app.example.com",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,x-upsert",
      },
    });
    expect(preflight.ok).toBe(true);
    expect(preflight.headers.get("access-control-allow-origin")).toBe("*");
    expect(preflight.headers.get("access-control-allow-headers")).toBe("authorization,x-upsert");
    const answer = await test.request(`/object/${bucket}/none`, {
      headers: { origin: "https://app.example.com" },
    });
    expect(answer.headers.get("access-control-allow-origin")).toBe("*");
  });
});

describe("what the local stack has not", () => {
  it.each([
    ["GET", "/render/image/public/b/cat.png?width=100"],
    ["POST", "/upload/resumable"],
    ["PUT", "/s3/b/key"],
    ["DELETE", "/cdn/b/key"],
  ])("%s %s says 501 and what it is", async (method, path) => {
    const answer = await test.request(path, { method });
    expect(answer.status).toBe(501);
    expect(await answer.json()).toMatchObject({
      statusCode: "501",
      code: "NotImplemented",
      message: expect.stringMatching(/^The local stack has no /),
    });
  });
});

it("/status and /health tell that it works", async () => {
  expect((await fetch(url("/status"))).status).toBe(200);
  expect(await (await fetch(url("/health"))).json()).toEqual({ healthy: true });
});
