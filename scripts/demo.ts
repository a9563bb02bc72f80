/**
 * `npm run demo`: the whole life of an agent over the documented API, against the running stack, and
 * once more with the bodies of the two earlier editions. Exits 1 when any answer is not as documented.
 */
import path from "node:path";
import { fileURLToPath } from "node:url";
import { created1, generatedKey1, status1 } from "../shared/contract/responses/edition-1.ts";
import { created2, deleted2, status2, updated2 } from "../shared/contract/responses/edition-2.ts";
import {
  agent3,
  command3,
  created3,
  logLine3,
  logs3,
  metrics3,
  revisions3,
  scaled3,
} from "../shared/contract/responses/edition-3.ts";
import { type Actor, followOperation, signUp, type Stack } from "./demo/actors.ts";
import { tradingBot, tradingBotOfEdition1, tradingBotOfEdition2 } from "./demo/requests.ts";
import { DemoError, documented, expect, heading, say, show, until } from "./demo/stage.ts";

try {
  const stack = await findStack();
  await unifiedEdition(stack);
  await firstEdition(stack);
  await supabaseEdition(stack);
  heading("Every answer was as documented.");
  Deno.exit(0);
} catch (error) {
  if (!(error instanceof DemoError)) throw error;
  console.error(`\n${error.message}`);
  Deno.exit(1);
}

async function findStack(): Promise<Stack> {
  const env = Deno.env.toObject();
  if (env.SUPABASE_URL && env.SUPABASE_PUBLISHABLE_KEY) {
    return {
      apiUrl: env.SUPABASE_URL,
      publishableKey: env.SUPABASE_PUBLISHABLE_KEY,
      portainerUrl: env.PORTAINER_URL,
      portainerApiKey: env.PORTAINER_API_KEY,
    };
  }
  const status = path.join(path.dirname(fileURLToPath(import.meta.url)), "status.ts");
  const { code, stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", status, "-o", "json"],
  }).output();
  if (code !== 0) throw new DemoError("The stack does not run. Start it with npm start.");
  const values = JSON.parse(new TextDecoder().decode(stdout)) as Record<string, string>;
  return {
    apiUrl: values.API_URL!,
    publishableKey: values.PUBLISHABLE_KEY!,
    portainerUrl: values.PORTAINER_URL,
    portainerApiKey: values.PORTAINER_API_KEY,
  };
}

async function unifiedEdition(stack: Stack): Promise<void> {
  heading("Sign up with supabase-js");
  const actor = await signUp(stack, "demo");

  heading("Create an agent (seed 000)");
  const created = documented(
    "the answer",
    created3,
    await actor.api("POST", "/api/agents", { body: tradingBot, edition: 3 }),
  );
  show(created);
  const id = created.agent.id;
  const route = `/api/agents/${id}`;
  await followOperation(actor, id, "deploy");
  const { data: deployment } = await actor.client.from("deployments").select("state").eq(
    "agent_id",
    id,
  ).single();
  expect(deployment?.state === "running", "the deployment is running");

  heading("Containers, health and figures");
  const running = await until("three healthy containers with measured memory", async () => {
    const { data } = await actor.client.rpc("agent_snapshot", { agent_id: id });
    return data?.deployment?.containers?.length === 3 && data.deployment.replicas_ready === 3 &&
      data.metrics?.memory_usage > 0 && data.deployment.health.status === "healthy";
  }).then(() => actor.api("GET", route, { edition: 3 }));
  const { agent } = documented("the answer", agent3, running);
  show(agent, 60);

  heading("Logs, as they are written");
  await followLogs(actor, route);
  const logs = documented(
    "the last lines",
    logs3,
    await actor.api("GET", `${route}/logs?lines=5`, { edition: 3 }),
  );
  expect(logs.logs.length > 0, `${logs.pagination.total_lines} lines are kept`);

  heading("Metrics");
  const metrics = documented(
    "the answer",
    metrics3,
    await actor.api("GET", `${route}/metrics?timeframe=1h&interval=1m`, { edition: 3 }),
  );
  show(metrics);

  heading("Scale to 5");
  show(documented(
    "the answer",
    scaled3,
    await actor.api("POST", `${route}/scale`, {
      body: { replicas: 5, strategy: "rolling" },
      edition: 3,
    }),
  ));
  await followOperation(actor, id, "scale");
  await containersReady(actor, id, 5);

  heading("Kill the process of one container");
  await killOne(stack, actor, id);

  heading("Restart, rolling");
  documented(
    "the answer",
    command3,
    await actor.api("POST", `${route}/restart`, {
      body: { restart_policy: "rolling", max_unavailable: 1 },
      edition: 3,
    }),
  );
  await followOperation(actor, id, "restart");

  heading("An update that cannot come up, which is taken back by itself");
  documented(
    "the answer",
    updated2,
    await actor.api("PUT", route, { body: { environment: { CRASH_AFTER: "0.5" } }, edition: 2 }),
  );
  await until("it goes back", async () => {
    const { data } = await actor.client.from("operations").select("kind").eq("agent_id", id)
      .order("created_at", { ascending: false }).limit(1);
    return data?.[0]?.kind === "rollback";
  });
  await followOperation(actor, id, "rollback");
  const history = documented(
    "the revisions",
    revisions3,
    await actor.api("GET", `${route}/revisions`, { edition: 3 }),
  );
  show(history.revisions.map(({ revision, status, running, restored_from, error }) => ({
    revision,
    status,
    running,
    restored_from,
    error: error?.message ?? null,
  })));
  await containersReady(actor, id, 5);

  heading("Stop, and start again");
  documented("the answer", command3, await actor.api("POST", `${route}/stop`, { edition: 3 }));
  await followOperation(actor, id, "stop");
  documented("the answer", command3, await actor.api("POST", `${route}/start`, { edition: 3 }));
  await followOperation(actor, id, "start");
  await containersReady(actor, id, 5);

  heading("Delete");
  await removeAgent(actor, id);
}

