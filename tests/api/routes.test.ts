import { beforeAll, describe, expect, it } from "vitest";
import type { z } from "zod";
import * as one from "../../shared/contract/responses/edition-1.ts";
import * as two from "../../shared/contract/responses/edition-2.ts";
import * as three from "../../shared/contract/responses/edition-3.ts";
import { createBody1, createBody2, createBody3 } from "./support/bodies.ts";
import { writeLog } from "../support/logs.ts";
import { createTestApi, type Persona, type TestApi } from "./support/test-api.ts";

let test: TestApi;
let owner: Persona;

beforeAll(async () => {
  test = await createTestApi();
  owner = await test.user();
  await test.sql`update public.settings set value = '1000'
    where category = 'agents' and key in ('max_per_user', 'max_replicas_per_user')`;
});

type Schema = z.ZodType;
type Schemas = Partial<Record<1 | 2 | 3, Schema>>;

/** Each call in each edition, and merged: the merged answer must satisfy its own edition at least. */
async function inEveryEdition(
  schemas: Schemas,
  own: 1 | 2 | 3,
  call: (edition: 1 | 2 | 3 | undefined) => ReturnType<TestApi["call"]>,
) {
  for (const edition of [1, 2, 3, undefined] as const) {
    const answer = await call(edition);
    expect(answer.text, `edition ${edition}`).toContain("{");
    expect(answer.status, answer.text).toBeLessThan(300);
    expect(answer.headers.get("api-version")).toBe(String(edition ?? own));
    const schema = schemas[edition ?? own];
    const parsed = schema?.safeParse(answer.json);
    expect(parsed?.error, `edition ${edition}: ${answer.text}`).toBeUndefined();
  }
}

describe("POST /api/agents", () => {
  it.each([["000", createBody3], ["001", createBody1], ["002", createBody2]])(
    "takes the body of seed %s",
    async (_seed, body) => {
      await inEveryEdition(
        { 1: one.created1, 2: two.created2, 3: three.created3 },
        3,
        (edition) => test.call("POST", "/api/agents", { as: owner, edition, body }),
      );
    },
  );

  it("says where the agent is", async () => {
    const made = await test.call("POST", "/api/agents", { as: owner, body: createBody3 });
    expect(made.status).toBe(201);
    expect(made.headers.get("location")).toBe(`/api/agents/${made.json.agent.id}`);
  });

  it("answers without a header so that every edition's sample works", async () => {
    const { json } = await test.call("POST", "/api/agents", { as: owner, body: createBody3 });
    expect(json.agentId).toBe(json.agent.id);
    expect(json.status).toBe("QUEUED");
    expect(json.agent.status).toBe("deploying");
    expect(json.supabase_integration.real_time_enabled).toBe(true);
  });

  it("kicks the worker", async () => {
    const before = test.kicks();
    await test.create(owner);
    expect(test.kicks()).toBe(before + 1);
  });

  it("shows and keeps no secret outside Vault", async () => {
    const made = await test.call("POST", "/api/agents", { as: owner, body: createBody2 });
    const id = made.json.agent.id;
    const read = await test.call("GET", `/api/agents/${id}`, { as: owner });
    const rows = await test.sql`
      select to_jsonb(a) as row from public.agents a where a.id = ${id}
      union all select to_jsonb(o) from public.operations o where o.agent_id = ${id}
      union all select to_jsonb(e) from public.agent_events e where e.agent_id = ${id}
      union all select to_jsonb(l) from public.audit_log l`;
    expect(made.text + read.text + JSON.stringify(rows)).not.toContain("secret-");
  });

  it("names every bad field, from the contract and from SQL alike", async () => {
    const contract = await test.call("POST", "/api/agents", {
      as: owner,
      body: { plugins: 1, resources: { memory: "much" }, replicas: "many" },
    });
    expect(contract.status).toBe(400);
    expect(contract.json.error.code).toBe("VALIDATION_ERROR");
    expect(Object.keys(contract.json.error.details).sort()).toEqual([
      "agentName",
      "plugins",
      "replicas",
      "resources.memory",
    ]);
    const sql = await test.call("POST", "/api/agents", {
      as: owner,
      body: { agentName: "a", replicas: 999, settings: { temperature: 9 } },
    });
    expect(sql.status).toBe(400);
    expect(Object.keys(sql.json.error.details).sort()).toEqual([
      "replicas",
      "settings.temperature",
    ]);
  });
});

