import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import postgres from "postgres";
import { readFile } from "node:fs/promises";
import path from "node:path";
import {
  freshStackEnvironment,
  type StackProcess,
  startStackProcess,
} from "../../support/stack-process.ts";
import type { OperationRow } from "./bed.ts";
import { eventually } from "./eventually.ts";

/** A check of health that no agent fails for the want of a turn on a busy machine. */
export const PATIENT_CHECK = { interval: "10s", timeout: "10s", retries: 100 };

/** Environments of the local Portainer. */
export const ENGINES = { swarm: 1, compose: 2 } as const;
export type Engine = keyof typeof ENGINES;

/** What the local Portainer does to a request; `scripts/local/portainer/faults.ts` says more. */
export interface Rule {
  method?: string;
  path: string;
  times?: number;
  fault: { kind: string; [option: string]: unknown };
}

/** A whole stack of one's own, whose worker may be killed and whose Portainer may fail. */
export interface WorkerRig {
  stack: StackProcess;
  sql: postgres.Sql;
  user: SupabaseClient;
  /** Cluster id of each engine. */
  clusters: Record<Engine, string>;
  rpc<T = { agent: { id: string }; operation: OperationRow }>(
    name: string,
    args: Record<string, unknown>,
  ): Promise<T>;
  createAgent(engine: Engine, spec?: Record<string, unknown>): Promise<string>;
  operation(agentId: string, kind?: string): Promise<OperationRow>;
  /** The operation, once it is over. */
  finished(agentId: string, kind: string): Promise<OperationRow>;
  stacksOf(agentId: string): Promise<{ Id: number; Name: string; EndpointId: number }[]>;
  /** Containers of the agent's stack that run, on either engine. */
  runningContainers(agentId: string): Promise<string[]>;
  portainer(path: string, init?: RequestInit): Promise<Response>;
  order(...rules: Rule[]): Promise<void>;
  /** How many requests the rules on order took, by method (`*` for any). */
  hits(method?: string): Promise<number>;
  clearFaults(): Promise<void>;
  workerPid(): Promise<number | null>;
  killWorker(): Promise<void>;
  /** Takes an agent's containers away behind everybody's back, so that they cost the next test nothing. */
  discard(agentId: string): Promise<void>;
  set(category: string, key: string, value: number): Promise<void>;
  stop(): Promise<void>;
}

