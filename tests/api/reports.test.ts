import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { z } from "zod";
import { ROUTES } from "../../functions/api/routes.ts";
import * as one from "../../shared/contract/responses/edition-1.ts";
import * as two from "../../shared/contract/responses/edition-2.ts";
import * as three from "../../shared/contract/responses/edition-3.ts";
import { createTestApi, type Persona, type TestApi } from "./support/test-api.ts";

/** Agents that report over `/api` with keys of their own. */

let test: TestApi;
let owner: Persona;
let id: string;
let keyId: string;
let agent: Persona;

beforeAll(async () => {
  test = await createTestApi();
  owner = await test.user();
  await test.sql`update public.settings set value = '1000'
    where category = 'agents' and key in ('max_per_user', 'max_replicas_per_user')`;
});

async function keyOf(agentId: string): Promise<Persona & { keyId: string }> {
  const made = await test.call("POST", `/api/agents/${agentId}/keys`, { as: owner, body: {} });
  const key = three.agentKey3.parse(made.json);
  expect([made.status, key.permissions]).toEqual([201, ["reports:write"]]);
  return { userId: owner.userId, headers: { "X-API-Key": key.api_key }, keyId: key.key_id };
}

beforeEach(async () => {
  id = await test.running(owner, {
    supabase_config: { real_time: { enabled: true, channels: ["signals"] } },
  });
  const made = await keyOf(id);
  agent = made;
  keyId = made.keyId;
});

const post = (what: string, body: unknown, headers?: Record<string, string>) =>
  test.call("POST", `/api/agents/${id}/${what}`, { as: agent, body, headers });

function as<Schema extends z.ZodType>(schema: Schema, answer: { json: unknown; text: string }) {
  const parsed = schema.safeParse(answer.json);
  expect(parsed.error, answer.text).toBeUndefined();
  return parsed.data!;
}

/** What an agent may send, by route. */
const REPORTS: Record<string, unknown> = {
  "POST /api/agents/{id}/logs": { lines: [{ message: "x" }] },
  "POST /api/agents/{id}/metrics": { requests_total: 1 },
  "PUT /api/agents/{id}/status": { status: "thinking" },
  "POST /api/agents/{id}/conversations": {
    conversation_id: "c",
    messages: [{ role: "user", content: "hi" }],
  },
  "POST /api/agents/{id}/events": { channel: "signals", event: "buy", payload: {} },
};
const nameOf = ({ method, path }: { method: string; path: string }) => `${method} ${path}`;

describe("the key of an agent", () => {
  it.each(ROUTES.filter((route) => !(nameOf(route) in REPORTS)).map(nameOf))(
    "may not call %s",
    async (name) => {
      const [method, path] = name.split(" ") as [string, string];
      const answer = await test.call(method, path.replace("{id}", id), {
        as: agent,
        body: method === "GET" ? undefined : {},
      });
      expect([answer.status, answer.json.error.code]).toEqual([403, "INSUFFICIENT_PERMISSIONS"]);
    },
  );

  it.each(Object.keys(REPORTS))("may call %s for its own agent alone", async (name) => {
    const [method, path] = name.split(" ") as [string, string];
    const body = REPORTS[name];
    const own = await test.call(method, path.replace("{id}", id), { as: agent, body });
    expect(own.status, own.text).toBeLessThan(300);
    const other = await test.create(owner);
    const foreign = await test.call(method, path.replace("{id}", other), { as: agent, body });
    expect([foreign.status, foreign.json.error.code]).toEqual([404, "AGENT_NOT_FOUND"]);
    const nobody = await test.call(method, path.replace("{id}", id), { body });
    expect(nobody.status).toBe(401);
  });

  it("is refused once it is revoked", async () => {
    await test.sql`update public.api_keys set revoked_at = now() where id = ${keyId}`;
    const answer = await post("logs", { lines: [{ message: "x" }] });
    expect([answer.status, answer.json.error.code]).toEqual([401, "INVALID_API_KEY"]);
  });

  it("is unknown once the agent is deleted", async () => {
    await test.call("DELETE", `/api/agents/${id}`, { as: owner });
    const answer = await post("logs", { lines: [{ message: "x" }] });
    expect([answer.status, answer.json.error.details.reason]).toEqual([401, "unknown"]);
  });

  it("has limits of its own, which its owner's do not touch", async () => {
    const other = await test.user({ limits: { window_limit: 2, burst_limit: 2 } });
    const mine = await test.create(other);
    const made = await test.call("POST", `/api/agents/${mine}/keys`, { as: other, body: {} });
    const key = { userId: other.userId, headers: { "X-API-Key": made.json.api_key } };
    for (let count = 1; count <= 3; count++) {
      const answer = await test.call("POST", `/api/agents/${mine}/logs`, {
        as: key,
        body: { lines: [{ message: "x" }] },
      });
      expect(answer.status).toBe(201);
      expect(answer.headers.get("x-ratelimit-limit")).toBe("1800");
      expect(answer.headers.get("x-ratelimit-remaining")).toBe(String(1800 - count));
    }
    await test
      .sql`update public.api_keys set rate_limit = '{"burst_limit": 3}' where agent_id = ${mine}`;
    const refused = await test.call("GET", "/api/agents", { as: key });
    expect(refused.status).toBe(429);
  });

  it("is shown again under the same Idempotency-Key, and another one is not made", async () => {
    const headers = { "Idempotency-Key": "one-key" };
    const call = () =>
      test.call("POST", `/api/agents/${id}/keys`, { as: owner, body: { label: "mine" }, headers });
    const first = await call();
    const second = await call();
    expect(second.json).toEqual(first.json);
    const [kept] = await test
      .sql`select body::text from private.idempotency_keys where key = 'one-key'`;
    expect(kept!.body).not.toContain(first.json.api_key);
  });
});