describe("reading an agent", () => {
  let id: string;
  beforeAll(async () => {
    id = await test.running(owner, { description: "runs", platforms: ["discord"] });
    const now = new Date().toISOString();
    await test.sql`
      insert into public.agent_metrics (agent_id, user_id, timestamp, replicas, cpu_usage, cpu_limit,
        memory_usage, memory_limit, network_rx, network_tx, requests_total, requests_failed,
        requests_per_minute, error_rate, response_time_ms)
      values (${id}, ${owner.userId}, ${now}, 1, 0.1, 0.25, 268435456, 536870912, 1000, 2000, 10, 1,
        5, 0.1, 12)`;
    await writeLog(
      test.sql,
      { agentId: id, userId: owner.userId },
      Array.from({ length: 50 }, (_, index) => ({
        timestamp: new Date(Date.now() - (100 - index) * 1000).toISOString(),
        level: (index + 1) % 10 === 0 ? "ERROR" : "INFO",
        message: `line ${index + 1}`,
        source: "eliza-core",
        container_id: `c${(index + 1) % 2}`,
        container_name: `agent-${(index + 1) % 2}`,
        metadata: null,
      })),
    );
  });

  it("GET /api/agents/{id} and its status answer in each edition", async () => {
    const schemas = { 1: one.status1, 2: two.status2, 3: three.agent3 };
    await inEveryEdition(
      schemas,
      3,
      (edition) => test.call("GET", `/api/agents/${id}`, { as: owner, edition }),
    );
    await inEveryEdition(
      schemas,
      2,
      (edition) => test.call("GET", `/api/agents/${id}/status`, { as: owner, edition }),
    );
  });

  it("shows what runs", async () => {
    const { json } = await test.call("GET", `/api/agents/${id}`, { as: owner, edition: 3 });
    expect(json.agent).toMatchObject({
      status: "running",
      portainer: { stack_id: "7", stack_status: "active", containers: [{ status: "running" }] },
      metrics: { cpu_usage: 40, memory_usage: 256, memory_limit: 512 },
      health: { status: "healthy" },
    });
    const first = await test.call("GET", `/api/agents/${id}/status`, { as: owner, edition: 1 });
    expect(first.json).toMatchObject({ status: "DEPLOYED", health: { overall: "HEALTHY" } });
  });

  it("lists in each edition", async () => {
    await inEveryEdition(
      { 1: one.list1, 2: two.list2, 3: three.list3 },
      3,
      (edition) => test.call("GET", "/api/agents?limit=5", { as: owner, edition }),
    );
  });

  it("merges a list agent by agent", async () => {
    const { json } = await test.call("GET", "/api/agents?limit=5", { as: owner });
    for (const agent of json.agents) expect(agent.agentId).toBe(agent.id);
  });

  it("pages without gaps or repeats", async () => {
    const all = await test.call("GET", "/api/agents?limit=100", { as: owner, edition: 3 });
    const ids: string[] = [];
    for (let offset = 0; offset < all.json.pagination.total; offset += 3) {
      const page = await test.call("GET", `/api/agents?limit=3&offset=${offset}`, {
        as: owner,
        edition: 3,
      });
      expect(page.json.pagination.has_more).toBe(offset + 3 < all.json.pagination.total);
      ids.push(...page.json.agents.map((agent: { id: string }) => agent.id));
    }
    expect(ids).toEqual(all.json.agents.map((agent: { id: string }) => agent.id));
  });

  it.each([[1, "DEPLOYED"], [2, "deployed"], [3, "running"], [3, "DEPLOYED"]] as const)(
    "finds in edition %s what is %s",
    async (edition, status) => {
      const found = await test.call("GET", `/api/agents?status=${status}`, { as: owner, edition });
      const ids = found.json.agents.map((agent: Record<string, string>) =>
        agent.id ?? agent.agentId
      );
      expect(ids).toContain(id);
      expect(
        found.json.agents.every((agent: { status: string }) =>
          agent.status === (edition === 3 ? "running" : "DEPLOYED")
        ),
      ).toBe(true);
    },
  );

  it("finds by platform", async () => {
    const found = await test.call("GET", "/api/agents?platform=telegram", {
      as: owner,
      edition: 3,
    });
    expect(found.json.pagination.total).toBe(0);
  });

  it("names every bad parameter of a list", async () => {
    const bad = await test.call("GET", "/api/agents?limit=0&offset=x&status=happy&owner=me", {
      as: owner,
    });
    expect(bad.status).toBe(400);
    expect(Object.keys(bad.json.error.details).sort()).toEqual([
      "limit",
      "offset",
      "owner",
      "status",
    ]);
  });

  it("shows logs in each edition", async () => {
    await inEveryEdition(
      { 1: one.logs1, 2: two.logs2, 3: three.logs3 },
      3,
      (edition) => test.call("GET", `/api/agents/${id}/logs`, { as: owner, edition }),
    );
  });

  it("shows the last lines in order of time, and says that there are more", async () => {
    const { json } = await test.call("GET", `/api/agents/${id}/logs?lines=3`, {
      as: owner,
      edition: 3,
    });
    expect(json.logs.map((line: { message: string }) => line.message)).toEqual([
      "line 48",
      "line 49",
      "line 50",
    ]);
    expect(json.pagination).toMatchObject({ total_lines: 50, returned_lines: 3, has_more: true });
  });

  it.each([["level=ERROR", 5], ["level=error,info", 50], ["container=c1", 25], ["since=1h", 50], [
    "since=2099-01-01T00:00:00Z",
    0,
  ], ["since=1s", 0]])("filters logs by %s", async (query, lines) => {
    const { json } = await test.call("GET", `/api/agents/${id}/logs?${query}`, {
      as: owner,
      edition: 3,
    });
    expect(json.logs).toHaveLength(lines);
    expect(json.pagination.total_lines).toBe(lines);
  });

  it("pages through a log, older and newer, without losing or repeating a line", async () => {
    const page = async (query: string) => {
      const path = `/api/agents/${id}/logs?lines=20&container=c1&level=info&${query}`;
      const { json, text } = await test.call("GET", path, { as: owner, edition: 3 });
      expect(json.pagination?.total_lines, text).toBe(25);
      return json as z.output<typeof three.logs3>;
    };
    const numbers = (answer: z.output<typeof three.logs3>) =>
      answer.logs.map((line) => Number(line.message.slice(5)));
    const newest = await page("");
    expect(numbers(newest)).toEqual(Array.from({ length: 20 }, (_, index) => 11 + 2 * index));
    const older = await page(`before=${newest.pagination.next_cursor}`);
    expect(numbers(older)).toEqual([1, 3, 5, 7, 9]);
    expect(older.pagination).toMatchObject({ has_more: false, next_cursor: null });
    const newer = await page(`after=${older.pagination.previous_cursor}`);
    expect(numbers(newer)).toEqual(numbers(newest));
    expect(newer.pagination.has_more).toBe(false);
    const behind = await page(`after=${newer.pagination.previous_cursor}`);
    expect(numbers(behind)).toEqual([]);
    expect(behind.pagination.previous_cursor).toBe(newer.pagination.previous_cursor);
    const first = await test.call(
      "GET",
      `/api/agents/${id}/logs?lines=1&before=${older.pagination.previous_cursor}`,
      { as: owner, edition: 1 },
    );
    expect(first.json).toMatchObject({ logs: [{ message: "line 8" }], totalLines: 50 });
  });

  it.each([
    ["before=x", "before"],
    ["after=1_2_3", "after"],
    ["before=1_1&after=1_1", "after"],
    ["follow=true&before=1_1", "follow"],
  ])("refuses logs by %s, naming the parameter", async (query, field) => {
    const { status, json } = await test.call("GET", `/api/agents/${id}/logs?${query}`, {
      as: owner,
      edition: 3,
    });
    expect([status, Object.keys(json.error.details)]).toEqual([400, [field]]);
  });

  it("shows metrics in each edition", async () => {
    await inEveryEdition(
      { 1: one.metrics1, 2: two.metrics2, 3: three.metrics3 },
      3,
      (edition) => test.call("GET", `/api/agents/${id}/metrics`, { as: owner, edition }),
    );
  });

  it.each(
    ["1h", "6h", "24h", "7d", "30d"].flatMap((timeframe) =>
      ["1m", "5m", "15m", "1h"].map((interval) => [timeframe, interval])
    ),
  )("measures over %s by %s", async (timeframe, interval) => {
    const path = `/api/agents/${id}/metrics?timeframe=${timeframe}&interval=${interval}`;
    const { json } = await test.call("GET", path, { as: owner, edition: 3 });
    expect(json).toMatchObject({ timeframe, interval });
    expect(json.metrics.cpu.data_points).toEqual([{ timestamp: expect.any(String), value: 40 }]);
    expect(json.metrics.memory).toMatchObject({ current: 256, limit: 512 });
  });

  it("gives nulls where nothing was measured", async () => {
    const quiet = await test.create(owner);
    const { json } = await test.call("GET", `/api/agents/${quiet}/metrics`, {
      as: owner,
      edition: 1,
    });
    expect(one.metrics1.parse(json).metrics.cpu).toEqual({
      usage: null,
      limit: null,
      percentage: null,
    });
  });
});

