import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { z } from "zod";
import * as one from "../../shared/contract/responses/edition-1.ts";
import * as two from "../../shared/contract/responses/edition-2.ts";
import * as three from "../../shared/contract/responses/edition-3.ts";
import { type StackAccess, useStack } from "../support/stack.ts";
import { createBody1, createBody2, createBody3 } from "./support/bodies.ts";

/** The same api function as it is deployed: behind the gateway, with a worker and real containers. */

let stack: StackAccess;
let sql: postgres.Sql;
let token: Record<string, string>;
let userId: string;

beforeAll(async () => {
  stack = await useStack();
  sql = postgres(stack.dbUrl, { max: 2, onnotice: () => {} });
  const response = await fetch(`${stack.apiUrl}/auth/v1/signup`, {
    method: "POST",
    headers: { apikey: stack.publishableKey, "Content-Type": "application/json" },
    body: JSON.stringify({
      email: `${crypto.randomUUID()}@example.com`,
      password: "a long password",
    }),
  });
  const session = await response.json();
  userId = session.user.id;
  token = { Authorization: `Bearer ${session.access_token}`, apikey: stack.publishableKey };
  await sql`update public.profiles
    set rate_limit = '{"window_limit": 100000, "burst_limit": 100000}' where id = ${userId}`;
});

afterAll(async () => {
  await sql?.end({ timeout: 1 });
});

async function call(
  method: string,
  path: string,
  options: { edition?: 1 | 2 | 3; body?: unknown; headers?: Record<string, string> } = {},
) {
  const response = await fetch(`${stack.apiUrl}${path}`, {
    method,
    headers: {
      ...(options.headers ?? token),
      ...(options.edition ? { "API-Version": String(options.edition) } : {}),
      ...(options.body === undefined ? {} : { "Content-Type": "application/json" }),
    },
    body: options.body === undefined ? undefined : JSON.stringify(options.body),
  });
  const text = await response.text();
  return { status: response.status, headers: response.headers, text, json: JSON.parse(text) };
}

async function as<Schema extends z.ZodType>(
  schema: Schema,
  answer: ReturnType<typeof call>,
): Promise<z.output<Schema>> {
  const { json, text } = await answer;
  const parsed = schema.safeParse(json);
  expect(parsed.error, text).toBeUndefined();
  return parsed.data!;
}

/** What no agent fails for the want of a turn on a busy machine. */
const patient = { health_checks: { interval: "10s", timeout: "10s", retries: 100 } };

async function stateOf(id: string): Promise<string> {
  return (await call("GET", `/api/agents/${id}`, { edition: 3 })).json.agent.status;
}

async function settle(id: string, state: string): Promise<void> {
  await expect.poll(() => stateOf(id), { interval: 250 }).toBe(state);
}