export async function startWorkerRig(): Promise<WorkerRig> {
  const stack = await startStackProcess({
    ...await freshStackEnvironment(),
    PORTAINER_FAULTS: "1",
  });
  const sql = postgres(stack.dbUrl, { max: 4, onnotice: () => {} });
  const user = createClient(stack.apiUrl, stack.publishableKey, {
    auth: { persistSession: false },
  });
  const { error } = await user.auth.signUp({
    email: `${crypto.randomUUID()}@example.com`,
    password: "correct horse battery",
  });
  if (error) throw error;
  const control = JSON.parse(await readFile(path.join(stack.stateDir, "stack.json"), "utf8"))
    .control as { url: string; token: string };
  const portainer = (where: string, init: RequestInit = {}) =>
    fetch(stack.portainerUrl + where, {
      ...init,
      headers: { "X-API-KEY": stack.portainerApiKey, "Content-Type": "application/json" },
    });
  const clusters = {} as WorkerRig["clusters"];
  for (const [engine, endpoint] of Object.entries(ENGINES)) {
    const [row] = await sql<{ id: string }[]>`
      select private.register_default_cluster(
        'portainer', ${`rig-${engine}`}, ${stack.portainerUrl}, ${endpoint}, null, ${stack.portainerApiKey},
        '{"deployTimeoutMs": 4000}'
      ) as id
    `;
    clusters[engine as keyof typeof ENGINES] = row!.id;
  }

  const rig: WorkerRig = {
    stack,
    sql,
    user,
    clusters,
    portainer,
    rpc: async (name, args) => {
      const { data, error } = await user.rpc(name, args);
      if (error) throw new Error(`${name}: ${error.code} ${error.message}`);
      return data;
    },
    createAgent: async (engine, spec = {}) => {
      const answer = await rig.rpc("create_agent", {
        spec: {
          name: `rig ${crypto.randomUUID().slice(0, 8)}`,
          replicas: 1,
          resources: { memory: "128Mi", cpu: "100m" },
          portainer: { health_checks: { enabled: false } },
          cluster_id: clusters[engine],
          ...spec,
        },
      });
      return answer.agent.id;
    },
    operation: async (agentId, kind) => {
      const [row] = await sql<OperationRow[]>`
        select * from public.operations
        where agent_id = ${agentId} ${kind === undefined ? sql`` : sql`and kind = ${kind}`}
        order by created_at desc limit 1
      `;
      return row!;
    },
    finished: (agentId, kind) =>
      eventually(async () => {
        const operation = await rig.operation(agentId, kind);
        return operation && !["queued", "running"].includes(operation.state) ? operation : null;
      }, { what: `the end of ${kind}` }),
    stacksOf: async (agentId) => {
      const answer = await portainer("/api/stacks");
      const stacks = answer.status === 204 ? [] : await answer.json() as {
        Id: number;
        Name: string;
        EndpointId: number;
        Env: { name: string; value: string }[];
      }[];
      return stacks.filter((each) => each.Env.some((pair) => pair.value === agentId));
    },
    runningContainers: async (agentId) => {
      const names: string[] = [];
      for (const endpoint of Object.values(ENGINES)) {
        const filters = encodeURIComponent(
          JSON.stringify({ label: [`agent-launchpad.agent=${agentId}`] }),
        );
        const answer = await portainer(
          `/api/endpoints/${endpoint}/docker/containers/json?filters=${filters}`,
        );
        const containers = await answer.json() as { Names: string[]; State: string }[];
        names.push(
          ...containers.filter((each) => each.State === "running").map((each) => each.Names[0]!),
        );
      }
      return names;
    },
    order: async (...rules) => {
      for (const rule of rules) {
        const answer = await portainer("/__faults", { method: "POST", body: JSON.stringify(rule) });
        if (!answer.ok) throw new Error(await answer.text());
      }
    },
    hits: async (method) => {
      const rules = await (await portainer("/__faults")).json() as {
        method: string | null;
        hits: number;
      }[];
      return rules.filter((rule) => method === undefined || rule.method === method).reduce(
        (sum, rule) => sum + rule.hits,
        0,
      );
    },
    clearFaults: async () => {
      await portainer("/__faults", { method: "DELETE" });
    },
    workerPid: async () => {
      const answer = await fetch(`${control.url}/status`, {
        headers: { authorization: `Bearer ${control.token}` },
      });
      const { processes } = await answer.json() as {
        processes: { name: string; pid: number | null }[];
      };
      return processes.find((each) => each.name === "worker")?.pid ?? null;
    },
    killWorker: async () => {
      const pid = await eventually(rig.workerPid, { what: "a worker process" });
      process.kill(pid, "SIGKILL");
      await eventually(async () => {
        const now = await rig.workerPid();
        return now !== null && now !== pid;
        // One that dies soon after its start is started again ever later.
      }, { what: "a new worker process" });
    },
    discard: async (agentId) => {
      for (const { Id, EndpointId } of await rig.stacksOf(agentId)) {
        await portainer(`/api/stacks/${Id}?endpointId=${EndpointId}`, { method: "DELETE" });
      }
    },
    set: async (category, key, value) => {
      await sql`
        insert into public.settings (category, key, value) values (${category}, ${key}, ${
        sql.json(value)
      })
        on conflict (category, key) do update set value = excluded.value
      `;
    },
    stop: async () => {
      await sql.end({ timeout: 1 });
      await stack.stop();
    },
  };
  return rig;
}

/** Has what a dead worker held taken over soon, and nobody but the operations call Portainer. */
export async function expectDeaths(rig: WorkerRig): Promise<void> {
  await rig.set("operations", "lease_seconds", 1);
  // One that is merely slow loses so short a lease too.
  await rig.set("operations", "max_losses", 1000);
  await rig.set("operations", "backoff_max_seconds", 2);
  await rig.set("operations", "settle_seconds", 3);
  await rig.set("operations", "removal_settle_seconds", 4);
  await rig.set("operations", "backoff_base_seconds", 1);
  await rig.set("operations", "concurrency", 16);
  await rig.set("breakers", "failure_threshold", 50);
  await rig.set("collection", "concurrency", 0);
}
