import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import { beforeAll, expect, it } from "vitest";
import { stack3, stackCreated3, stackUpdated3 } from "../../shared/contract/responses/stacks-3.ts";
import { type StackAccess, useStack } from "../support/stack.ts";

/** The life of a stack as it is deployed: gateway, function, worker and the local Portainer. */

let access: StackAccess;
let user: SupabaseClient;
let headers: Record<string, string>;

beforeAll(async () => {
  access = await useStack();
  user = createClient(access.apiUrl, access.publishableKey, { auth: { persistSession: false } });
  const { data, error } = await user.auth.signUp({
    email: `${crypto.randomUUID()}@example.com`,
    password: "a long password",
  });
  if (error) throw error;
  headers = {
    Authorization: `Bearer ${data.session!.access_token}`,
    apikey: access.publishableKey,
    "API-Version": "3",
    "Content-Type": "application/json",
  };
});

async function call(method: string, path: string, body?: unknown) {
  const response = await fetch(`${access.apiUrl}${path}`, {
    method,
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  return { status: response.status, json: await response.json() };
}

// Over PostgREST, which has no limit of requests a minute.
const rowOf = async (id: string) =>
  (await user.from("stacks").select("state, generation, error, services").eq("id", id)).data?.[0];

// Docker before 25 probes for the first time after a whole interval of 30 s, and a Swarm takes one replica after the other.
const reaches = (id: string, state: string, generation: number) =>
  expect.poll(() => rowOf(id), { interval: 250 })
    .toMatchObject({ state, generation });

it("deploys, scales, goes back from a failed update and is deleted", async () => {
  const name = `life-${crypto.randomUUID().slice(0, 8)}`;
  const made = await call("POST", "/api/stacks", {
    name,
    template: "eliza-agent-template",
    environment: [{ name: "AGENT_NAME", value: "helper" }, { name: "REPLICAS", value: "2" }],
    labels: { team: "support" },
  });
  expect(made.status, JSON.stringify(made.json)).toBe(201);
  const { stack: { id } } = stackCreated3.parse(made.json);
  await reaches(id, "running", 1);

  const { stack } = stack3.parse((await call("GET", `/api/stacks/${id}`)).json);
  expect(stack).toMatchObject({
    status: "active",
    services: [{
      name: "eliza-agent",
      replicas: { running: 2, desired: 2 },
      image: "elizaos/eliza:latest",
      ports: [3000],
      status: "running",
    }],
    networks: [{ name: `${name}_agent-network` }],
    volumes: [{ name: `${name}_agent-data`, driver: "local" }],
  });

  const scaled = await call("PUT", `/api/stacks/${id}`, {
    environment: [{ name: "REPLICAS", value: "3" }],
  });
  expect(stackUpdated3.parse(scaled.json).changes.services.changed).toEqual([
    { name: "eliza-agent", replicas: { from: 2, to: 3 } },
  ]);
  await reaches(id, "running", 2);

  const { error } = await user.from("stack_templates").insert({
    name: "without-image",
    definition: { services: { "eliza-agent": { image: "registry.invalid/nobody/nothing:1" } } },
    parameters: [{ name: "AGENT_NAME" }, { name: "REPLICAS" }],
  });
  expect(error).toBeNull();
  await call("PUT", `/api/stacks/${id}`, { template: "without-image" });
  // Generation 3 is the update, 4 the way back.
  await reaches(id, "running", 4);
  expect(await rowOf(id)).toMatchObject({
    // Whoever went back first, the engine or the worker, what was wrong is told.
    error: { rolled_back: true, message: expect.stringContaining("image does not exist") },
    services: [{ image: "elizaos/eliza:latest", replicas: { running: 3, desired: 3 } }],
  });

  expect((await call("DELETE", `/api/stacks/${id}`)).status).toBe(202);
  await expect.poll(() => rowOf(id), { interval: 250 }).toBeUndefined();
  const stacks = await fetch(`${access.portainerUrl}/api/stacks`, {
    headers: { "X-API-KEY": access.portainerApiKey },
  });
  expect(stacks.status === 204 ? "" : await stacks.text()).not.toContain(name);
});
