import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { error3 } from "../../shared/contract/responses/edition-3.ts";
import {
  stack3,
  stackCreated3,
  stackDeleted3,
  stacks3,
  stackUpdated3,
} from "../../shared/contract/responses/stacks-3.ts";
import { stackBody3 as body } from "./support/bodies.ts";
import { createTestApi, type Persona, type TestApi } from "./support/test-api.ts";

let api: TestApi;
let owner: Persona;
beforeAll(async () => {
  api = await createTestApi();
});
beforeEach(async () => {
  await api.sql`delete from private.operation_queue`;
  owner = await api.user();
});

const call = (method: string, path: string, sent?: unknown, as = owner) =>
  api.call(method, path, { as, edition: 3, ...(sent === undefined ? {} : { body: sent }) });

/** What the worker does: the database functions, and what it would have seen of a Swarm. */
async function carryOut(ran = 5): Promise<void> {
  const claimed = await api.sql`
    select operation, lease_token from private.claim_operations('test', interval '1 minute', 1)`;
  const { operation, lease_token: token } = claimed[0]!;
  const [row] = await api
    .sql`select stack_name from public.stacks where id = ${operation.stack_id}`;
  const name = row?.stack_name;
  await api.sql`select private.record_placement(${operation.id}, ${token}, '{"stack_id": "123"}')`;
  await api.sql`select private.observe_stack(${operation.stack_id}, ${
    api.sql.json({
      services: [{
        id: "s1",
        name: `${name}_eliza-agent`,
        image: "elizaos/eliza:latest",
        replicas: { running: ran, desired: 5 },
        ports: [{ published: 30001, target: 3000, protocol: "tcp" }],
      }],
      networks: [{ name: `${name}_agent-network`, driver: "overlay", encrypted: true }],
      volumes: [{ name: `${name}_agent-data`, driver: "local" }],
    })
  })`;
  await api.sql`select private.complete_operation(${operation.id}, ${token}, '{}')`;
}

async function running(name = body.name): Promise<string> {
  const made = await call("POST", "/api/stacks", { ...body, name });
  expect(made.status, made.text).toBe(201);
  await carryOut();
  return made.json.stack.id;
}

describe("POST /api/stacks", () => {
  it("answers at once with the stack and what is being done, wakes the worker, shows no value", async () => {
    const kicks = api.kicks();
    const { status, json, headers, text } = await call("POST", "/api/stacks", body);
    expect(status).toBe(201);
    const { stack, deployment } = stackCreated3.parse(json);
    expect(stack).toMatchObject({
      name: "support-agents",
      status: "deploying",
      labels: body.labels,
    });
    expect(stack.environment.map(({ name }) => name)).toEqual([
      "AGENT_NAME",
      "DISCORD_TOKEN",
      "REPLICAS",
    ]);
    expect(deployment.status).toBe("initiating");
    expect(headers.get("location")).toBe(`/api/stacks/${stack.id}`);
    expect(api.kicks()).toBe(kicks + 1);
    expect(text + JSON.stringify(api.logged)).not.toContain("secret-discord-token");
  });

  it("names every bad field at once", async () => {
    const { status, json } = await call("POST", "/api/stacks", {
      name: "Not A Slug",
      environment: [{ name: "1X", value: "a" }, { name: "OK" }],
      enviroment: [],
    });
    expect(status).toBe(400);
    expect(Object.keys(error3.parse(json).error.details).sort()).toEqual([
      "enviroment",
      "environment.0.name",
      "environment.1.value",
      "name",
      "template",
    ]);
  });

  it("refuses a variable that is given twice", async () => {
    const twice = [...body.environment, { name: "REPLICAS", value: "1" }];
    const { json } = await call("POST", "/api/stacks", { ...body, environment: twice });
    expect(error3.parse(json).error.details).toEqual({ "environment.REPLICAS": "is given twice" });
  });

  it("replays its answer for one Idempotency-Key", async () => {
    const headers = { "Idempotency-Key": crypto.randomUUID() };
    const once = () => api.call("POST", "/api/stacks", { as: owner, edition: 3, headers, body });
    const [first, second] = [await once(), await once()];
    expect(second.json).toEqual(first.json);
    expect(await api.sql`select 1 from public.stacks where user_id = ${owner.userId}`)
      .toHaveLength(1);
  });
});

