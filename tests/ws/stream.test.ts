import { randomUUID } from "node:crypto";
import { createClient } from "@supabase/supabase-js";
import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type StackAccess, useStack } from "../support/stack.ts";

let stack: StackAccess;
let sql: postgres.Sql;
const sockets: WebSocket[] = [];
beforeAll(async () => {
  stack = await useStack();
  sql = postgres(stack.dbUrl, { max: 1, onnotice: () => {} });
});
afterAll(async () => {
  for (const socket of sockets) socket.close();
  await sql.end();
});

interface User {
  id: string;
  token: string;
}

async function signUp(): Promise<User> {
  const client = createClient(stack.apiUrl, stack.publishableKey);
  const { data, error } = await client.auth.signUp({
    email: `${randomUUID()}@example.com`,
    password: "correct horse battery staple",
  });
  if (error) throw error;
  return { id: data.user!.id, token: data.session!.access_token };
}

interface Stream {
  // deno-lint-ignore no-explicit-any -- messages of many shapes, looked into by tests
  messages: any[];
  say(message: unknown): void;
  closed: number | null;
}

async function open(query = ""): Promise<Stream> {
  const socket = new WebSocket(`${stack.apiUrl.replace("http", "ws")}/ws${query}`);
  sockets.push(socket);
  const stream: Stream = {
    messages: [],
    say: (message) => socket.send(JSON.stringify(message)),
    closed: null,
  };
  socket.onmessage = ({ data }) => stream.messages.push(JSON.parse(data));
  socket.onclose = ({ code }) => stream.closed = code;
  await new Promise<void>((resolve, reject) => {
    socket.onopen = () => resolve();
    socket.onerror = () => reject(new Error("the WebSocket was refused"));
  });
  return stream;
}

/** A stream that follows `agent_status` as the sample of seed 000 does. */
async function follow(user: User): Promise<Stream> {
  const stream = await open();
  stream.say({ type: "subscribe", channel: "agent_status", token: user.token });
  await expect.poll(() => stream.messages.at(-1)).toEqual({
    type: "subscribed",
    channel: "agent_status",
  });
  stream.messages.length = 0;
  return stream;
}

/** An agent without a deployment: nothing carries it out. */
async function createAgent(user: User): Promise<string> {
  const [row] = await sql`
    insert into public.agents (user_id, name, framework, model)
    values (${user.id}, ${`ws-${randomUUID().slice(0, 8)}`}, 'openai', 'gpt-4') returning id`;
  return row!.id;
}

async function containerEvent(user: User, agentId: string, event: string): Promise<void> {
  await sql`
    insert into public.container_events (agent_id, user_id, event, container_id, container_name)
    values (${agentId}, ${user.id}, ${event}, 'c1', 'agent.1')`;
}

describe("the sample of seed 000", () => {
  test("hears of a status that changed", async () => {
    const user = await signUp();
    const agent = await createAgent(user);
    const stream = await follow(user);
    await sql`update public.agents set status = 'thinking' where id = ${agent}`;
    await expect.poll(() => stream.messages).toMatchObject([{
      type: "agent_status_update",
      payload: { agent_id: agent, status: "thinking" },
      timestamp: expect.any(String),
    }]);
  });

  test("hears the state in the words of REST", async () => {
    const user = await signUp();
    const agent = await createAgent(user);
    const stream = await follow(user);
    await sql`update public.agents set status = 'deployed' where id = ${agent}`;
    await expect.poll(() => stream.messages).toMatchObject([{
      type: "agent_status_update",
      payload: { agent_id: agent, status: "running" },
    }]);
  });

  test("hears that an agent is gone, and of no stranger's", async () => {
    const [user, stranger] = [await signUp(), await signUp()];
    const [mine, theirs] = [await createAgent(user), await createAgent(stranger)];
    const stream = await follow(user);
    await sql`delete from public.agents where id = ${theirs}`;
    await sql`delete from public.agents where id = ${mine}`;
    await expect.poll(() => stream.messages).toMatchObject([{
      type: "agent_status_update",
      payload: { agent_id: mine, status: "deleted" },
    }]);
  });

  test("hears of a container's event", async () => {
    const user = await signUp();
    const agent = await createAgent(user);
    const stream = await follow(user);
    await containerEvent(user, agent, "die");
    await expect.poll(() => stream.messages).toMatchObject([{
      type: "container_event",
      payload: { agent_id: agent, event: "die", container_id: "c1", container_name: "agent.1" },
    }]);
  });

  test("hears of measurements", async () => {
    const user = await signUp();
    const agent = await createAgent(user);
    const stream = await follow(user);
    await sql`
      insert into public.agent_metrics (agent_id, user_id, replicas, cpu_usage, cpu_limit, memory_usage, requests_per_minute)
      values (${agent}, ${user.id}, 1, 0.2, 0.5, 268435456, 12.345)`;
    await expect.poll(() => stream.messages).toMatchObject([{
      type: "metric_update",
      payload: {
        agent_id: agent,
        replicas: 1,
        // In the units of REST: percent of the limit, and megabytes.
        cpu_usage: 40,
        memory_usage: 256,
        requests_per_minute: 12.3,
        timestamp: expect.stringMatching(/Z$/),
      },
    }]);
  });

  test("hears nothing of somebody else's agent", async () => {
    const [alice, bob] = [await signUp(), await signUp()];
    const [hers, his] = [await createAgent(alice), await createAgent(bob)];
    const stream = await follow(bob);
    await containerEvent(alice, hers, "die");
    await sql`update public.agents set status = 'thinking' where id = ${hers}`;
    await containerEvent(bob, his, "start");
    await expect.poll(() => stream.messages.length).toBe(1);
    expect(stream.messages).toMatchObject([{ payload: { agent_id: his, event: "start" } }]);
  });
});

