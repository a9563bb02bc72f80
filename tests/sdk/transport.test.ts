/** How the client asks, repeats, fails and follows, against a server that answers as it is told. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { createRouter } from "../../shared/http/router.ts";
import { type EndpointName, ENDPOINTS } from "../../shared/contract/endpoints.ts";
import { AgentLaunchpadClient, AgentLaunchpadError } from "../../shared/sdk/client.ts";
import { type Answer, type ScriptedServer, startScriptedServer } from "./scripted-server.ts";

let server: ScriptedServer;
let baseUrl: string;

beforeAll(async () => {
  server = await startScriptedServer();
  baseUrl = server.url;
});
afterAll(() => server.close());
beforeEach(() => server.forget());

const client = (options: { retries?: number; timeoutMs?: number; edition?: 1 | 2 | 3 } = {}) =>
  new AgentLaunchpadClient({ apiKey: "alk_test", baseUrl, ...options });
const failure = (code: string, status: number, retryAfter?: string): Answer => ({
  status,
  headers: {
    "X-Request-Id": "request-1",
    ...(retryAfter !== undefined && { "Retry-After": retryAfter }),
  },
  body: { error: { code, message: "It failed", details: { field: "is wrong" } } },
});
const errorOf = (work: Promise<unknown>): Promise<AgentLaunchpadError> =>
  work.then(() => {
    throw new Error("It succeeded");
  }, (error) => error);

describe("a request", () => {
  it("says who asks, in which edition and for what", async () => {
    await client().agents.list({ limit: 5, status: "running" });
    expect(server.asked[0]).toMatchObject({
      method: "GET",
      url: "/api/agents?limit=5&status=running",
    });
    expect(server.asked[0]!.headers).toMatchObject({ "x-api-key": "alk_test", "api-version": "1" });
  });

  it("speaks the newest edition that knows the route when the client's does not", async () => {
    await client().agents.stop("an/id");
    await client({ edition: 3 }).agents.getStatus("id");
    expect(server.asked.map(({ url, headers }) => [url, headers["api-version"]])).toEqual([
      ["/api/agents/an%2Fid/stop", "3"],
      ["/api/agents/id/status", "2"],
    ]);
  });

  it("carries the body and a key of its own", async () => {
    await client().agents.scale("id", { replicas: 2 });
    await client().agents.scale("id", { replicas: 2 }, { idempotencyKey: "mine" });
    expect(server.asked[0]!.body).toBe('{"replicas":2}');
    expect(server.asked[0]!.headers["idempotency-key"]).toMatch(/^[0-9a-f-]{36}$/);
    expect(server.asked[1]!.headers["idempotency-key"]).toBe("mine");
  });
});

describe("an error", () => {
  it("tells all that the answer says", async () => {
    server.answers = [failure("VALIDATION_ERROR", 400)];
    const error = await errorOf(client().agents.list());
    expect(error).toBeInstanceOf(AgentLaunchpadError);
    expect(error).toMatchObject({
      code: "VALIDATION_ERROR",
      status: 400,
      message: "It failed",
      details: { field: "is wrong" },
      requestId: "request-1",
      retryAfter: null,
    });
  });

  it("of a proxy in between is told apart", async () => {
    server.answers = [{ status: 403, body: "Forbidden" }];
    expect(await errorOf(client().agents.list()))
      .toMatchObject({ code: "UNEXPECTED_ANSWER", status: 403 });
  });

  it("comes when the signal ends the request", async () => {
    const stop = new AbortController();
    const work = errorOf(client().agents.list({}, { signal: stop.signal }));
    stop.abort();
    expect(await work).toMatchObject({ code: "ABORTED", status: 0 });
  });
});

describe("what is repeated", () => {
  it("a read that got no answer, and one that the API could not serve", async () => {
    server.answers = [null, failure("SUPABASE_CONNECTION_ERROR", 503, "0")];
    await client().agents.list();
    expect(server.asked).toHaveLength(3);
  });

  it("a creation, under the same key", async () => {
    server.answers = [null, failure("IDEMPOTENCY_KEY_IN_FLIGHT", 409, "0")];
    await client().agents.create({ agentName: "a" });
    expect(new Set(server.asked.map(({ headers }) => headers["idempotency-key"])).size).toBe(1);
    expect(server.asked).toHaveLength(3);
  });

  it("whatever a limit refused, when the wait is short", async () => {
    server.answers = [failure("RATE_LIMIT_EXCEEDED", 429, "0")];
    await client().agents.delete("id");
    expect(server.asked).toHaveLength(2);
  });

  it("no more often than asked for", async () => {
    server.answers = [null, null, null, null];
    const error = await errorOf(client({ retries: 1 }).agents.list());
    expect(error).toMatchObject({ code: "NETWORK_ERROR", status: 0 });
    expect(server.asked).toHaveLength(2);
  });
});

it.each<[string, Answer | null, (its: ReturnType<typeof client>) => Promise<unknown>]>([
  ["a deletion that got no answer", null, (its) => its.agents.delete("id")],
  ["a change that got no answer", null, (its) => its.agents.update("id", { description: "a" })],
  ["a long wait", failure("RATE_LIMIT_EXCEEDED", 429, "600"), (its) => its.agents.list()],
  ["a full quota", failure("RESOURCE_LIMIT_EXCEEDED", 429), (its) => its.agents.list()],
  ["a fault of the API", failure("INTERNAL_ERROR", 500), (its) => its.agents.list()],
  ["a conflict", failure("OPERATION_IN_PROGRESS", 409), (its) => its.agents.stop("id")],
])("%s is not repeated", async (_name, answer, work) => {
  server.answers = [answer];
  await errorOf(work(client()));
  expect(server.asked).toHaveLength(1);
});

it("has a method for each endpoint", async () => {
  const { agents, batches, stacks, users, system, joinChannel } = client();
  const newest = client({ edition: 3 });
  const body = {} as never;
  const calls: (() => Promise<unknown>)[] = [
    ...Object.entries(agents)
      .filter(([name]) => !/^(followLogs|streamMetrics|watchDeployment)$/.test(name))
      .map(([, call]) => () => (call as (...given: unknown[]) => Promise<unknown>)("id", body)),
    ...[batches, stacks, users, system].flatMap((part) => Object.values(part))
      .map((call) => () => (call as (...given: unknown[]) => Promise<unknown>)(body, body)),
    () => joinChannel.call(client(), body),
    () => newest.system.getMetrics(),
  ];
  for (const call of calls) await call();
  const lookup = createRouter(
    Object.entries(ENDPOINTS).map(([name, endpoint]) => ({ name, ...endpoint })),
  );
  const reached = server.asked.map(({ method, url }) =>
    lookup(method, new URL(url, baseUrl).pathname).found?.route.name
  );
  expect([...new Set(reached)].sort()).toEqual((Object.keys(ENDPOINTS) as EndpointName[]).sort());
});

describe("a deployment that is watched without Realtime", () => {
  const id = crypto.randomUUID();
  const state = (
    status: string,
    progress: number,
    further: Record<string, unknown> = {},
  ): Answer => ({
    status: 200,
    body: {
      agent: {
        operation: {
          operation_id: "operation-1",
          kind: "deploy",
          status,
          progress,
          steps: [],
          error: null,
          ...further,
        },
      },
    },
  });
  const watch = () => client({ retries: 0 }).agents.watchDeployment(id, { intervalMs: 5 });

  it("tells each step once and then that it is complete", async () => {
    server.answers = [
      state("initiating", 0),
      state("in_progress", 40),
      failure("SUPABASE_CONNECTION_ERROR", 503),
      state("in_progress", 40),
      state("completed", 100),
    ];
    const told: unknown[] = [];
    const watched = await watch();
    watched.on("progress", ({ percentage }) => told.push(percentage));
    watched.on("complete", ({ operationId }) => told.push(operationId));
    expect(await watched.finished).toMatchObject({ kind: "deploy", percentage: 100 });
    expect(told).toEqual([0, 40, 100, "operation-1"]);
  });

  it("that is over already is told to who asks then", async () => {
    server.answers = [state("completed", 100)];
    const watched = await watch();
    await expect(watched.finished).resolves.toMatchObject({ status: "completed" });
    const percentage = await new Promise((resolve) =>
      watched.on("progress", (progress) => resolve(progress.percentage))
    );
    expect(percentage).toBe(100);
    await new Promise((resolve) => watched.on("complete", resolve));
  });

  it("fails with the operation's own error", async () => {
    const error = { code: "DEPLOYMENT_FAILED", message: "No image", details: { image: "a" } };
    server.answers = [state("in_progress", 40), state("failed", 40, { error })];
    const watched = await watch();
    const told = new Promise((resolve) => watched.on("error", resolve));
    await expect(watched.finished).rejects.toMatchObject({ ...error, status: 500 });
    expect(await told).toBeInstanceOf(AgentLaunchpadError);
  });

  it("ends when the agent is gone, and when it is closed", async () => {
    server.answers = [state("in_progress", 40), failure("AGENT_NOT_FOUND", 404)];
    await expect((await watch()).finished).rejects.toMatchObject({ code: "AGENT_NOT_FOUND" });
    server.answers = [state("in_progress", 40)];
    const watched = await watch();
    watched.close();
    await expect(watched.finished).rejects.toMatchObject({ code: "CLOSED" });
  });

  it("is refused for an agent that there is not, or that was never deployed", async () => {
    server.answers = [failure("AGENT_NOT_FOUND", 404)];
    await expect(watch()).rejects.toMatchObject({ code: "AGENT_NOT_FOUND" });
    server.answers = [{ status: 200, body: { agent: { operation: null } } }];
    await expect(watch()).rejects.toMatchObject({ code: "INVALID_STATE", status: 409 });
  });
});

describe("metrics that are streamed without Realtime", () => {
  const figures = (cpu_usage: number | null): Answer => ({
    status: 200,
    body: {
      agent: { metrics: { cpu_usage, memory_usage: cpu_usage === null ? null : 768, uptime: 1 } },
    },
  });

  it("come each once, as soon as there are any, until the stream is closed", async () => {
    server.answers = [figures(null), figures(1), figures(1), figures(2)];
    const stream = client().agents.streamMetrics("id", { intervalMs: 5 });
    const told: unknown[] = [];
    await new Promise<void>((resolve) => {
      stream.on("end", () => resolve());
      stream.on("data", (data) => {
        told.push(data);
        if (data.cpu_usage === 2) stream.close();
      });
    });
    expect(told).toEqual(
      [1, 2].map((cpu_usage) => ({ agentId: "id", cpu_usage, memory_usage: 768 })),
    );
  });

  it("end with what will not pass", async () => {
    server.answers = [failure("AGENT_NOT_FOUND", 404)];
    const stream = client().agents.streamMetrics("id", { intervalMs: 5 });
    const error = await new Promise((resolve) => stream.on("error", resolve));
    await new Promise((resolve) => stream.on("end", resolve));
    expect(error).toMatchObject({ code: "AGENT_NOT_FOUND" });
  });
});

it("Realtime is refused with an API key", () => {
  expect(() => client().subscribeToAgent("id", () => {})).toThrow(/access tokens, not API keys/);
});
