import { randomUUID } from "node:crypto";
import { createClient } from "@supabase/supabase-js";
import postgres from "postgres";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type StackAccess, useStack } from "../support/stack.ts";
import { POLL } from "./support/listen.ts";

let stack: StackAccess;
let sql: postgres.Sql;
let token: string;
let userId: string;
let agentId: string;
beforeAll(async () => {
  stack = await useStack();
  sql = postgres(stack.dbUrl, { max: 1, onnotice: () => {} });
  const client = createClient(stack.apiUrl, stack.publishableKey, {
    auth: { persistSession: false },
  });
  const { data, error } = await client.auth.signUp({
    email: `${randomUUID()}@example.com`,
    password: "correct horse battery staple",
  });
  if (error) throw error;
  token = data.session!.access_token;
  userId = data.user!.id;
  const { data: agent } = await client.from("agents").insert({
    name: "joined",
    supabase_config: { real_time: { channels: ["performance_metrics"] } },
  }).select("id").single();
  agentId = agent!.id;
});
afterAll(() => sql.end());

const ask = (topic: string) =>
  fetch(`${stack.apiUrl}/realtime/v1/channels`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${token}`,
      apikey: stack.publishableKey,
      "content-type": "application/json",
    },
    body: JSON.stringify({ topic }),
  });

/** Does what the answer says and nothing else. */
// deno-lint-ignore no-explicit-any -- frames of many shapes
async function follow(answer: any): Promise<{ socket: WebSocket; frames: any[] }> {
  const socket = new WebSocket(answer.websocket_url);
  // deno-lint-ignore no-explicit-any
  const frames: any[] = [];
  socket.onmessage = ({ data }) => frames.push(JSON.parse(String(data)));
  await new Promise((resolve) => socket.onopen = resolve);
  socket.send(JSON.stringify(answer.join));
  await expect.poll(() => frames.find(({ event }) => event === "phx_reply")?.payload.status, POLL)
    .toBe("ok");
  socket.send(JSON.stringify(answer.heartbeat));
  return { socket, frames };
}

const measure = () =>
  sql`insert into public.agent_metrics (agent_id, user_id, replicas, timestamp)
    values (${agentId}, ${userId}, 3, clock_timestamp())`;

test("the answer is all that a raw WebSocket needs to hear of the next measurement", async () => {
  const answer = await ask(`realtime:public:agent_metrics:agent_id=eq.${agentId}`);
  expect(answer.status).toBe(201);
  const { socket, frames } = await follow(await answer.json());
  await expect.poll(() => frames.find(({ event }) => event === "system")?.payload.message, POLL)
    .toBe("Subscribed to PostgreSQL");
  await measure();
  await expect.poll(
    () => frames.find(({ event }) => event === "postgres_changes")?.payload.data.record,
    POLL,
  ).toMatchObject({ agent_id: agentId, replicas: 3 });
  socket.close();
});

test("the same holds for a private channel of the agent", async () => {
  const answer = await ask(`realtime:agent:${agentId}:performance_metrics`);
  expect(answer.status).toBe(201);
  const { socket, frames } = await follow(await answer.json());
  await measure();
  await expect.poll(() => frames.find(({ event }) => event === "broadcast")?.payload, POLL)
    .toMatchObject({ event: "metric_update", payload: { agent_id: agentId, replicas: 3 } });
  socket.close();
});

test("a topic that cannot be joined is refused", async () => {
  const answer = await ask("realtime:public:agent_metrics:agent_id=eq.agent-123abc");
  expect([answer.status, (await answer.json()).error.code]).toEqual([
    422,
    "REAL_TIME_SUBSCRIPTION_FAILED",
  ]);
});
