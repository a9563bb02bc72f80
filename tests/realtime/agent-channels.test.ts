import { randomUUID } from "node:crypto";
import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import postgres from "postgres";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type StackAccess, useStack } from "../support/stack.ts";
import { listen, POLL } from "./support/listen.ts";

let stack: StackAccess;
let sql: postgres.Sql;
let owner: { client: SupabaseClient; id: string };
let agentId: string;
const clients: SupabaseClient[] = [];
const config = { private: true, broadcast: { ack: true } };

beforeAll(async () => {
  stack = await useStack();
  sql = postgres(stack.dbUrl, { max: 1, onnotice: () => {} });
  owner = await signUp();
  const { data, error } = await owner.client.from("agents").insert({
    name: `channels-${randomUUID().slice(0, 8)}`,
    supabase_config: {
      project_ref: "your-project-ref",
      real_time: { enabled: true, channels: ["agent_status", "error_logs", "trading_signals"] },
    },
  }).select("id").single();
  if (error) throw error;
  agentId = data.id;
});
afterAll(async () => {
  for (const client of clients) await client.realtime.disconnect();
  await sql.end();
});

async function signUp(): Promise<{ client: SupabaseClient; id: string }> {
  const client = newClient();
  const { data, error } = await client.auth.signUp({
    email: `${randomUUID()}@example.com`,
    password: "correct horse battery staple",
  });
  if (error) throw error;
  return { client, id: data.user!.id };
}

function newClient(accessToken?: () => Promise<string>): SupabaseClient {
  const client = createClient(stack.apiUrl, stack.publishableKey, {
    ...(accessToken ? { accessToken } : { auth: { persistSession: false } }),
  });
  clients.push(client);
  return client;
}

/** One more client of the owner: a client has one channel for each topic. */
async function ownersClient(): Promise<SupabaseClient> {
  const { data: { session } } = await owner.client.auth.getSession();
  return newClient(() => Promise.resolve(session!.access_token));
}

const topic = (channel: string) => `agent:${agentId}:${channel}`;

test("a configured channel carries what the agent does", async () => {
  const heard = await listen(owner.client, { topic: topic("agent_status"), config });
  await owner.client.from("agents").update({ status: "thinking" }).eq("id", agentId);
  await expect.poll(() => heard.broadcasts, POLL).toMatchObject([
    { event: "agent_status_update", payload: { agent_id: agentId, status: "thinking" } },
  ]);
});

test("error lines arrive as they are stored", async () => {
  const heard = await listen(owner.client, { topic: topic("error_logs"), config });
  await sql`
    with written as (
      insert into public.agent_logs (agent_id, user_id, timestamp, level, message)
      values (${agentId}, ${owner.id}, now(), 'ERROR', 'it broke') returning timestamp
    )
    select private.add_log_counts(${agentId}, ${owner.id},
      jsonb_build_array(jsonb_build_object('hour', w.timestamp, 'level', 'ERROR', 'lines', 1)))
    from written w`;
  await expect.poll(() => heard.broadcasts, POLL).toMatchObject([
    { event: "error_log", payload: { message: "it broke", level: "ERROR" } },
  ]);
});

test("a channel of the agent's own carries what is emitted, over PostgREST and over /api", async () => {
  const heard = await listen(owner.client, { topic: topic("trading_signals"), config });
  const { data, error } = await owner.client.rpc("emit_agent_event", {
    agent_id: agentId,
    channel: "trading_signals",
    event: "buy",
    payload: { symbol: "ETH" },
  });
  expect(error).toBeNull();
  const { data: { session } } = await owner.client.auth.getSession();
  const answer = await fetch(`${stack.apiUrl}/api/agents/${agentId}/events`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${session!.access_token}`,
      apikey: stack.publishableKey,
      "content-type": "application/json",
    },
    body: JSON.stringify({ channel: "trading_signals", event: "sell", payload: { symbol: "BTC" } }),
  });
  expect(answer.status).toBe(201);
  await expect.poll(() => heard.broadcasts, POLL).toMatchObject([
    { event: "buy", payload: { symbol: "ETH", id: data.id }, meta: { id: data.id } },
    { event: "sell", payload: { symbol: "BTC" } },
  ]);
});

test("a client of the owner speaks to another on the agent's own channel", async () => {
  const [one, other] = [await ownersClient(), await ownersClient()];
  const here = await listen(one, { topic: topic("trading_signals"), config });
  const there = await listen(other, { topic: topic("trading_signals"), config });
  const message = { type: "broadcast" as const, event: "hold", payload: { symbol: "SOL" } };
  expect(await here.channel.send(message)).toBe("ok");
  await expect.poll(() => there.broadcasts, POLL).toMatchObject([
    { event: "hold", payload: { symbol: "SOL" } },
  ]);
});

test("nobody speaks for the system", async () => {
  const heard = await listen(await ownersClient(), { topic: topic("agent_status"), config });
  const forged = { type: "broadcast" as const, event: "agent_status_update", payload: {} };
  expect(await heard.channel.send(forged, { timeout: 500 })).toBe("timed out");
});

test.each([["a channel that is not configured", "orders"], ["a stranger", "trading_signals"]])(
  "%s is refused at the join",
  async (_, channel) => {
    const client = channel === "orders" ? owner.client : (await signUp()).client;
    const refused = await listen(client, { topic: topic(channel), config, wait: "answered" });
    expect(refused.statuses[0]).toMatchObject({
      status: "CHANNEL_ERROR",
      message: expect.stringContaining("You do not have permissions to read"),
    });
  },
);

test("two clients of the owner see each other in the agent's topic", async () => {
  const names = async (client: SupabaseClient, name: string) => {
    await client.realtime.setAuth();
    const channel = client.channel(`agent:${agentId}`, {
      config: { private: true, presence: { key: name } },
    });
    let joined = "";
    channel.on("presence", { event: "sync" }, () => {}).subscribe((status) => joined = status);
    await expect.poll(() => joined, POLL).toBe("SUBSCRIBED");
    expect(await channel.track({ at: "dashboard" })).toBe("ok");
    return () => Object.keys(channel.presenceState()).sort();
  };
  const [first, second] = [
    await names(await ownersClient(), "laptop"),
    await names(await ownersClient(), "phone"),
  ];
  await expect.poll(first, POLL).toEqual(["laptop", "phone"]);
  await expect.poll(second, POLL).toEqual(["laptop", "phone"]);
});

test("what is announced reaches everybody who is signed in, and nobody else", async () => {
  const here = await listen(await ownersClient(), { topic: "system", config });
  const there = await listen((await signUp()).client, { topic: "system", config });
  const nobody = await listen(newClient(), { topic: "system", config, wait: "answered" });
  expect(nobody.statuses[0]?.status).toBe("CHANNEL_ERROR");
  const forged = { type: "broadcast" as const, event: "forged", payload: {} };
  expect(await here.channel.send(forged, { timeout: 500 })).toBe("timed out");
  await sql`
    select private.write_topic_message(gen_random_uuid(), 'system', 'maintenance', '{"text": "at noon"}')`;
  for (const heard of [here, there]) {
    await expect.poll(() => heard.broadcasts, POLL).toMatchObject([
      { event: "maintenance", payload: { text: "at noon" } },
    ]);
  }
});