describe("commands", () => {
  async function commandInEveryEdition(
    schemas: Schemas,
    own: 1 | 2 | 3,
    method: string,
    end: string,
    body?: unknown,
  ) {
    await inEveryEdition(schemas, own, async (edition) => {
      const id = await test.running(owner);
      return await test.call(method, `/api/agents/${id}${end}`, { as: owner, edition, body });
    });
  }

  /** Revision 1, and 2 which runs. */
  async function updated(): Promise<string> {
    const id = await test.running(owner, { environment: { MODE: "secret-one" } });
    await test.call("PUT", `/api/agents/${id}`, {
      as: owner,
      body: { environment: { MODE: "secret-two" } },
    });
    await test.finishOperations();
    return id;
  }

  it("scale", async () => {
    await commandInEveryEdition(
      { 1: one.scaled1, 2: two.scaled2, 3: three.scaled3 },
      3,
      "POST",
      "/scale",
      { replicas: 2 },
    );
  });

  it("scale within a policy, which is kept", async () => {
    const id = await test.running(owner);
    const scaled = await test.call("POST", `/api/agents/${id}/scale`, {
      as: owner,
      edition: 2,
      body: { replicas: 3, scaling_policy: { min_replicas: 1, max_replicas: 5, target_cpu: 70 } },
    });
    expect(scaled.status).toBe(202);
    const [row] = await test.sql`select scaling, replicas from public.agents where id = ${id}`;
    expect(row).toEqual({
      scaling: { minReplicas: 1, maxReplicas: 5, targetCPU: 70 },
      replicas: 3,
    });
    const event = await test.sql`
      select event_type from public.agent_events where id = ${scaled.json.supabase_event_id}`;
    expect(event[0]!.event_type).toBe("SCALING");
  });

  it("rollback, also without a body, and lists the revisions", async () => {
    await inEveryEdition({ 3: three.rolledBack3 }, 3, async (edition) => {
      const id = await updated();
      return await test.call("POST", `/api/agents/${id}/rollback`, { as: owner, edition });
    });
    const id = await updated();
    await inEveryEdition(
      { 3: three.revisions3 },
      3,
      (edition) => test.call("GET", `/api/agents/${id}/revisions`, { as: owner, edition }),
    );
  });

  it("rollback to the revision asked for, once per Idempotency-Key", async () => {
    const id = await updated();
    const back = () =>
      test.call("POST", `/api/agents/${id}/rollback`, {
        as: owner,
        edition: 3,
        body: { revision: 1 },
        headers: { "idempotency-key": `back-${id}` },
      });
    const [first, second] = [await back(), await back()];
    expect(first.json.rollback).toMatchObject({ from_revision: 2, to_revision: 1 });
    expect(second.json).toEqual(first.json);
    await test.finishOperations();
    const read = await test.call("GET", `/api/agents/${id}`, { as: owner, edition: 3 });
    expect(read.json.agent.revision).toBe(3);
    const page = await test.call("GET", `/api/agents/${id}/revisions?limit=1`, {
      as: owner,
      edition: 3,
    });
    expect(page.json).toMatchObject({
      revisions: [{
        revision: 3,
        restored_from: 1,
        running: true,
        environment: [{ name: "MODE" }],
      }],
      running_revision: 3,
      pagination: { limit: 1, has_more: true, next_before: 3 },
    });
    const next = await test.call("GET", `/api/agents/${id}/revisions?limit=5&before=3`, {
      as: owner,
      edition: 3,
    });
    expect(next.json).toMatchObject({
      revisions: [{ revision: 2 }, { revision: 1 }],
      pagination: { has_more: false, next_before: null },
    });
    expect(page.text + next.text).not.toContain("secret-");
  });

  it("says what is wrong with a rollback", async () => {
    const id = await test.running(owner);
    const path = `/api/agents/${id}/rollback`;
    const back = (body?: unknown) => test.call("POST", path, { as: owner, edition: 3, body });
    expect((await back({ revision: 9 })).json.error).toMatchObject({ code: "REVISION_NOT_FOUND" });
    expect((await back({ revision: 9 })).status).toBe(404);
    expect((await back()).json.error).toMatchObject({
      code: "INVALID_STATE",
      details: { reason: "no_revision" },
    });
    for (const revision of [0, 1.5, "one", 1e12]) {
      expect((await back({ revision })).json.error).toMatchObject({
        code: "VALIDATION_ERROR",
        details: { revision: expect.stringContaining("whole number") },
      });
    }
    const stranger = await test.user();
    expect((await test.call("POST", path, { as: stranger })).json.error.code)
      .toBe("AGENT_NOT_FOUND");
    const list = await test.call("GET", `/api/agents/${id}/revisions?limit=51&before=x`, {
      as: owner,
    });
    expect(Object.keys(list.json.error.details).sort()).toEqual(["before", "limit"]);
  });

  it("restart, also without a body", async () => {
    await commandInEveryEdition(
      { 1: one.restarted1, 2: two.restarted2, 3: three.command3 },
      3,
      "POST",
      "/restart",
    );
  });

  it("restart as asked", async () => {
    const id = await test.running(owner);
    const { json } = await test.call("POST", `/api/agents/${id}/restart`, {
      as: owner,
      edition: 3,
      body: { restart_policy: "recreate", max_unavailable: 2 },
    });
    expect(json.restart).toMatchObject({ restart_policy: "recreate", max_unavailable: 2 });
  });

  it("stop and start", async () => {
    const id = await test.running(owner);
    const stopped = await test.call("POST", `/api/agents/${id}/stop`, { as: owner, edition: 3 });
    expect(three.command3.parse(stopped.json).agent.status).toBe("stopping");
    await test.finishOperations();
    const started = await test.call("POST", `/api/agents/${id}/start`, { as: owner, edition: 3 });
    expect(started.status, started.text).toBe(202);
    three.command3.parse(started.json);
  });

  it("update, merging what is named", async () => {
    const body = {
      description: "Updated",
      resources: { memory: "2Gi" },
      supabase_config: { storage: { bucket: "assets", public_access: false } },
    };
    await commandInEveryEdition({ 2: two.updated2 }, 2, "PUT", "", body);
  });

  it("update tells what was changed", async () => {
    const id = await test.running(owner);
    const { json } = await test.call("PUT", `/api/agents/${id}`, {
      as: owner,
      edition: 2,
      body: { description: "Updated", resources: { cpu: "1000m" } },
    });
    expect(json).toMatchObject({
      status: "UPDATING",
      changes_applied: { resources: true, description: true },
    });
  });

  it("delete", async () => {
    await commandInEveryEdition(
      { 1: one.deleted1, 2: two.deleted2, 3: three.command3 },
      2,
      "DELETE",
      "",
    );
  });

  it("refuse a second operation and name the first", async () => {
    const id = await test.running(owner);
    const scale = (replicas: number) =>
      test.call("POST", `/api/agents/${id}/scale`, { as: owner, edition: 3, body: { replicas } });
    const answers = await Promise.all([scale(2), scale(3)]);
    const accepted = answers.find((answer) => answer.status === 202)!;
    const refused = answers.find((answer) => answer.status === 409)!;
    expect(refused.json.error).toMatchObject({
      code: "OPERATION_IN_PROGRESS",
      details: { operation_id: accepted.json.operation_id, kind: "scale" },
    });
  });

  it("refuse what the state does not allow", async () => {
    const id = await test.running(owner);
    const started = await test.call("POST", `/api/agents/${id}/start`, { as: owner });
    expect([started.status, started.json.error.code]).toEqual([409, "INVALID_STATE"]);
  });

  it("carry the request's id into the operation", async () => {
    const id = await test.running(owner);
    const stopped = await test.call("POST", `/api/agents/${id}/stop`, {
      as: owner,
      headers: { "X-Request-Id": "my-request-0001" },
    });
    expect(stopped.headers.get("x-request-id")).toBe("my-request-0001");
    const [row] = await test.sql`
      select request_id from public.operations where agent_id = ${id} and kind = 'stop'`;
    expect(row!.request_id).toBe("my-request-0001");
  });
});

