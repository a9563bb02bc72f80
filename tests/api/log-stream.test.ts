import { beforeAll, describe, expect, it } from "vitest";
import { createTestApi, type Persona, type TestApi } from "./support/test-api.ts";

let test: TestApi;
let owner: Persona;
let agent: string;

beforeAll(async () => {
  test = await createTestApi();
  owner = await test.user();
  agent = await test.running(owner);
  await write("first", "second", "third");
});

async function write(...messages: string[]): Promise<void> {
  for (const message of messages) {
    await test.sql`insert into public.agent_logs (agent_id, user_id, timestamp, level, message)
      values (${agent}, ${owner.userId}, clock_timestamp(), 'INFO', ${message})`;
  }
}

interface Follower {
  response: Response;
  /** Everything received so far. */
  text(): string;
  ended: Promise<void>;
  close(): Promise<void>;
}

async function follow(
  headers: Record<string, string> = {},
  options: { query?: string; as?: Persona; followMs?: number } = {},
): Promise<Follower> {
  const api = test.build({ followMs: options.followMs ?? 20_000 });
  const path = `/api/agents/${agent}/logs?follow=true${options.query ?? ""}`;
  const response = await api(
    new Request(`http://127.0.0.1${path}`, {
      headers: { ...(options.as ?? owner).headers, ...headers },
    }),
  );
  const reader = response.body!.getReader();
  const decoder = new TextDecoder();
  let received = "";
  const ended = (async () => {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      received += decoder.decode(value, { stream: true });
    }
  })();
  return { response, text: () => received, ended, close: () => reader.cancel() };
}

describe("a followed log", () => {
  it("is JSON lines: the last ones, then each as it is written", async () => {
    const follower = await follow({ "API-Version": "3" }, { query: "&lines=2" });
    expect(follower.response.headers.get("content-type")).toBe("application/x-ndjson");
    expect(follower.response.headers.get("x-ratelimit-limit")).not.toBeNull();
    await expect.poll(follower.text).toContain("third");
    expect(follower.text()).not.toContain("first");
    await write("written while following");
    await expect.poll(follower.text).toContain("written while following");
    await follower.close();
    const lines = follower.text().trim().split("\n").map((line) => JSON.parse(line));
    expect(lines[0]).toMatchObject({ level: "info", message: "second" });
  });

  it("is a stream of events for who asks for it, and goes on where it broke off", async () => {
    const events = { Accept: "text/event-stream", "API-Version": "1" };
    const first = await follow(events);
    expect(first.response.headers.get("content-type")).toBe("text/event-stream");
    await expect.poll(first.text).toContain("third");
    await first.close();
    const id = [...first.text().matchAll(/^id: (\d+)$/gm)].at(-1)![1]!;
    await write("while nobody listened");
    const second = await follow({ ...events, "Last-Event-ID": id });
    await expect.poll(second.text).toContain("while nobody listened");
    await second.close();
    expect(second.text()).not.toContain("third");
    expect(second.text()).toMatch(/event: log\ndata: \{"timestamp":"[^"]+Z","level":"INFO"/);
  });

  it("neither loses nor repeats a line when many are written", async () => {
    const follower = await follow({ "API-Version": "3" }, { query: "&lines=1" });
    await expect.poll(follower.text).not.toBe("");
    await test.sql`insert into public.agent_logs (agent_id, user_id, timestamp, level, message)
      select ${agent}, ${owner.userId}, clock_timestamp(), 'INFO', 'bulk ' || n
      from generate_series(1, 2500) n`;
    await expect.poll(follower.text).toContain("bulk 2500");
    await follower.close();
    const bulk = follower.text().trim().split("\n").map((line) => JSON.parse(line).message)
      .filter((message: string) => message.startsWith("bulk"));
    expect(bulk).toEqual(Array.from({ length: 2500 }, (_, index) => `bulk ${index + 1}`));
  });

  it("follows what it was filtered to", async () => {
    const follower = await follow({}, { query: "&level=ERROR" });
    await write("only information");
    await test.sql`insert into public.agent_logs (agent_id, user_id, timestamp, level, message)
      values (${agent}, ${owner.userId}, clock_timestamp(), 'ERROR', 'a fault')`;
    await expect.poll(follower.text).toContain("a fault");
    await follower.close();
    expect(follower.text()).not.toContain("only information");
  });

  it("ends by itself, with a word of farewell", async () => {
    const follower = await follow({ Accept: "text/event-stream" }, { followMs: 300 });
    await follower.ended;
    expect(follower.text()).toContain("event: end\n");
  });

  it("ends when the right to read it does", async () => {
    const key = await test.apiKey(owner, { permissions: ["agents:read", "monitoring:read"] });
    const follower = await follow({ Accept: "text/event-stream" }, { as: key });
    await expect.poll(follower.text).toContain("event: log");
    await test.sql`update public.api_keys set revoked_at = now()
      where id = (select id from public.api_keys order by created_at desc limit 1)`;
    await follower.ended;
    expect(follower.text()).toContain('event: error\ndata: {"error":{"code":"PERMISSION_DENIED"');
  });

  it("stops asking the database when nobody listens any more", async () => {
    const follower = await follow();
    await expect.poll(follower.text).not.toBe("");
    await follower.close();
    await follower.ended;
  });

  it("is an ordinary error when there is no such agent", async () => {
    const path = `/api/agents/${crypto.randomUUID()}/logs?follow=true`;
    const answer = await test.call("GET", path, { as: owner });
    expect([answer.status, answer.json.error.code]).toEqual([404, "AGENT_NOT_FOUND"]);
  });
});