describe("the stream of seed 004", () => {
  test("takes the token of the query, answers pings and names its events", async () => {
    const user = await signUp();
    const agent = await createAgent(user);
    const stream = await open(`?token=${user.token}`);
    stream.say({ type: "ping" });
    stream.say({ type: "subscribe", event: "agent.status" });
    await expect.poll(() => stream.messages.map(({ type }) => type))
      .toEqual(["authenticated", "pong", "subscribed"]);
    await sql`update public.agents set status = 'responding' where id = ${agent}`;
    await expect.poll(() => stream.messages.at(-1)).toMatchObject({
      type: "event",
      event: "agent.status",
      payload: { agent_id: agent, status: "responding" },
    });
  });

  test("refuses a forged token and closes", async () => {
    const { token } = await signUp();
    const stream = await open(`?token=${token.slice(0, -6)}AAAAAA`);
    await expect.poll(() => stream.closed).toBe(4401);
    expect(stream.messages).toMatchObject([{ type: "error", code: "INVALID_JWT_TOKEN" }]);
  });

  test("answers a plain request with what it wants", async () => {
    const answer = await fetch(`${stack.apiUrl}/ws`);
    expect([answer.status, (await answer.json()).error.code]).toEqual([426, "VALIDATION_ERROR"]);
  });
});

describe("a channel of an agent", () => {
  async function agentWith(user: User, channels: string[]): Promise<string> {
    const [row] = await sql`
      insert into public.agents (user_id, name, supabase_config)
      values (${user.id}, 'channels', ${sql.json({ real_time: { channels } })}) returning id`;
    return row!.id;
  }
  const emit = (agentId: string) =>
    sql`select private.write_channel_message(${agentId}, 'trading_signals', 'buy', '{"symbol": "ETH"}')`;

  test("tells what is said on it", async () => {
    const user = await signUp();
    const agentId = await agentWith(user, ["trading_signals"]);
    const stream = await open(`?token=${user.token}`);
    stream.say({ type: "subscribe", channel: "trading_signals", agent_id: agentId });
    await expect.poll(() => stream.messages.at(-1)?.type).toBe("subscribed");
    await emit(agentId);
    await expect.poll(() => stream.messages.at(-1)).toMatchObject({
      type: "channel_event",
      channel: "trading_signals",
      agent_id: agentId,
      event: "buy",
      payload: { symbol: "ETH" },
    });
  });

  test("is refused when it is not open, and to others", async () => {
    const [user, stranger] = [await signUp(), await signUp()];
    const agentId = await agentWith(user, ["trading_signals"]);
    for (const [who, channel] of [[user, "orders"], [stranger, "trading_signals"]] as const) {
      const stream = await open(`?token=${who.token}`);
      stream.say({ type: "subscribe", channel, agent_id: agentId });
      await expect.poll(() => stream.messages.at(-1)?.code).toBe(
        "REAL_TIME_SUBSCRIPTION_FAILED",
      );
    }
  });
});
