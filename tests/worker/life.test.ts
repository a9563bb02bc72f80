/**
 * The whole life of an agent through the public interface, with real containers: on both engines of the local Portainer,
 * or, with SUPABASE_URL, on the default cluster of that project. Its engine is looked at past us by PORTAINER_URL,
 * PORTAINER_API_KEY and PORTAINER_ENDPOINT_ID, or by KUBERNETES_URL, KUBERNETES_TOKEN, KUBERNETES_CA and
 * KUBERNETES_NAMESPACE; LIFE_LACKS says, comma-separated, what simulated nodes cannot show.
 */
import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTlsFetch } from "../../shared/orchestrators/tls.ts";
import { type StackAccess, useStack } from "../support/stack.ts";
import { eventually } from "./support/eventually.ts";
import { PATIENT_CHECK } from "./support/rig.ts";

const { env } = process;
const lacks = new Set((env["LIFE_LACKS"] ?? "").split(","));
const REPLICAS = 2;

interface Engine {
  clusterId: string | null;
  /** The ids of the agent's containers that run. */
  running(agentId: string): Promise<string[]>;
  /** Ends the process of a container, behind everybody's back. */
  kill(containerId: string): Promise<void>;
}

interface Operation {
  id: string;
  kind: string;
  state: string;
  progress: number;
  error: { code: string; details?: Record<string, unknown> } | null;
}

interface Container {
  id: string;
  name: string;
  status: string;
  started_at: string;
}

function dockerEngine(
  { url, apiKey, endpointId }: { url: string; apiKey: string; endpointId: number },
  clusterId: string | null,
): Engine {
  const docker = async (path: string) => {
    const answer = await fetch(`${url}/api/endpoints/${endpointId}/docker${path}`, {
      headers: { "x-api-key": apiKey },
    });
    return await answer.json();
  };
  return {
    clusterId,
    running: async (agentId) => {
      const filters = { label: [`agent-launchpad.agent=${agentId}`], status: ["running"] };
      const path = `/containers/json?filters=${encodeURIComponent(JSON.stringify(filters))}`;
      return (await docker(path) as { Id: string }[]).map(({ Id }) => Id);
    },
    kill: async (id) => {
      const { State } = await docker(`/containers/${id}/json`) as { State: { Pid: number } };
      process.kill(State.Pid, "SIGKILL");
    },
  };
}

function kubernetesEngine(): Engine {
  const send = createTlsFetch(env["KUBERNETES_CA"] ? { ca: env["KUBERNETES_CA"] } : {});
  const pods = `${env["KUBERNETES_URL"]}/api/v1/namespaces/${
    env["KUBERNETES_NAMESPACE"] ?? "default"
  }/pods`;
  const call = async (path: string, init: RequestInit = {}) => {
    const headers = { authorization: `Bearer ${env["KUBERNETES_TOKEN"]}` };
    return await (await send(pods + path, { ...init, headers })).json();
  };
  return {
    clusterId: null,
    running: async (agentId) => {
      const selector = encodeURIComponent(`agent-launchpad.agent=${agentId}`);
      const { items } = await call(`?labelSelector=${selector}`) as {
        items: { metadata: { name: string }; status: { phase?: string } }[];
      };
      return items.filter(({ status }) => status.phase === "Running")
        .map(({ metadata }) => metadata.name);
    },
    kill: async (id) => void await call(`/${id}`, { method: "DELETE" }),
  };
}

const engines: Record<string, (access: StackAccess) => Promise<Engine>> = env["SUPABASE_URL"]
  ? {
    "the default cluster": () =>
      Promise.resolve(
        env["KUBERNETES_URL"] ? kubernetesEngine() : dockerEngine({
          url: env["PORTAINER_URL"] ?? "",
          apiKey: env["PORTAINER_API_KEY"] ?? "",
          endpointId: Number(env["PORTAINER_ENDPOINT_ID"] ?? 1),
        }, null),
      ),
  }
  : { "a Swarm": (access) => local(access, 1), "standalone Docker": (access) => local(access, 2) };

async function local(access: StackAccess, endpointId: number): Promise<Engine> {
  const sql = postgres(access.dbUrl, { max: 1, onnotice: () => {} });
  const [row] = await sql<{ id: string }[]>`
    select private.register_default_cluster('portainer', ${`life-${endpointId}`}, ${access.portainerUrl}, ${endpointId}, null,
      ${access.portainerApiKey}) as id
  `;
  await sql.end();
  return dockerEngine(
    { url: access.portainerUrl, apiKey: access.portainerApiKey, endpointId },
    row!.id,
  );
}

