import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { batch3 } from "../../shared/contract/responses/edition-3.ts";
import { createTestApi, type Persona, type TestApi } from "./support/test-api.ts";

let test: TestApi;
let owner: Persona;

beforeAll(async () => {
  test = await createTestApi();
});
beforeEach(async () => {
  owner = await test.user();
});

async function running(count: number): Promise<string[]> {
  const ids: string[] = [];
  for (let made = 0; made < count; made++) ids.push(await test.create(owner));
  await test.finishOperations();
  return ids;
}

const post = (body: unknown, options: Record<string, unknown> = {}) =>
  test.call("POST", "/api/agents/batch", { as: owner, body, ...options });
const read = (id: string, as = owner) => test.call("GET", `/api/agents/batch/${id}`, { as });
const cancel = (id: string, as = owner) => test.call("DELETE", `/api/agents/batch/${id}`, { as });

describe("POST /api/agents/batch", () => {
  it("takes seed 000's body and says how each agent fares", async () => {
    const ids = await running(3);
    const kicks = test.kicks();
    const made = await post({
      operation: "restart",
      agent_ids: ids,
      options: { restart_policy: "rolling", max_concurrent: 2 },
    });
    expect(made.status, made.text).toBe(202);
    expect(made.headers.get("api-version")).toBe("3");
    expect(batch3.safeParse(made.json).error).toBeUndefined();
    expect(made.json).toMatchObject({
      success: true,
      operation: "restart",
      status: "in_progress",
      max_concurrent: 2,
      total: 3,
      accepted: 3,
      running: 2,
      pending: 1,
      rejected: [],
    });
    expect(made.json.results.map((each: { status: string }) => each.status))
      .toEqual(["in_progress", "in_progress", "pending"]);
    expect(made.headers.get("location")).toBe(`/api/agents/batch/${made.json.batch_id}`);
    expect(test.kicks()).toBe(kicks + 1);
  });

  it.each([1, 2, 3] as const)("answers the same in edition %i", async (edition) => {
    const made = await post({ operation: "stop", agent_ids: await running(1) }, { edition });
    expect(batch3.safeParse(made.json).error).toBeUndefined();
  });

  it("reports who cannot with the code they would have got, and goes on with the others", async () => {
    const [good, busy] = await running(2);
    await test.call("POST", `/api/agents/${busy}/stop`, { as: owner });
    const stranger = await test.user();
    const foreign = await test.create(stranger);
    const { json } = await post({ operation: "restart", agent_ids: [busy, foreign, good] });
    expect(batch3.safeParse(json).error).toBeUndefined();
    expect(json).toMatchObject({
      success: true,
      total: 3,
      accepted: 1,
      rejected: [
        { agent_id: busy, error: { code: "OPERATION_IN_PROGRESS", details: { kind: "stop" } } },
        { agent_id: foreign, error: { code: "AGENT_NOT_FOUND" } },
      ],
      results: [{ agent_id: good, status: "in_progress" }],
    });
  });

  it("says so when nobody could", async () => {
    const { status, json } = await post({
      operation: "stop",
      agent_ids: [crypto.randomUUID()],
    });
    expect([status, json.success, json.status, json.accepted]).toEqual([202, false, "failed", 0]);
  });

  it("scales with the words of the single operation", async () => {
    const [id] = await running(1);
    await post({
      operation: "scale",
      agent_ids: [id],
      options: { replicas: 2, scaling_policy: { max_replicas: 4, target_cpu: 60 } },
    });
    const [row] = await test.sql`select replicas, scaling from public.agents where id = ${id!}`;
    expect(row).toEqual({ replicas: 2, scaling: { maxReplicas: 4, targetCPU: 60 } });
  });

  it("updates with the body of the single operation, and keeps no secret of it", async () => {
    const ids = await running(2);
    const made = await post({
      operation: "update",
      agent_ids: ids,
      options: { changes: { agentName: "renamed", environment: { TOKEN: "secret-of-batch" } } },
    });
    expect(made.json.accepted, made.text).toBe(2);
    const rows = await test.sql`
      select to_jsonb(a) as row from public.agents a where a.user_id = ${owner.userId}
      union all select to_jsonb(b) from public.batches b
      union all select to_jsonb(o) from public.operations o`;
    expect(rows.filter(({ row }) => row.name === "renamed")).toHaveLength(2);
    expect(JSON.stringify(rows) + made.text).not.toContain("secret-of-batch");
  });

  it("does its work once under an Idempotency-Key", async () => {
    const ids = await running(2);
    const body = { operation: "restart", agent_ids: ids };
    const headers = { "Idempotency-Key": "restart-both" };
    const first = await post(body, { headers });
    const second = await post(body, { headers });
    expect(second.headers.get("idempotency-replayed")).toBe("true");
    expect(second.json).toEqual(first.json);
    const [row] = await test.sql`
      select count(*)::int as batches from public.batches where user_id = ${owner.userId}`;
    expect(row!.batches).toBe(1);
    const other = await post({ ...body, operation: "stop" }, { headers });
    expect([other.status, other.json.error.code]).toEqual([422, "IDEMPOTENCY_KEY_REUSED"]);
  });

  const id = "11111111-1111-4111-8111-111111111111";
  it.each<[string, unknown, string[]]>([
    ["nothing", {}, ["agent_ids", "operation"]],
    ["what it does not know", { operation: "explode", agent_ids: [id], force: true }, [
      "force",
      "operation",
    ]],
    ["an id that is none", { operation: "stop", agent_ids: ["x"] }, ["agent_ids.0"]],
    ["an agent twice", { operation: "stop", agent_ids: [id, id.toUpperCase()] }, ["agent_ids"]],
    ["more than 100", {
      operation: "stop",
      agent_ids: Array.from({ length: 101 }, () => crypto.randomUUID()),
    }, ["agent_ids"]],
    ["options of another operation", {
      operation: "stop",
      agent_ids: [id],
      options: { replicas: 2, changes: { agentName: "x" } },
    }, ["options.changes", "options.replicas"]],
    ["a rollback to no revision", {
      operation: "rollback",
      agent_ids: [id],
      options: { revision: 0 },
    }, ["options.revision"]],
    ["a scaling without replicas", { operation: "scale", agent_ids: [id] }, ["options.replicas"]],
    ["an update without changes", { operation: "update", agent_ids: [id] }, ["options.changes"]],
    ["bad options", {
      operation: "restart",
      agent_ids: [id],
      options: { max_concurrent: 0, restart_policy: "hope" },
    }, ["options.max_concurrent", "options.restart_policy"]],
  ])("refuses %s as a whole", async (_name, body, fields) => {
    const { status, json } = await post(body);
    expect([status, json.error.code]).toEqual([400, "VALIDATION_ERROR"]);
    expect(Object.keys(json.error.details).sort()).toEqual(fields);
  });

  it("needs the right to manage containers", async () => {
    const key = await test.apiKey(owner, { permissions: ["agents:read"] });
    const answer = await post({ operation: "stop", agent_ids: [id] }, { as: key });
    expect(answer.status).toBe(403);
  });
});

