import { beforeAll, expect, it } from "vitest";
import { health1, profile1, system1 } from "../../shared/contract/responses/edition-1.ts";
import { health2, profile2 } from "../../shared/contract/responses/edition-2.ts";
import { health3, system3 } from "../../shared/contract/responses/edition-3.ts";
import { type StackAccess, useStack } from "../support/stack.ts";

/** Profile, health and figures as they are deployed: with the real services behind the gateway. */

let stack: StackAccess;
let token: Record<string, string>;

beforeAll(async () => {
  stack = await useStack();
  const response = await fetch(`${stack.apiUrl}/auth/v1/signup`, {
    method: "POST",
    headers: { apikey: stack.publishableKey, "Content-Type": "application/json" },
    body: JSON.stringify({
      email: `${crypto.randomUUID()}@example.com`,
      password: "a long password",
    }),
  });
  const session = await response.json();
  token = { Authorization: `Bearer ${session.access_token}`, apikey: stack.publishableKey };
});

async function call(
  method: string,
  path: string,
  edition: 1 | 2 | 3,
  body?: unknown,
  credential = token,
) {
  const response = await fetch(`${stack.apiUrl}${path}`, {
    method,
    headers: { ...credential, "API-Version": String(edition), "Content-Type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  return { status: response.status, json: await response.json() };
}

it("a new address goes through Auth and waits for its confirmation", async () => {
  const before = profile2.parse((await call("GET", "/api/users/profile", 2)).json);
  const email = `${crypto.randomUUID()}@example.com`;
  const { status, json } = await call("PUT", "/api/users/profile", 2, { email });
  expect(status, JSON.stringify(json)).toBe(200);
  expect(json.user).toMatchObject({ email: before.user.email, new_email: email });
  expect(json.user.last_sign_in_at).not.toBeNull();
});

it("seed 001's change of profile works with an administrator's key, and signs in by the new address", async () => {
  const service = { apikey: stack.secretKey, Authorization: `Bearer ${stack.secretKey}` };
  const [from, to] = [0, 0].map(() => `${crypto.randomUUID()}@example.com`);
  const password = "a long password";
  const post = (path: string, body: unknown, headers: Record<string, string>) =>
    fetch(`${stack.apiUrl}${path}`, {
      method: "POST",
      headers: { ...headers, "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
  const account = { email: from, password, email_confirm: true };
  const { id } = await (await post("/auth/v1/admin/users", account, service)).json();
  await fetch(`${stack.apiUrl}/rest/v1/profiles?id=eq.${id}`, {
    method: "PATCH",
    headers: { ...service, "Content-Type": "application/json" },
    body: JSON.stringify({ role: "admin" }),
  });
  const signIn = async (email: string) =>
    await (await post("/auth/v1/token?grant_type=password", { email, password }, token)).json();
  const session = { ...token, Authorization: `Bearer ${(await signIn(from!)).access_token}` };
  const wanted = { username: from!.split("@")[0], email: from, role: "ADMIN" };
  const made = await call("POST", "/api/auth/generate-key", 1, wanted, session);
  expect(made.status, JSON.stringify(made.json)).toBe(201);
  const key = { "X-API-Key": made.json.apiKey };

  const body = { email: to, notifications: { email: true, slack: false } };
  const changed = await call("PUT", "/api/users/profile", 1, body, key);
  expect(changed.status, JSON.stringify(changed.json)).toBe(200);
  expect(profile1.parse(changed.json)).toMatchObject({ userId: id, email: to });
  expect((await signIn(to!)).user.id).toBe(id);
});

it("permissions written over Auth have no effect and are not shown", async () => {
  const put = await fetch(`${stack.apiUrl}/auth/v1/user`, {
    method: "PUT",
    headers: { ...token, "Content-Type": "application/json" },
    body: JSON.stringify({ data: { permissions: ["system:*"], full_name: "Somebody" } }),
  });
  expect(put.status).toBe(200);
  const { json } = await call("GET", "/api/users/profile", 2);
  expect(json.user.user_metadata.full_name).toBe("Somebody");
  expect(json.user.user_metadata.permissions).not.toContain("system:*");
});

it("every part of the stack is found healthy", async () => {
  await expect.poll(
    async () => (await call("GET", "/api/health", 3)).json.components?.portainer.status,
    { interval: 3500 },
  ).toBe("healthy");
  const third = health3.parse((await call("GET", "/api/health", 3)).json);
  expect(third.components.portainer.endpoints.docker).toBe("healthy");
  expect(third.components.supabase.status).toBe("healthy");
  expect(third.status).toBe("healthy");

  const { components } = health2.parse((await call("GET", "/api/health", 2)).json);
  const { auth, database, realtime } = components.supabase;
  expect([auth.status, database.status, realtime.status]).toEqual(Array(3).fill("HEALTHY"));
  expect(auth.active_sessions).toBeGreaterThan(0);
  expect(database.connections).toBeGreaterThan(0);
  health1.parse((await call("GET", "/api/health", 1)).json);
});

it("requests are counted where all instances find them", async () => {
  await expect.poll(async () => {
    const { performance } = system3.parse((await call("GET", "/api/metrics", 3)).json);
    return performance.requests_per_minute;
  }, { interval: 3500 }).toBeGreaterThan(0);
  system1.parse((await call("GET", "/api/system/metrics", 1)).json);
});

it("health_check and check_rls_policies answer a GET", async () => {
  const rpc = async (name: string) => {
    const response = await fetch(`${stack.apiUrl}/rest/v1/rpc/${name}`, { headers: token });
    return { status: response.status, json: await response.json() };
  };
  await expect.poll(
    async () => (await rpc("health_check")).json.supabase_health,
    { interval: 1000 },
  ).toMatchObject({
    database: "HEALTHY",
    auth: "HEALTHY",
    realtime: "HEALTHY",
    edge_functions: "HEALTHY",
  });
  const { status, json } = await rpc("check_rls_policies");
  expect([status, json.user_isolation]).toEqual([200, "ACTIVE"]);
  expect(json.tables.agents).toMatchObject({ rls_enabled: true });
});
