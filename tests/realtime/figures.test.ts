import { randomUUID } from "node:crypto";
import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type StackAccess, useStack } from "../support/stack.ts";
import { listen, POLL } from "./support/listen.ts";

let stack: StackAccess;
const clients: SupabaseClient[] = [];
beforeAll(async () => {
  stack = await useStack();
});
afterAll(async () => {
  for (const client of clients) await client.realtime.disconnect();
});

async function signUp(): Promise<{ client: SupabaseClient; token: string }> {
  const client = createClient(stack.apiUrl, stack.publishableKey, {
    auth: { persistSession: false },
  });
  clients.push(client);
  const { data, error } = await client.auth.signUp({
    email: `${randomUUID()}@example.com`,
    password: "correct horse battery staple",
  });
  if (error) throw error;
  return { client, token: data.session!.access_token };
}

const subscriptions = async (client: SupabaseClient) => {
  const { data, error } = await client.rpc("health_check");
  if (error) throw error;
  return data.user_specific.real_time_subscriptions;
};

test("health_check counts what the caller follows now", async () => {
  const { client } = await signUp();
  expect(await subscriptions(client)).toBe(0);
  const heard = await listen(client, {
    changes: [
      { event: "*", schema: "public", table: "agents" },
      { event: "INSERT", schema: "public", table: "agent_logs" },
    ],
  });
  expect(await subscriptions(client)).toBe(2);
  await client.removeChannel(heard.channel);
  await expect.poll(() => subscriptions(client), POLL).toBe(0);
});

test("/api/health tells Realtime's connections and subscriptions as they are", async () => {
  const { client, token } = await signUp();
  await listen(client, { changes: [{ event: "*", schema: "public", table: "agents" }] });
  const realtime = async () => {
    const answer = await fetch(`${stack.apiUrl}/api/health`, {
      headers: {
        authorization: `Bearer ${token}`,
        apikey: stack.publishableKey,
        "API-Version": "2",
      },
    });
    return (await answer.json()).components.supabase.realtime;
  };
  // What was measured is believed for ten seconds.
  await expect.poll(async () => {
    const { status, active_connections, subscriptions } = await realtime();
    return [status, active_connections >= 1, subscriptions >= 1];
  }, { interval: 3_000 }).toEqual(["HEALTHY", true, true]);
});