async function firstEdition(stack: Stack): Promise<void> {
  heading("The same with an API key (seed 001)");
  const actor = await signUp(stack, "demo-key");
  const key = documented(
    "the key",
    generatedKey1,
    await actor.api("POST", "/api/auth/generate-key", {
      body: { username: actor.email.split("@")[0], email: actor.email, role: "USER" },
      edition: 1,
    }),
  );
  const apiKey = key.apiKey;
  const created = documented(
    "the answer",
    created1,
    await actor.api("POST", "/api/agents", { body: tradingBotOfEdition1, edition: 1, apiKey }),
  );
  show(created);
  await followOperation(actor, created.agentId, "deploy");
  await containersReady(actor, created.agentId, 1);
  show(documented(
    "the status",
    status1,
    await actor.api("GET", `/api/agents/${created.agentId}/status`, { edition: 1, apiKey }),
  ));
  await removeAgent(actor, created.agentId);
}

async function supabaseEdition(stack: Stack): Promise<void> {
  heading("The same with the Supabase edition (seed 002)");
  const actor = await signUp(stack, "demo-supabase");
  const created = documented(
    "the answer",
    created2,
    await actor.api("POST", "/api/agents", { body: tradingBotOfEdition2, edition: 2 }),
  );
  show(created);
  await followOperation(actor, created.agentId, "deploy");
  await containersReady(actor, created.agentId, 1);
  show(documented(
    "the status",
    status2,
    await actor.api("GET", `/api/agents/${created.agentId}/status`, { edition: 2 }),
  ));
  await removeAgent(actor, created.agentId);
}

async function removeAgent(actor: Actor, id: string): Promise<void> {
  const answer = await actor.api("DELETE", `/api/agents/${id}`, { edition: 2 });
  show(documented("the answer", deleted2, answer));
  await followOperation(actor, id, "delete");
  const { data } = await actor.client.from("agents").select("id").eq("id", id);
  expect(data?.length === 0, "the agent is gone");
}

interface Container {
  id: string;
  name: string;
  status: string;
  restart_count: number;
}

/** Waits for as many as were asked for, or as its scaling policy has decided on since. */
async function containersReady(actor: Actor, id: string, replicas: number): Promise<Container[]> {
  const containers = await until(`${replicas} containers ready`, async () => {
    const { data: decision } = await actor.client.from("agent_events").select("message")
      .eq("agent_id", id).eq("event_type", "AUTOSCALED").limit(1);
    const { data } = await actor.client.from("deployments")
      .select("replicas_desired, replicas_ready, containers").eq("agent_id", id).single();
    const wanted = decision?.length ? data?.replicas_desired : replicas;
    const running = (data?.containers as Container[] | undefined)
      ?.filter((one) => one.status === "running");
    return data?.replicas_ready === wanted && running?.length === wanted && running;
  });
  const names = containers.map((one) => one.name).join(", ");
  expect(true, `${containers.length} containers are ready: ${names}`);
  return containers;
}

async function followLogs(actor: Actor, route: string): Promise<void> {
  const response = await actor.open(`${route}/logs?follow=true&lines=1`, {
    "API-Version": "3",
    Accept: "application/x-ndjson",
  });
  if (!response.ok || !response.body) {
    throw new DemoError(`Following the logs → ${response.status} ${await response.text()}`);
  }
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const end = setTimeout(() => reader.cancel(), 30_000);
  let text = "";
  let seen = 0;
  while (seen < 5) {
    const { value, done } = await reader.read();
    if (done) break;
    text += value;
    const lines = text.split("\n");
    text = lines.pop() ?? "";
    for (const line of lines.filter((one) => one.trim())) {
      const parsed = logLine3.safeParse(JSON.parse(line));
      if (!parsed.success) continue;
      seen += 1;
      say(`${parsed.data.timestamp} ${parsed.data.level} ${parsed.data.message}`);
    }
  }
  clearTimeout(end);
  await reader.cancel().catch(() => {});
  expect(seen >= 5, "lines arrive while they are written");
}

async function killOne(stack: Stack, actor: Actor, id: string): Promise<void> {
  if (!stack.portainerUrl || !stack.portainerApiKey) {
    return say("left out: PORTAINER_URL and PORTAINER_API_KEY are not known here");
  }
  const [victim] = await containersReady(actor, id, 5);
  const endpoint = Deno.env.get("PORTAINER_ENDPOINT_ID") ?? "1";
  const response = await fetch(
    `${stack.portainerUrl}/api/endpoints/${endpoint}/docker/containers/${victim!.id}/json`,
    { headers: { "X-API-KEY": stack.portainerApiKey } },
  );
  const { State } = await response.json() as { State: { Pid: number } };
  try {
    Deno.kill(State.Pid, "SIGKILL");
  } catch {
    return say(`left out: process ${State.Pid} is on another machine, or not ours`);
  }
  say(`kill -9 ${State.Pid} (${victim!.name})`);
  const since = new Date(Date.now() - 1000).toISOString();
  const events = await until("the death is noticed and made good", async () => {
    const { data } = await actor.client.from("container_events").select(
      "event, container_name, timestamp",
    )
      .eq("agent_id", id).gte("timestamp", since).order("timestamp");
    const words = data?.map((one) => one.event) ?? [];
    return words.includes("start") &&
      (words.includes("die") || words.includes("restart") || words.includes("destroy")) && data;
  });
  for (const event of events) {
    say(`${event.timestamp} ${event.event} ${event.container_name}`);
  }
  await containersReady(actor, id, 5);
}