describe("GET /api/agents/batch/{id}", () => {
  it("follows the batch to its end", async () => {
    const { json } = await post({
      operation: "restart",
      agent_ids: await running(3),
      options: { max_concurrent: 2 },
    });
    await test.finishOperations();
    expect((await read(json.batch_id)).json).toMatchObject({ succeeded: 2, running: 1 });
    await test.finishOperations();
    const over = await read(json.batch_id);
    expect(batch3.safeParse(over.json).error).toBeUndefined();
    expect(over.json).toMatchObject({ status: "completed", succeeded: 3, running: 0, pending: 0 });
    expect(over.json.completed_at).not.toBeNull();
  });

  it("knows no other user's batch, and none that cannot be", async () => {
    const { json } = await post({ operation: "stop", agent_ids: await running(1) });
    const stranger = await test.user();
    for (const answer of [await read(json.batch_id, stranger), await read("nonsense")]) {
      expect([answer.status, answer.json.error.code]).toEqual([404, "NOT_FOUND"]);
    }
  });
});

describe("DELETE /api/agents/batch/{id}", () => {
  it("cancels what waits and lets go on what runs", async () => {
    const { json } = await post({
      operation: "restart",
      agent_ids: await running(3),
      options: { max_concurrent: 1 },
    });
    const cancelled = await cancel(json.batch_id);
    expect(cancelled.status, cancelled.text).toBe(200);
    expect(batch3.safeParse(cancelled.json).error).toBeUndefined();
    expect(cancelled.json).toMatchObject({ running: 1, pending: 0, cancelled: 2 });
    await test.finishOperations();
    expect((await read(json.batch_id)).json).toMatchObject({ status: "cancelled", succeeded: 1 });
  });

  it("refuses when it is over", async () => {
    const { json } = await post({ operation: "stop", agent_ids: await running(1) });
    await test.finishOperations();
    const answer = await cancel(json.batch_id);
    expect([answer.status, answer.json.error.code]).toEqual([409, "INVALID_STATE"]);
  });

  it("is not a stranger's to cancel", async () => {
    const { json } = await post({ operation: "stop", agent_ids: await running(1) });
    expect((await cancel(json.batch_id, await test.user())).status).toBe(404);
  });
});