describe.each(Object.entries(engines))("an agent on %s", (_, open) => {
  let access: StackAccess;
  let engine: Engine;
  let user: SupabaseClient;
  let headers: Record<string, string>;
  let id = "";

  beforeAll(async () => {
    access = await useStack();
    engine = await open(access);
    user = createClient(access.apiUrl, access.publishableKey, { auth: { persistSession: false } });
    const { data, error } = await user.auth.signUp({
      email: `${crypto.randomUUID()}@example.com`,
      password: "correct horse battery",
    });
    if (error) throw error;
    headers = {
      Authorization: `Bearer ${data.session!.access_token}`,
      apikey: access.publishableKey,
      "API-Version": "3",
      "Content-Type": "application/json",
    };
  });

  afterAll(async () => {
    if (id !== "") await user.rpc("delete_agent", { agent_id: id });
  });

  async function rpc<T = Record<string, unknown>>(name: string, args: Record<string, unknown>) {
    const { data, error } = await user.rpc(name, args);
    if (error) throw new Error(`${name}: ${error.code} ${error.message}`);
    return data as T;
  }

  async function call(method: string, path: string, body?: unknown) {
    const response = await fetch(`${access.apiUrl}/api${path}`, {
      method,
      headers,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    return { status: response.status, json: await response.json() };
  }

  /** The end of the agent's last operation of this kind. */
  const ended = (kind: string) =>
    eventually(async () => {
      const { data } = await user.from("operations").select("id, kind, state, progress, error")
        .eq("agent_id", id).eq("kind", kind).order("created_at", { ascending: false }).limit(1);
      const operation = data?.[0] as Operation | undefined;
      return operation && !["queued", "running"].includes(operation.state) ? operation : null;
    }, { what: `the end of ${kind}` });

  async function succeeded(kind: string): Promise<void> {
    expect(await ended(kind)).toMatchObject({ state: "succeeded", progress: 100, error: null });
  }

  async function deployment() {
    const { data } = await user.from("deployments").select("*").eq("agent_id", id).single();
    return data as { state: string; replicas_ready: number; containers: Container[] };
  }

  /** Waits until as many containers run as are told of, and no others. */
  async function runs(count: number): Promise<string[]> {
    const told = await eventually(async () => {
      const { replicas_ready, containers } = await deployment();
      const live = containers.filter(({ status }) => status === "running");
      const there = (await engine.running(id)).length === count;
      return there && replicas_ready === count && live.length === count ? live : null;
    }, { what: `${count} running containers` });
    return told.map((each) => each.id).sort();
  }

  const change = (changes: Record<string, unknown>) =>
    rpc("update_agent", { agent_id: id, changes });

  it("is created, and runs in as many containers as asked for", async () => {
    const { agent } = await rpc<{ agent: { id: string } }>("create_agent", {
      spec: {
        name: `life ${crypto.randomUUID().slice(0, 8)}`,
        replicas: REPLICAS,
        resources: { memory: "128Mi", cpu: "100m" },
        portainer: { health_checks: PATIENT_CHECK },
        ...(engine.clusterId === null ? {} : { cluster_id: engine.clusterId }),
      },
    });
    id = agent.id;
    await succeeded("deploy");
    expect(await deployment()).toMatchObject({ state: "running", replicas_ready: REPLICAS });
    await runs(REPLICAS);
    const { status, json } = await call("GET", `/agents/${id}`);
    expect(status, JSON.stringify(json)).toBe(200);
  });

  it("is heard: its lines are kept and followed", async (test) => {
    if (lacks.has("logs")) return test.skip();
    // Over PostgREST, which has no limit of requests a minute.
    await eventually(async () => {
      const { data } = await user.from("agent_logs").select("message").eq("agent_id", id).limit(3);
      return data?.length === 3;
    }, { what: "three lines" });
    const { json } = await call("GET", `/agents/${id}/logs?lines=3`);
    expect(json.logs).toHaveLength(3);
    const response = await fetch(`${access.apiUrl}/api/agents/${id}/logs?follow=true&lines=1`, {
      headers: { ...headers, Accept: "application/x-ndjson" },
    });
    const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    while (text.split("\n").filter((line) => line.includes('"message"')).length < 3) {
      const { value, done } = await reader.read();
      if (done) throw new Error(`it ended after ${text}`);
      text += value;
    }
    await reader.cancel();
  });

  it("is measured", async (test) => {
    if (lacks.has("metrics")) return test.skip();
    const row = await eventually(async () => {
      const { data } = await user.from("agent_metrics").select("*").eq("agent_id", id)
        .not("cpu_usage", "is", null).limit(1);
      return data?.[0];
    }, { what: "a measurement" });
    expect(row.memory_usage).toBeGreaterThan(0);
    expect(row.memory_limit).toBe(REPLICAS * 128 * 1024 * 1024);
  });

  it("is scaled, and those that ran go on", async () => {
    const before = await runs(REPLICAS);
    await rpc("scale_agent", { agent_id: id, replicas: REPLICAS + 1 });
    await succeeded("scale");
    expect(await runs(REPLICAS + 1)).toEqual(expect.arrayContaining(before));
  });

  it("gets over a container that is killed", async () => {
    const { containers: before } = await deployment();
    const lives = (all: Container[]) => all.map((each) => `${each.id} ${each.started_at}`);
    await engine.kill(before[0]!.id);
    await eventually(async () => {
      const { containers, replicas_ready } = await deployment();
      return replicas_ready === REPLICAS + 1 && !lives(containers).includes(lives(before)[0]!);
    }, { what: "another life of the container" });
    await runs(REPLICAS + 1);
  });

  it("restarts one by one", async () => {
    const before = (await deployment()).containers.map((each) => each.started_at);
    await rpc("restart_agent", { agent_id: id, restart_policy: "rolling" });
    await succeeded("restart");
    await runs(REPLICAS + 1);
    const { containers } = await deployment();
    for (const each of containers) expect(before).not.toContain(each.started_at);
  });

  it.each(["rolling", "recreate", "blue-green"])("is updated: %s", async (strategy) => {
    const before = await runs(REPLICAS + 1);
    const old = new Set(await engine.running(id));
    const mixed: string[][] = [];
    let fewest = old.size;
    let watching = true;
    const watch = (async () => {
      while (watching) {
        const now = await engine.running(id);
        const fresh = now.filter((each) => !old.has(each));
        if (fresh.length > 0 && fresh.length < now.length) mixed.push(now);
        // Until all of the new set are there, all of the old one have to be.
        if (fresh.length < old.size) fewest = Math.min(fewest, now.length - fresh.length);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    })();
    await change({
      environment: { MODE: strategy },
      portainer: {
        deployment_strategy: strategy,
        health_checks: PATIENT_CHECK,
      },
    });
    await succeeded("update");
    watching = false;
    await watch;
    const after = await runs(REPLICAS + 1);
    expect(after.filter((each) => before.includes(each))).toEqual([]);
    if (strategy === "recreate") expect(mixed).toEqual([]);
    if (strategy === "blue-green") expect(fewest).toBe(old.size);
  });

  it("keeps running as it was when an update does not come up", async (test) => {
    if (lacks.has("failures")) return test.skip();
    const before = await runs(REPLICAS + 1);
    await change({ environment: { CRASH_AFTER: "0" } });
    expect(await ended("update")).toMatchObject({ state: "failed" });
    await succeeded("rollback");
    expect(await runs(REPLICAS + 1)).toEqual(before);
    expect(await deployment()).toMatchObject({ state: "running" });
  });

  it("is examined as its containers are set up", async () => {
    await rpc("scan_agent", { agent_id: id });
    const scan = await eventually(async () => {
      const { data } = await user.from("security_scans").select("*").eq("agent_id", id).limit(1);
      const found = data?.[0];
      return found && ["completed", "failed"].includes(found.state) ? found : null;
    }, { what: "the end of the scan" });
    expect(scan).toMatchObject({ state: "completed", containers_examined: REPLICAS + 1 });
    // A cluster of one's own may have a scanner.
    if (!env["SUPABASE_URL"]) expect(scan.scanner).toBeNull();
    expect(scan).toMatchObject(
      scan.scanner === null
        ? { vulnerabilities: null, unavailable_reason: expect.any(String) }
        : { vulnerabilities: { critical: expect.any(Number) }, unavailable_reason: null },
    );
    expect(scan.findings.length).toBeGreaterThan(0);
  });

  it("stops, starts and goes, and leaves nothing behind", async () => {
    await rpc("stop_agent", { agent_id: id });
    await succeeded("stop");
    await eventually(async () => (await engine.running(id)).length === 0, {
      what: "no running container",
    });
    await rpc("start_agent", { agent_id: id });
    await succeeded("start");
    await runs(REPLICAS + 1);
    const { status } = await call("DELETE", `/agents/${id}`);
    expect(status).toBeLessThan(300);
    await succeeded("delete");
    await eventually(async () => (await engine.running(id)).length === 0, {
      what: "no running container",
    });
    id = "";
  });

  it("has run on a cluster that is told as it is", async () => {
    const { status, json } = await call("GET", "/health");
    expect(status, JSON.stringify(json)).toBe(200);
    expect(JSON.stringify(json)).toContain("healthy");
  });
});
