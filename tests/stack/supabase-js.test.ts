/** The way a frontend goes: supabase-js as it comes from npm, against the stack's one address. */
import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import { beforeAll, describe, expect, test } from "vitest";
import { type StackAccess, useStack } from "../support/stack.ts";

let stack: StackAccess;
beforeAll(async () => {
  stack = await useStack();
});

function connect(key: string): SupabaseClient {
  return createClient(stack.apiUrl, key, { auth: { persistSession: false } });
}

async function signUp(): Promise<{ client: SupabaseClient; userId: string }> {
  const client = connect(stack.publishableKey);
  const { data, error } = await client.auth.signUp({
    email: `${crypto.randomUUID()}@example.com`,
    password: "correct horse battery staple",
  });
  expect(error).toBeNull();
  return { client, userId: data.user!.id };
}

describe.each(["publishableKey", "anonKey"] as const)("with the %s", (key) => {
  test("somebody who is not signed in sees no agent and writes none", async () => {
    const client = connect(stack[key]);
    expect((await client.from("agents").select()).data ?? []).toEqual([]);
    const { error } = await client.from("agents").insert({ name: "x", framework: "openai" });
    expect(error?.code).toBe("42501");
  });

  test("a user signs up, out and in again", async () => {
    const client = connect(stack[key]);
    const credentials = {
      email: `${crypto.randomUUID()}@example.com`,
      password: "a long password",
    };
    expect((await client.auth.signUp(credentials)).error).toBeNull();
    expect((await client.auth.signOut()).error).toBeNull();
    const { data, error } = await client.auth.signInWithPassword(credentials);
    expect(error).toBeNull();
    expect(data.session?.access_token.split(".")).toHaveLength(3);
  });
});

test.each(["secretKey", "serviceRoleKey"] as const)(
  "the %s reads what no user may",
  async (key) => {
    const { userId } = await signUp();
    const { data, error } = await connect(stack[key]).auth.admin.getUserById(userId);
    expect(error).toBeNull();
    expect(data.user?.id).toBe(userId);
  },
);

test("an agent that is inserted is read back by its owner and by nobody else", async () => {
  const [owner, stranger] = await Promise.all([signUp(), signUp()]);
  const { data, error } = await owner.client.from("agents")
    .insert({ name: "from supabase-js", framework: "openai", model: "gpt-4o" })
    .select().single();
  expect(error).toBeNull();
  expect(data).toMatchObject({ name: "from supabase-js", user_id: owner.userId });
  expect((await stranger.client.from("agents").select().eq("id", data.id)).data).toEqual([]);
});

test("a change arrives over Realtime at the owner and at nobody else", async () => {
  const [owner, stranger] = await Promise.all([signUp(), signUp()]);
  const seen: Record<string, string[]> = { owner: [], stranger: [] };
  let arrive: () => void;
  const arrived = new Promise<void>((resolve) => arrive = resolve);
  const listen = (who: "owner" | "stranger", client: SupabaseClient) =>
    new Promise<void>((resolve, reject) =>
      client.channel(`agents of ${who}`)
        .on(
          "postgres_changes",
          { event: "INSERT", schema: "public", table: "agents" },
          (change) => {
            seen[who]!.push(change.new.name);
            if (who === "owner" && seen.owner!.includes("last")) arrive();
          },
        )
        .on(
          "system",
          {},
          ({ status, message }) => status === "ok" ? resolve() : reject(new Error(message)),
        )
        .subscribe((status, error) => {
          if (status === "CHANNEL_ERROR" || status === "TIMED_OUT") reject(error ?? status);
        })
    );
  await Promise.all([listen("owner", owner.client), listen("stranger", stranger.client)]);
  for (const name of ["first", "last"]) {
    const { error } = await owner.client.from("agents").insert({ name, framework: "openai" });
    expect(error).toBeNull();
  }
  await arrived;
  expect(seen).toEqual({ owner: ["first", "last"], stranger: [] });
  await Promise.all([owner.client.removeAllChannels(), stranger.client.removeAllChannels()]);
});

test("a function is invoked with the user's session", async () => {
  const { client } = await signUp();
  const { data, error } = await client.functions.invoke("api/agents", { method: "GET" });
  expect(error).toBeNull();
  expect(data).toMatchObject({ agents: [] });
});

test("a function refuses who is not signed in, in its own words", async () => {
  const answer = await fetch(`${stack.apiUrl}/api/agents`);
  expect(answer.status).toBe(401);
  expect((await answer.json()).error.code).toBe("AUTHENTICATION_FAILED");
});

test("health and metrics answer without a key", async () => {
  expect((await fetch(`${stack.apiUrl}/health`)).status).toBe(200);
  expect((await fetch(`${stack.apiUrl}/metrics`)).status).toBe(200);
});
