import { randomUUID } from "node:crypto";
import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type StackAccess, useStack } from "../support/stack.ts";
import { listen, POLL } from "./support/listen.ts";

let stack: StackAccess;
let sql: postgres.Sql;
const clients: SupabaseClient[] = [];
beforeAll(async () => {
  stack = await useStack();
  sql = postgres(stack.dbUrl, { max: 1, onnotice: () => {} });
});
afterAll(async () => {
  for (const client of clients) await client.realtime.disconnect();
  await sql.end();
});

/** A signed-in client, as an application has it. */
async function signUp(key = stack.publishableKey): Promise<{ client: SupabaseClient; id: string }> {
  const client = createClient(stack.apiUrl, key, { auth: { persistSession: false } });
  clients.push(client);
  const { data, error } = await client.auth.signUp({
    email: `${randomUUID()}@example.com`,
    password: "correct horse battery staple",
  });
  if (error) throw error;
  return { client, id: data.user!.id };
}

async function createAgent(userId: string): Promise<string> {
  const [row] = await sql`
    insert into public.agents (user_id, name, framework, model)
    values (${userId}, ${`rt-${randomUUID().slice(0, 8)}`}, 'openai', 'gpt-4') returning id`;
  return row!.id;
}

describe("a signed-in client of the stack", () => {
  test.each(["publishable", "anon"] as const)(
    "with the %s key hears of its agents",
    async (kind) => {
      const { client, id } = await signUp(kind === "anon" ? stack.anonKey : stack.publishableKey);
      const heard = await listen(client, {
        changes: [{ event: "*", schema: "public", table: "agents" }],
      });
      const agent = await createAgent(id);
      await expect.poll(() => heard.changes, POLL).toMatchObject([
        { eventType: "INSERT", new: { id: agent, user_id: id, status: expect.any(String) } },
      ]);
    },
  );

  test("hears nothing of somebody else's agents", async () => {
    const [alice, bob] = [await signUp(), await signUp()];
    const heard = await listen(bob.client, {
      changes: [{ event: "*", schema: "public", table: "agents" }],
    });
    await createAgent(alice.id);
    const own = await createAgent(bob.id);
    await expect.poll(() => heard.changes.map((change) => change.new.id), POLL).toEqual([own]);
  });

  test("hears of measurements, whose partitions are out of its sight", async () => {
    const { client, id } = await signUp();
    const agent = await createAgent(id);
    const heard = await listen(client, {
      changes: [{
        event: "INSERT",
        schema: "public",
        table: "agent_metrics",
        filter: `agent_id=eq.${agent}`,
      }],
    });
    await sql`insert into public.agent_metrics (agent_id, user_id, replicas) values (${agent}, ${id}, 2)`;
    await expect.poll(() => heard.changes, POLL).toMatchObject([
      { schema: "public", table: "agent_metrics", new: { agent_id: agent, replicas: 2 } },
    ]);
  });

  test("hears of its security events by severity", async () => {
    const [alice, bob] = [await signUp(), await signUp()];
    const heard = await listen(alice.client, {
      changes: [{
        event: "INSERT",
        schema: "public",
        table: "security_events",
        filter: "severity=eq.CRITICAL",
      }],
    });
    for (
      const [severity, id] of [["HIGH", alice.id], ["CRITICAL", bob.id], ["CRITICAL", alice.id]]
    ) {
      await sql`select private.write_security_event('AUTH_FAILURE', ${severity!}, ${id!}, 'x')`;
    }
    await expect.poll(() => heard.changes, POLL).toMatchObject([
      { new: { severity: "CRITICAL", user_id: alice.id } },
    ]);
  });

  test("receives on its private topic, and nobody else joins it", async () => {
    const [alice, bob] = [await signUp(), await signUp()];
    const topic = `user:${alice.id}`;
    const config = { private: true };
    const heard = await listen(alice.client, { topic, config });
    const refused = await listen(bob.client, { topic, config, wait: "answered" });
    expect(refused.statuses[0]?.status).toBe("CHANNEL_ERROR");
    const agent = await createAgent(alice.id);
    await expect.poll(() => heard.broadcasts, POLL).toMatchObject([
      { event: "INSERT", payload: { table: "agents", record: { id: agent } } },
    ]);
  });

  test("broadcasts over HTTP through the gateway", async () => {
    const [alice, bob] = [await signUp(), await signUp()];
    const topic = randomUUID();
    const heard = await listen(bob.client, { topic });
    expect(await alice.client.channel(topic).httpSend("e", { n: 1 })).toEqual({ success: true });
    await expect.poll(() => heard.broadcasts, POLL).toMatchObject([{
      event: "e",
      payload: { n: 1 },
    }]);
  });
});

test("a connection without a key of the project is refused", async () => {
  const answer = await fetch(`${stack.apiUrl}/realtime/v1/api/broadcast`, { method: "POST" });
  expect(answer.status).toBe(401);
});
