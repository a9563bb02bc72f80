import { beforeAll, expect, it } from "vitest";
import { emitted3 } from "../../shared/contract/responses/edition-3.ts";
import { createTestApi, type Persona, type TestApi } from "./support/test-api.ts";

let test: TestApi;
let owner: Persona;
let path: string;

beforeAll(async () => {
  test = await createTestApi();
  owner = await test.user();
  const made = await test.call("POST", "/api/agents", {
    as: owner,
    body: {
      agentName: "speaker",
      supabase_config: { real_time: { enabled: true, channels: ["trading_signals"] } },
    },
  });
  path = `/api/agents/${made.json.agent.id}/events`;
});

const body = { channel: "trading_signals", event: "buy", payload: { symbol: "ETH" } };

it("sends an event and says where", async () => {
  const answer = await test.call("POST", path, { as: owner, edition: 3, body });
  expect(answer.status, answer.text).toBe(201);
  expect(emitted3.parse(answer.json).event.topic).toMatch(/^agent:.*:trading_signals$/);
  const [message] = await test.sql`
    select payload from realtime.messages where id = ${answer.json.event.id}`;
  expect(message!.payload).toMatchObject({ symbol: "ETH" });
});

it("sends it once for one Idempotency-Key", async () => {
  const send = () =>
    test.call("POST", path, { as: owner, body, headers: { "Idempotency-Key": "event-once" } });
  const [first, second] = [await send(), await send()];
  expect(second.json.event.id).toBe(first.json.event.id);
});

it.each([
  ["a body without a channel", { event: "e" }, 400, "VALIDATION_ERROR"],
  ["an unknown field", { ...body, topic: "x" }, 400, "VALIDATION_ERROR"],
  ["a payload that is a list", { ...body, payload: [] }, 400, "VALIDATION_ERROR"],
  ["a channel that is not open", { ...body, channel: "orders" }, 404, "NOT_FOUND"],
])("refuses %s", async (_, body, status, code) => {
  const answer = await test.call("POST", path, { as: owner, edition: 3, body });
  expect([answer.status, answer.json.error.code]).toEqual([status, code]);
});

it("knows no agent of somebody else", async () => {
  const answer = await test.call("POST", path, { as: await test.user(), edition: 3, body });
  expect([answer.status, answer.json.error.code]).toEqual([404, "AGENT_NOT_FOUND"]);
});

it("says that real time is inactive when it is switched off", async () => {
  const made = await test.call("POST", "/api/agents", {
    as: owner,
    body: {
      agentName: "silent",
      supabase_config: { real_time: { enabled: false, channels: ["agent_status"] } },
    },
  });
  const { id, supabase } = made.json.agent;
  expect(made.json.supabase_integration.real_time_enabled).toBe(false);
  expect(supabase.real_time_channel).toBe(`agent:${id}`);
  const status = await test.call("GET", `/api/agents/${id}/status`, { as: owner, edition: 2 });
  expect(status.json.health.supabase.real_time_active).toBe(false);
});

it("names the topic of the channel that tells the status", async () => {
  const made = await test.call("POST", "/api/agents", {
    as: owner,
    body: {
      agentName: "status",
      supabase_config: { real_time: { enabled: true, channels: ["signals", "agent_status"] } },
    },
  });
  const { id, supabase } = made.json.agent;
  expect(supabase).toMatchObject({
    real_time_channel: "agent_status",
    real_time_topic: `agent:${id}:agent_status`,
  });
});