describe("what an agent reports", () => {
  it("stands in its log, told in every edition", async () => {
    const timestamp = new Date(Date.now() - 5000).toISOString();
    const stored = as(
      three.storedLogs3,
      await post("logs", {
        instance: "agent-1",
        lines: [
          { timestamp, level: "warn", message: "half\ud800 and nul\0", source: "core" },
          { message: "second", metadata: { guild: "g" } },
        ],
      }),
    );
    expect(stored).toMatchObject({ accepted: 2, duplicate: false });
    const read = (edition: 1 | 2 | 3) =>
      test.call("GET", `/api/agents/${id}/logs`, { as: owner, edition });
    expect(as(one.logs1, await read(1))).toMatchObject({
      totalLines: 2,
      logs: [{ timestamp, level: "WARN", pod: "agent-1" }, { message: "second" }],
    });
    expect(as(two.logs2, await read(2)).logs[1]).toMatchObject({
      metadata: { guild: "g", pod: "agent-1" },
    });
    expect(as(three.logs3, await read(3)).logs[0]).toMatchObject({
      message: "half\ufffd and nul",
      container_id: null,
      container_name: "agent-1",
    });
  });

  it("stands in its figures, told in every edition, before its health endpoint's", async () => {
    await test.sql`
      insert into public.agent_metrics (agent_id, user_id, replicas, cpu_usage, cpu_limit, memory_usage,
        requests_total, requests_failed, requests_per_minute, error_rate, response_time_ms)
      values (${id}, ${owner.userId}, 1, 0.1, 0.25, 268435456, 9, 9, 9, 0.9, 99)`;
    const answer = await post("metrics", {
      requests_total: 1250,
      requests_failed: 50,
      requests_per_minute: 10.5,
      error_rate: 0.04,
      response_time_ms: 45,
      checks: [{ name: "discord", status: "passing", response_time_ms: 150 }],
    });
    expect(as(three.storedMetrics3, answer).reported).toMatchObject({ instances: 1 });

    const read = (path: string, edition: 1 | 2 | 3) =>
      test.call("GET", `/api/agents/${id}${path}`, { as: owner, edition });
    const requests = { total: 1250, success: 1200, errors: 50, rate: 10.5, error_rate: 0.04 };
    expect(as(one.metrics1, await read("/metrics", 1)).metrics.requests).toMatchObject(requests);
    expect(as(two.metrics2, await read("/metrics", 2)).metrics.requests).toMatchObject(requests);
    expect(as(one.status1, await read("/status", 1)).health.application.responseTime).toBe("45ms");
    const { agent: shown } = as(three.agent3, await read("", 3));
    expect(shown.metrics).toMatchObject({ requests_per_minute: 10.5, error_rate: 0.04 });
    expect(shown.health.checks).toEqual([
      { name: "http_health", status: "passing", response_time: "12ms" },
      { name: "discord", status: "passing", response_time: "150ms" },
    ]);
    const list = await test.call("GET", "/api/agents?limit=100", { as: owner, edition: 3 });
    const entry = as(three.list3, list).agents.find((each) => each.id === id);
    expect(entry?.metrics.requests_per_minute).toBe(10.5);
  });

  it("stands in its series once it is measured", async () => {
    await post("metrics", { requests_per_minute: 30, error_rate: 0.5, response_time_ms: 20 });
    const answer = await test.call("GET", `/api/agents/${id}/metrics`, { as: owner, edition: 3 });
    const { metrics } = as(three.metrics3, answer);
    expect(metrics.requests_per_minute).toMatchObject({ current: 30, average: 30, max: 30 });
    expect(metrics.error_rate.data_points).toMatchObject([{ value: 0.5 }]);
    expect(metrics.response_time_ms.current).toBe(20);
  });

  it("is its status, unless the system sets it", async () => {
    const put = (status: string) =>
      test.call("PUT", `/api/agents/${id}/status`, { as: agent, body: { status } });
    expect(as(three.storedStatus3, await put("responding")).status).toBe("responding");
    await test.call("POST", `/api/agents/${id}/stop`, { as: owner });
    const refused = await put("idle");
    expect([refused.status, refused.json.error.code]).toEqual([409, "INVALID_STATE"]);
    expect((await put("stopped")).status).toBe(400);
  });

  it("is its conversations, which edition 2 names as a table", async () => {
    const stored = as(
      three.storedMessages3,
      await post("conversations", {
        conversation_id: "room-7",
        platform: "discord",
        messages: [
          { role: "user", content: "How are you?", sender: "ann" },
          { role: "assistant", content: "Well." },
        ],
      }),
    );
    expect(stored).toMatchObject({ accepted: 2, conversation_id: "room-7" });
    const status = await test.call("GET", `/api/agents/${id}/status`, { as: owner, edition: 2 });
    expect(as(two.status2, status).supabase_config.tables.conversations).toBe(
      "agent_conversations",
    );
  });

  it.each([
    ["logs", { lines: [{ message: "once" }] }, "agent_logs"],
    [
      "conversations",
      { conversation_id: "c", messages: [{ role: "user", content: "once" }] },
      "agent_conversations",
    ],
  ])("of %s does not double, by Idempotency-Key or batch_id", async (what, body, table) => {
    const count = async () =>
      (await test.sql`select 1 from ${test.sql(table)} where agent_id = ${id}`).length;
    const headers = { "Idempotency-Key": `key-${id}` };
    const first = await post(what, body, headers);
    const again = await post(what, body, headers);
    expect([first.status, again.status, again.json]).toEqual([201, 201, first.json]);
    expect(again.headers.get("idempotency-replayed")).toBe("true");
    expect(await count()).toBe(1);
    const batch = { ...body, batch_id: "b" };
    expect((await post(what, batch)).json.duplicate).toBe(false);
    expect((await post(what, batch)).json.duplicate).toBe(true);
    expect(await count()).toBe(2);
    // The owner's own use of the same key is another one.
    const owners = await test.call("POST", `/api/agents/${id}/${what}`, {
      as: owner,
      body,
      headers,
    });
    expect([owners.status, owners.headers.get("idempotency-replayed")]).toEqual([201, null]);
    expect(await count()).toBe(3);
  });

  it.each([
    ["logs", { lines: [{}, { message: "x", level: "loud" }] }, [
      "lines.0.message",
      "lines.1.level",
    ]],
    ["logs", {}, ["lines"]],
    ["logs", { lines: "x", pod: 1 }, ["lines", "pod"]],
    ["metrics", {}, ["metrics"]],
    ["metrics", { error_rate: 2, cpu: 1 }, ["cpu", "error_rate"]],
    ["metrics", { requests_failed: 1 }, ["requests_failed"]],
    ["conversations", { messages: [] }, ["conversation_id"]],
    ["conversations", { conversation_id: " ", messages: [] }, ["conversation_id", "messages"]],
  ])("of %s is refused by name: %j", async (what, body, fields) => {
    const answer = await post(what, body);
    expect([answer.status, answer.json.error.code]).toEqual([400, "VALIDATION_ERROR"]);
    expect(Object.keys(answer.json.error.details).sort()).toEqual(fields);
  });

  it("is refused when it is too large", async () => {
    const lines = Array.from({ length: 100 }, () => ({ message: "x".repeat(12_000) }));
    expect((await post("logs", { lines })).status).toBe(413);
  });
});