describe("behind the gateway", () => {
  it("an agent goes through its life, each answer as documented", async () => {
    const made = await as(
      three.created3,
      call("POST", "/api/agents", {
        edition: 3,
        body: { ...createBody3, portainer: { ...createBody3.portainer, ...patient } },
      }),
    );
    const path = `/api/agents/${made.agent.id}`;
    await settle(made.agent.id, "running");

    const { agent } = await as(three.agent3, call("GET", path, { edition: 3 }));
    expect(agent.portainer.containers.map((each) => each.status)).toEqual(
      ["running", "running", "running"],
    );
    await as(one.status1, call("GET", `${path}/status`, { edition: 1 }));
    await as(two.status2, call("GET", `${path}/status`, { edition: 2 }));
    await as(three.list3, call("GET", "/api/agents", { edition: 3 }));

    await expect.poll(async () => (await call("GET", `${path}/logs`)).json.logs.length, {})
      .toBeGreaterThan(0);
    await as(three.logs3, call("GET", `${path}/logs`, { edition: 3 }));
    await as(two.logs2, call("GET", `${path}/logs`, { edition: 2 }));
    await expect.poll(
      async () => (await call("GET", `${path}/metrics`, { edition: 1 })).json.metrics.memory.usage,
    ).toBeGreaterThan(0);
    await as(three.metrics3, call("GET", `${path}/metrics`, { edition: 3 }));

    const scanned = () => call("POST", `/api/security/scan/${made.agent.id}`, { edition: 2 });
    // It waits for a few seconds; asked again it answers with the same scan.
    await expect.poll(async () => (await scanned()).json.status).toBe("COMPLETED");
    const scan = await as(two.scan2, scanned());
    expect(scan).toMatchObject({
      status: "COMPLETED",
      results: {
        // The local engine has no scanner.
        passed: null,
        vulnerabilities: null,
        supabase_compliance: {
          rls_policies_verified: true,
          data_encryption_enabled: true,
          audit_logging_active: true,
        },
      },
    });
    expect(scan.results!.recommendations.join()).toContain("plain_secrets: ");

    const scaled = await as(
      three.scaled3,
      call("POST", `${path}/scale`, { edition: 3, body: { replicas: 2, strategy: "rolling" } }),
    );
    expect(scaled.scaling).toMatchObject({ from_replicas: 3, to_replicas: 2 });
    await settle(made.agent.id, "running");

    await as(one.restarted1, call("POST", `${path}/restart`, { edition: 1 }));
    await settle(made.agent.id, "running");
    await as(three.command3, call("POST", `${path}/stop`, { edition: 3 }));
    await settle(made.agent.id, "stopped");
    await as(three.command3, call("POST", `${path}/start`, { edition: 3 }));
    await settle(made.agent.id, "running");
    await as(two.deleted2, call("DELETE", path, { edition: 2 }));
    await expect.poll(async () => (await call("GET", path)).status).toBe(404);
  });

  it("takes the other documents' bodies, the first one's with an API key", async () => {
    const key = await as(
      one.generatedKey1,
      call("POST", "/api/auth/generate-key", {
        edition: 1,
        body: { label: "ci", role: "USER" },
      }),
    );
    const first = await as(
      one.created1,
      call("POST", "/api/agents", { body: createBody1, headers: { "X-API-Key": key.apiKey } }),
    );
    const second = await as(
      two.created2,
      call("POST", "/api/agents", { edition: 2, body: createBody2 }),
    );
    expect(second.supabase_integration).toEqual({
      tables_created: true,
      rls_policies_applied: true,
      real_time_enabled: true,
    });
    for (const { agentId } of [first, second]) {
      const deleted = await call("DELETE", `/api/agents/${agentId}`);
      expect(deleted.status).toBe(202);
    }
  });

  it("streams what an agent writes", async () => {
    const made = await call("POST", "/api/agents", {
      edition: 1,
      body: { agentName: "talker", portainer: patient },
    });
    const abort = new AbortController();
    const response = await fetch(
      `${stack.apiUrl}/api/agents/${made.json.agentId}/logs?follow=true`,
      {
        headers: { ...token, Accept: "text/event-stream", "API-Version": "3" },
        signal: abort.signal,
      },
    );
    const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
    let received = "";
    while (!received.includes("event: log")) {
      const { done, value } = await reader.read();
      expect(done).toBe(false);
      received += value;
    }
    abort.abort();
    const line = /^data: (.*)$/m.exec(received)![1]!;
    expect(three.logLine3.safeParse(JSON.parse(line)).error).toBeUndefined();
    await call("DELETE", `/api/agents/${made.json.agentId}`);
  });

  it("an agent that is asked to reports of itself, by a key that can do nothing else", async () => {
    const made = await call("POST", "/api/agents", {
      edition: 1,
      body: {
        agentName: "reporter",
        supabase_config: { reporting: true },
        environment: { REPORT_SECONDS: "1", LOG_RATE: "0" },
        portainer: patient,
      },
    });
    const id = made.json.agentId;
    const path = `/api/agents/${id}`;
    await settle(id, "running");
    const { url } = (await call("GET", `${path}/status`, { edition: 1 })).json;
    for (const message of ["Hello", "How are you?", "fail"]) {
      await fetch(url, {
        method: "POST",
        body: JSON.stringify({
          message,
          conversation: "room-7",
          ...(message === "fail" && { fail: 1 }),
        }),
      });
    }
    const rest = async (table: string) => {
      const query = `agent_id=eq.${id}&order=timestamp`;
      const response = await fetch(`${stack.apiUrl}/rest/v1/${table}?${query}`, { headers: token });
      return await response.json();
    };
    // Not from its health endpoint: what it says stands in its own table.
    await expect.poll(async () => (await rest("agent_reports"))[0]?.requests_total, {}).toBe(3);
    await expect.poll(
      async () => (await call("GET", `${path}/metrics`, { edition: 1 })).json.metrics.requests,
    ).toMatchObject({ total: 3, success: 2, errors: 1, rate: expect.any(Number) });
    await expect.poll(
      async () => {
        const { metrics } = (await call("GET", `${path}/metrics`, { edition: 3 })).json;
        return metrics.requests_per_minute.max;
      },
    ).toBeGreaterThan(0);
    await expect.poll(
      async () =>
        (await rest("agent_conversations")).map((each: { role: string; content: string }) =>
          `${each.role}: ${each.content}`
        ),
    ).toEqual([
      "user: Hello",
      expect.stringMatching(/^assistant: .* heard: Hello$/),
      "user: How are you?",
      expect.stringMatching(/^assistant: .* heard: How are you\?$/),
    ]);
    const status = async () => {
      const [row] = await sql`select status from public.agents where id = ${id}`;
      return row!.status;
    };
    await expect.poll(status).toBe("idle");

    const [key] = await sql`select * from public.api_keys where agent_id = ${id}`;
    const shown = await fetch(`${stack.apiUrl}/rest/v1/api_keys?agent_id=eq.${id}`, {
      headers: token,
    });
    expect(await shown.json()).toMatchObject([{ id: key!.id, permissions: ["reports:write"] }]);
    const logs = await call("GET", `${path}/logs`, { edition: 3 });
    expect(logs.text).not.toContain("alk_");

    const revoked = await fetch(`${stack.apiUrl}/rest/v1/rpc/revoke_api_key`, {
      method: "POST",
      headers: { ...token, "Content-Type": "application/json" },
      body: JSON.stringify({ key_id: key!.id }),
    });
    expect(revoked.status).toBe(200);
    await expect.poll(
      async () => (await call("GET", `${path}/logs`, { edition: 3 })).text,
    ).toContain("Report of metrics failed: answered 401");
    await call("DELETE", path);
  });

  it("refuses who may not, and the project's own keys", async () => {
    for (
      const headers of [
        {},
        { apikey: stack.publishableKey },
        { Authorization: `Bearer ${stack.publishableKey}` },
        { Authorization: `Bearer ${stack.anonKey}` },
        { Authorization: `Bearer ${stack.secretKey}` },
        { Authorization: `Bearer ${stack.serviceRoleKey}` },
        { Authorization: `${token.Authorization}x` },
      ] as Record<string, string>[]
    ) {
      const answer = await call("GET", "/api/agents", { headers });
      expect([answer.status, answer.json.error.code]).toEqual([401, "AUTHENTICATION_FAILED"]);
    }
  });

  it("tells its health where seed 004 documents it", async () => {
    const health = await call("GET", "/health", { headers: {} });
    expect(health.json).toMatchObject({ status: "healthy", service: "agent-launchpad" });
    const metrics = await fetch(`${stack.apiUrl}/metrics`);
    expect(await metrics.text()).toContain("http_requests_total");
  });
});