describe("POST /api/auth/generate-key", () => {
  it("makes a key that works, and keeps only its digest", async () => {
    const someone = await test.user({ role: "admin" });
    const made = await test.call("POST", "/api/auth/generate-key", {
      as: someone,
      edition: 1,
      body: { username: someone.email.split("@")[0], email: someone.email, role: "ADMIN" },
    });
    expect(made.status, made.text).toBe(201);
    const { apiKey } = one.generatedKey1.parse(made.json);
    const listed = await test.call("GET", "/api/agents", { headers: { "X-API-Key": apiKey } });
    expect(listed.status).toBe(200);
    expect(listed.headers.get("api-version")).toBe("1");
    const kept = await test.sql`
      select to_jsonb(k) as row from public.api_keys k
      union all select jsonb_build_object('digest', d.digest) from private.api_key_digests d
      union all select to_jsonb(l) from public.audit_log l`;
    expect(JSON.stringify(kept)).not.toContain(apiKey);
  });

  it("names the field of the request whose time has passed", async () => {
    const answer = await test.call("POST", "/api/auth/generate-key", {
      as: owner,
      edition: 1,
      body: { expiresAt: "2020-01-01T00:00:00Z" },
    });
    expect([answer.status, answer.json.error.details]).toEqual([
      400,
      { expiresAt: "must lie in the future" },
    ]);
  });

  it("makes no key beyond its owner's role", async () => {
    const answer = await test.call("POST", "/api/auth/generate-key", {
      as: owner,
      edition: 1,
      body: { role: "ADMIN" },
    });
    expect([answer.status, answer.json.error.code]).toEqual([403, "INSUFFICIENT_PERMISSIONS"]);
  });
});
