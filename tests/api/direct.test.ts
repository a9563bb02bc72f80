/** What seeds 000 and 002 ask of Supabase itself: the documented requests to Auth and PostgREST, sent as they stand there. */
import { beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import {
  eventType,
  permission,
  severity,
  time,
  uuid,
} from "../../shared/contract/responses/fields.ts";
import { type StackAccess, useStack } from "../support/stack.ts";
import { createBody2 } from "./support/bodies.ts";

let stack: StackAccess;
let email: string;
let headers: Record<string, string>;
let userId: string;
let agentId: string;
const password = "correct horse battery";

async function ask(
  method: string,
  path: string,
  body?: unknown,
  own: Record<string, string> = headers,
) {
  const response = await fetch(`${stack.apiUrl}${path}`, {
    method,
    headers: { ...own, "Content-Type": "application/json" },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  return {
    status: response.status,
    headers: response.headers,
    text,
    json: text === "" ? null : JSON.parse(text),
  };
}

/** Auth as the documents use it: with the publishable key alone. */
const askAuth = (path: string, body: unknown) =>
  ask("POST", `/auth/v1/${path}`, body, { apikey: stack.publishableKey });

beforeAll(async () => {
  stack = await useStack();
  email = `${crypto.randomUUID()}@example.com`;
  const { json } = await askAuth("signup", { email, password });
  userId = json.user.id;
  headers = { Authorization: `Bearer ${json.access_token}`, apikey: stack.publishableKey };
  const made = await ask("POST", "/api/agents", createBody2);
  expect(made.status, made.text).toBe(201);
  agentId = made.json.agentId;
});

describe("Auth", () => {
  const session = z.object({
    access_token: z.jwt(),
    refresh_token: z.string(),
    expires_in: z.literal(3600),
    token_type: z.literal("bearer"),
    user: z.object({
      id: uuid,
      email: z.email(),
      user_metadata: z.looseObject({ permissions: z.array(permission).min(1) }),
    }),
  });

  it("signs in by password", async () => {
    const { status, json } = await askAuth("token?grant_type=password", { email, password });
    expect(status).toBe(200);
    expect(session.parse(json).user).toMatchObject({ id: userId, email });
  });

  it("sends a magic link", async () => {
    expect(await askAuth("magiclink", { email })).toMatchObject({ status: 200, json: {} });
  });

  it("tells who is signed in", async () => {
    const { status, json } = await ask("GET", "/auth/v1/user");
    expect([status, json.id, json.email]).toEqual([200, userId, email]);
  });

  it("keeps metadata, of which permissions mean nothing", async () => {
    const { status } = await ask("PUT", "/auth/v1/user", {
      data: {
        permissions: ["agents:read", "agents:write", "monitoring:read", "users:*"],
        notification_preferences: { email: true, real_time: true },
      },
    });
    expect(status).toBe(200);
    const held = await ask("POST", "/rest/v1/rpc/my_permissions", {});
    expect(held.json).not.toContain("users:*");
  });

  it("changes a password", async () => {
    const changed = "new and secure enough";
    expect((await ask("PUT", "/auth/v1/user", { password: changed })).status).toBe(200);
    const { status } = await askAuth("token?grant_type=password", { email, password: changed });
    expect(status).toBe(200);
  });
});

describe("PostgREST", () => {
  const row = z.object({
    id: uuid,
    name: z.string(),
    status: z.string().regex(/^[a-z]+$/),
    user_id: uuid,
    character: z.record(z.string(), z.unknown()),
    plugins: z.array(z.string()),
    replicas: z.number().int(),
    created_at: z.iso.datetime({ offset: true }),
    updated_at: z.iso.datetime({ offset: true }),
  });

  it("lists one's own agents", async () => {
    const { status, json } = await ask("GET", "/rest/v1/agents");
    expect(status).toBe(200);
    expect(z.array(row).parse(json).map(({ id }) => id)).toEqual([agentId]);
  });

  it("embeds where it runs, what was asked of it and what happened", async () => {
    const { json } = await ask(
      "GET",
      `/rest/v1/agents?id=eq.${agentId}&select=deployments(agent_id),operations(kind,agents(id)),agent_events(event_type,agents(id))` +
        "&operations.kind=eq.deploy&agent_events.event_type=eq.QUEUED",
    );
    expect(json).toEqual([{
      deployments: { agent_id: agentId },
      operations: [{ kind: "deploy", agents: { id: agentId } }],
      agent_events: [{ event_type: "QUEUED", agents: { id: agentId } }],
    }]);
  });

  it("finds one by name", async () => {
    const { json } = await ask("GET", `/rest/v1/agents?name=eq.${createBody2.agentName}`);
    expect(z.array(row).length(1).parse(json)[0]!.plugins).toEqual(createBody2.plugins);
  });

  it("changes one, and tells how many changes are left", async () => {
    const { status, text, headers: told } = await ask("PATCH", `/rest/v1/agents?id=eq.${agentId}`, {
      status: "updated",
      resources: { memory: "256Mi", cpu: "200m" },
      updated_at: "2024-01-15T13:10:00Z",
    });
    expect(status, text).toBe(204);
    expect(Number(told.get("supabase-ratelimit-remaining"))).toBeLessThan(1000);
    const { json } = await ask("GET", `/rest/v1/agents?id=eq.${agentId}`);
    expect(json[0].resources).toEqual({ memory: "256Mi", cpu: "200m" });
    // The time of the change is the database's to tell.
    expect(Date.parse(json[0].updated_at)).toBeGreaterThan(Date.parse("2024-01-16"));
  });

  it.each([
    ["events", "agent_events?agent_id=eq.{id}&event_type=eq.SCALING"],
    ["figures", "agent_metrics?agent_id=eq.{id}&order=timestamp.desc&limit=50"],
    ["log lines", "agent_logs?agent_id=eq.{id}&order=timestamp.desc&limit=100"],
    ["security events", "security_events?order=timestamp.desc&limit=50"],
  ])("lists %s", async (_what, path) => {
    const { status, json } = await ask("GET", `/rest/v1/${path.replace("{id}", agentId)}`);
    expect([status, Array.isArray(json)]).toEqual([200, true]);
  });

  it("shows scaling in the events that seed 002 asks for", async () => {
    await expect.poll(async () => (await ask("GET", `/api/agents/${agentId}`)).json.agent.status, {
      interval: 500,
    }).toBe("running");
    const scaled = await ask("POST", `/api/agents/${agentId}/scale`, { replicas: 2 });
    expect(scaled.status, scaled.text).toBe(202);
    const { json } = await ask(
      "GET",
      `/rest/v1/agent_events?agent_id=eq.${agentId}&event_type=eq.SCALING`,
    );
    expect(json).toEqual([expect.objectContaining({ id: scaled.json.supabase_event_id })]);
  });

  it("shows a security event with the documented fields", async () => {
    expect((await ask("POST", "/api/auth/generate-key", { role: "ADMIN" })).status).toBe(403);
    const documented = z.object({
      id: uuid,
      event_type: eventType,
      severity,
      user_id: uuid.nullable(),
      agent_id: uuid.nullable(),
      message: z.string(),
      timestamp: z.iso.datetime({ offset: true }),
      ip_address: z.string().nullable(),
      user_agent: z.string().nullable(),
      details: z.record(z.string(), z.unknown()),
      automated_response: z.looseObject({ action_taken: z.string() }).nullable(),
    });
    await expect.poll(async () => {
      const { json } = await ask("GET", "/rest/v1/security_events?order=timestamp.desc&limit=50");
      return z.array(documented).parse(json).length;
    }).toBeGreaterThan(0);
  });

  it("checks row level security by GET", async () => {
    const { status, json } = await ask("GET", "/rest/v1/rpc/check_rls_policies");
    expect(status).toBe(200);
    const guarded = z.object({ rls_enabled: z.literal(true), policies_count: z.number().int() });
    z.object({
      tables: z.looseObject({ agents: guarded, agent_metrics: guarded, agent_logs: guarded }),
      user_isolation: z.literal("ACTIVE"),
      compliance_status: z.literal("GDPR_COMPLIANT"),
    }).parse(json);
  });

  it("checks health by GET", async () => {
    const { status, json } = await ask("GET", "/rest/v1/rpc/health_check");
    expect(status).toBe(200);
    const condition = z.enum(["HEALTHY", "DEGRADED", "UNHEALTHY", "UNAVAILABLE"]);
    z.object({
      supabase_health: z.object({
        database: z.literal("HEALTHY"),
        auth: condition,
        realtime: condition,
        storage: condition,
        edge_functions: condition,
      }),
      user_specific: z.object({
        rls_policies: z.literal("ACTIVE"),
        user_data_accessible: z.literal(true),
        real_time_subscriptions: z.number().int(),
      }),
    }).parse(json);
  });
});

describe("edition 2", () => {
  it("tells what both of Supabase's limits leave", async () => {
    const response = await fetch(`${stack.apiUrl}/api/agents`, {
      headers: { ...headers, "API-Version": "2" },
    });
    expect(Number(response.headers.get("supabase-ratelimit-remaining"))).toBeLessThanOrEqual(1000);
    const left = Number(response.headers.get("supabase-auth-rate-limit"));
    expect(left).toBeGreaterThan(20);
    expect(left).toBeLessThan(30);
    expect(time.parse((await response.json()).agents[0].createdAt)).toBeTruthy();
  });
});