describe("GET /api/stacks", () => {
  it("shows what runs as seed 000 does", async () => {
    const id = await running("alone-of-its-name");
    const { status, json } = await call("GET", `/api/stacks/${id}`);
    expect(status).toBe(200);
    expect(stack3.parse(json).stack).toMatchObject({
      id,
      status: "active",
      portainer_stack_id: "123",
      services: [{
        name: "eliza-agent",
        replicas: { running: 5, desired: 5 },
        image: "elizaos/eliza:latest",
        ports: [3000],
        status: "running",
      }],
      networks: [{ name: "alone-of-its-name_agent-network", driver: "overlay", encrypted: true }],
      volumes: [{ name: "alone-of-its-name_agent-data", driver: "local" }],
    });
  });

  it.each([
    ["running", 5, "running"],
    ["running", 2, "degraded"],
    ["running", 0, "failed"],
    ["deploying", 0, "pending"],
  ])("a service of a %s stack of which %i run is %s", async (state, ran, status) => {
    const made = await call("POST", "/api/stacks", { ...body, name: `of-${state}-${ran}` });
    await carryOut(ran);
    await api.sql`update public.stacks set state = ${state} where id = ${made.json.stack.id}`;
    const { json } = await call("GET", `/api/stacks/${made.json.stack.id}`);
    expect(stack3.parse(json).stack.services).toMatchObject([{ status }]);
  });

  it("lists the caller's own, by status and page", async () => {
    const id = await running();
    const other = await api.user();
    const waiting = await call("POST", "/api/stacks", { ...body, name: "second" });
    const all = stacks3.parse((await call("GET", "/api/stacks?limit=1")).json);
    expect(all.pagination).toEqual({ total: 2, limit: 1, offset: 0, has_more: true });
    expect(all.stacks[0]!.id).toBe(waiting.json.stack.id);
    const active = stacks3.parse((await call("GET", "/api/stacks?status=active")).json);
    expect(active.stacks.map((stack) => stack.id)).toEqual([id]);
    expect((await call("GET", "/api/stacks", undefined, other)).json.stacks).toEqual([]);
    expect((await call("GET", "/api/stacks?status=asleep")).status).toBe(400);
  });

  it.each(["123", "00000000-0000-4000-8000-000000000000"])("knows no stack %s", async (id) => {
    const { status, json } = await call("GET", `/api/stacks/${id}`);
    expect(status).toBe(404);
    expect(error3.parse(json).error).toMatchObject({
      code: "NOT_FOUND",
      details: { stack_id: id },
    });
  });

  it("hides another user's", async () => {
    const id = await running();
    const other = await api.user();
    for (const method of ["GET", "DELETE"]) {
      expect((await call(method, `/api/stacks/${id}`, undefined, other)).status).toBe(404);
    }
    expect((await call("PUT", `/api/stacks/${id}`, { labels: {} }, other)).status).toBe(404);
  });
});

describe("PUT /api/stacks/{id}", () => {
  it("says what it changes", async () => {
    const id = await running();
    const { status, json } = await call("PUT", `/api/stacks/${id}`, {
      environment: [{ name: "REPLICAS", value: "2" }, { name: "DISCORD_TOKEN", value: null }],
    });
    expect(status).toBe(202);
    const { changes, stack, update } = stackUpdated3.parse(json);
    expect(changes).toMatchObject({
      services: { changed: [{ name: "eliza-agent", replicas: { from: 5, to: 2 } }] },
      environment: { removed: ["DISCORD_TOKEN"], changed: ["REPLICAS"] },
    });
    expect(stack.status).toBe("updating");
    expect(update?.steps.map(({ name }) => name)).toContain("update_services");
  });

  it("queues nothing when nothing differs", async () => {
    const id = await running();
    const { json } = await call("PUT", `/api/stacks/${id}`, { labels: body.labels });
    expect(stackUpdated3.parse(json)).toMatchObject({
      operation_id: null,
      update: null,
      stack: { status: "active" },
    });
  });

  it("is refused while the stack is under way", async () => {
    const made = await call("POST", "/api/stacks", body);
    const { status, json } = await call("PUT", `/api/stacks/${made.json.stack.id}`, { labels: {} });
    expect(status).toBe(409);
    expect(error3.parse(json).error).toMatchObject({
      code: "OPERATION_IN_PROGRESS",
      details: { operation_id: made.json.operation_id },
    });
  });
});

it("DELETE /api/stacks/{id} answers at once; when it is carried out the stack is gone", async () => {
  const id = await running();
  const { status, json } = await call("DELETE", `/api/stacks/${id}`);
  expect(status).toBe(202);
  expect(stackDeleted3.parse(json).stack.status).toBe("deleting");
  await carryOut();
  expect((await call("GET", `/api/stacks/${id}`)).status).toBe(404);
});
