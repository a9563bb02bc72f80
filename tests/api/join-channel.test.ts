import { beforeAll, describe, expect, it } from "vitest";
import { createRealtimeService, type JoinResult } from "../../functions/api/realtime-service.ts";
import { createTestApi, type Persona, type TestApi } from "./support/test-api.ts";

const PATH = "/api/-/realtime/channels";
let test: TestApi;
let owner: Persona;
let agentId: string;
let outcome: JoinResult;
/** The api over a Realtime that answers as the test says. */
let api: (request: Request) => Promise<Response>;

beforeAll(async () => {
  test = await createTestApi();
  owner = await test.user();
  agentId = await test.create(owner, {
    supabase_config: { real_time: { channels: ["trading_signals"] } },
  });
  api = test.build({
    realtime: {
      url: "ws://localhost/realtime/v1/websocket",
      tryJoin: () => Promise.resolve(outcome),
    },
  });
});

async function join(body: unknown, as: Persona = owner, result: JoinResult = "joined") {
  outcome = result;
  return await test.call("POST", PATH, { as, edition: 2, body, api });
}

describe("a topic that can be joined", () => {
  it.each([
    ["a table", () => "realtime:public:agent_metrics", {
      private: false,
      postgres_changes: [{ event: "*", schema: "public", table: "agent_metrics" }],
    }],
    ["a table of one agent", () => `realtime:public:agent_metrics:agent_id=eq.${agentId}`, {
      private: false,
    }],
    [
      "several conditions",
      () => `realtime:public:agent_logs:agent_id=eq.${agentId},level=in.(ERROR,WARN)`,
      { private: false },
    ],
    ["an agent", () => `realtime:agent:${agentId}`, { private: true, postgres_changes: [] }],
    ["a channel of an agent", () => `realtime:agent:${agentId}:trading_signals`, { private: true }],
    ["a user", () => `realtime:user:${owner.userId}`, { private: true }],
  ])("is told how: %s", async (_, topic, config) => {
    const { status, json, text } = await join({ topic: topic() });
    expect(status, text).toBe(201);
    expect(json).toMatchObject({
      topic: topic(),
      websocket_url: "ws://localhost/realtime/v1/websocket",
      join: {
        topic: topic(),
        event: "phx_join",
        payload: { config, access_token: owner.headers.Authorization!.slice(7) },
      },
      expires_at: expect.stringMatching(/Z$/),
    });
  });

  it("is followed for one kind of change only when asked so", async () => {
    const { json } = await join({ topic: "realtime:public:agents", event: "INSERT" });
    expect(json.join.payload.config.postgres_changes[0].event).toBe("INSERT");
  });
});

describe("a topic that cannot be joined", () => {
  it.each([
    ["an unknown table", "realtime:public:nothing", "UNKNOWN_TABLE"],
    ["a table that is not exposed", "realtime:private:rate_limits", "UNKNOWN_TABLE"],
    ["the users", "realtime:auth:users", "UNKNOWN_TABLE"],
    ["a table that is not sent", "realtime:public:models", "NOT_PUBLISHED"],
    ["a filter that is none", "realtime:public:agents:id", "INVALID_FILTER"],
    ["an unknown operator", "realtime:public:agents:name=equals.x", "INVALID_FILTER"],
    ["an unknown column", "realtime:public:agents:colour=eq.red", "UNKNOWN_COLUMN"],
    [
      "a value of the wrong type",
      "realtime:public:agent_metrics:agent_id=eq.agent-123abc",
      "INVALID_VALUE",
    ],
    [
      "a list with a wrong value",
      "realtime:public:agent_metrics:replicas=in.(1,x)",
      "INVALID_VALUE",
    ],
    ["an attempt to end the literal", "realtime:public:agents:id=eq.' or true --", "INVALID_VALUE"],
  ])("is refused with the reason: %s", async (_, topic, reason) => {
    const { status, json } = await join({ topic });
    expect([status, json.error.code]).toEqual([422, "REAL_TIME_SUBSCRIPTION_FAILED"]);
    expect(json.error.details).toMatchObject({ reason });
  });

  it("is refused: an agent of somebody else", async () => {
    const stranger = await test.user();
    const table = await join(
      { topic: `realtime:public:agent_logs:agent_id=eq.${agentId}` },
      stranger,
    );
    expect([table.status, table.json.error.details.reason]).toEqual([422, "AGENT_NOT_FOUND"]);
    for (
      const topic of [
        `agent:${agentId}`,
        `agent:${agentId}:trading_signals`,
        `user:${owner.userId}`,
      ]
    ) {
      const answer = await join({ topic: `realtime:${topic}` }, stranger);
      expect([answer.status, answer.json.error.details.reason]).toEqual([422, "NOT_ALLOWED"]);
    }
  });

  it.each([
    ["no topic", {}],
    ["no topic of Realtime", { topic: "nonsense" }],
    ["an unknown kind of change", { topic: "realtime:public:agents", event: "DROP" }],
    ["an unknown field", { topic: "realtime:public:agents", private: true }],
  ])("is a bad request: %s", async (_, body) => {
    const { status, json } = await join(body);
    expect([status, json.error.code]).toEqual([400, "VALIDATION_ERROR"]);
  });
});

describe("Realtime itself", () => {
  it.each(["refused", "too_many_connections", "unreachable"] as const)(
    "says %s",
    async (result) => {
      const { status, json } = await join({ topic: "realtime:public:agents" }, owner, result);
      expect([status, json.error.code]).toEqual([422, "REAL_TIME_SUBSCRIPTION_FAILED"]);
      expect(json.error.details).toMatchObject({ reason: result.toUpperCase() });
    },
  );

  it("is unreachable where nobody listens", async () => {
    const answer = await test.call("POST", PATH, {
      as: owner,
      edition: 2,
      body: { topic: "realtime:public:agents" },
    });
    expect(answer.json.error.details).toMatchObject({ reason: "UNREACHABLE" });
  });
});

it("wants an access token, not an API key", async () => {
  const key = await test.apiKey(owner);
  const answer = await join({ topic: "realtime:public:agents" }, key);
  expect([answer.status, answer.json.error.details.reason]).toEqual([422, "NO_ACCESS_TOKEN"]);
  const nobody = await test.call("POST", PATH, { body: { topic: "realtime:public:agents" }, api });
  expect(nobody.status).toBe(401);
});

it("keeps no token with the answer to an Idempotency-Key", async () => {
  const send = () =>
    test.call("POST", PATH, {
      as: owner,
      edition: 2,
      body: { topic: "realtime:public:agents" },
      headers: { "Idempotency-Key": "join-once" },
      api,
    });
  const [first, second] = [await send(), await send()];
  expect(second.json).toEqual(first.json);
  const kept = await test.sql`select to_jsonb(k)::text as row from private.idempotency_keys k`;
  expect(JSON.stringify(kept)).not.toContain(owner.headers.Authorization!.slice(7));
});

it("shows the address that clients reach, and never a secret key", () => {
  const { url } = createRealtimeService({
    projectUrl: "http://kong:8000",
    publicUrl: "https://api.example.com",
    apiKey: "sb_secret_x",
    publicKey: null,
  });
  expect(url).toBe("wss://api.example.com/realtime/v1/websocket?vsn=1.0.0");
});
