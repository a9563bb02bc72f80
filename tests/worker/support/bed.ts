import type { Sql } from "postgres";
import { afterAll } from "vitest";
import { connectWorkerDatabase } from "../../../shared/worker/connect.ts";
import { createWorker, type RunSummary, type Worker } from "../../../shared/worker/worker.ts";
import { createTestDatabase } from "../../support/database.ts";
import { createScriptedOrchestrator, type ScriptedOrchestrator } from "./scripted-orchestrator.ts";

/** Ends as soon as nothing is due: tests say themselves when time has passed. */
export const UNTIL_IDLE = { wallMs: 600_000, graceMs: 100, idleMs: 0 };

export interface OperationRow {
  id: string;
  agent_id: string;
  kind: string;
  state: string;
  attempts: number;
  progress: number;
  steps: { name: string; status: string; detail?: Record<string, unknown> }[];
  error: { code: string; message: string; details: Record<string, unknown> } | null;
}

/** A migrated database, a scripted cluster, and a user who owns agents. */
export interface WorkerBed {
  sql: Sql;
  cluster: ScriptedOrchestrator;
  /** Further clusters, by id. */
  clusters: Map<string, ScriptedOrchestrator>;
  clusterId: string;
  userId: string;
  log: string[];
  createWorker(): Worker;
  /** Runs a worker until nothing is due. */
  run(worker?: Worker): Promise<RunSummary>;
  /** Calls an RPC as the user. */
  rpc<T = { agent: { id: string }; operation: OperationRow }>(
    name: string,
    args: Record<string, unknown>,
  ): Promise<T>;
  createAgent(spec?: Record<string, unknown>): Promise<string>;
  operation(agentId: string): Promise<OperationRow>;
  deployment(agentId: string): Promise<Record<string, unknown>>;
  /** Lets whatever waits for a time be due now. */
  passTime(): Promise<void>;
  set(category: string, key: string, value: number): Promise<void>;
}

export async function createWorkerBed(): Promise<WorkerBed> {
  const database = await createTestDatabase();
  const sql = connectWorkerDatabase(database.url());
  afterAll(() => sql.end());
  const cluster = createScriptedOrchestrator();
  const log: string[] = [];
  const [registered] = await sql<{ id: string }[]>`
    select private.register_default_cluster(
      'portainer', 'portainer', 'http://portainer.test', 1, null, 'ptr_cluster-credential'
    ) as id
  `;
  const userId = crypto.randomUUID();
  await sql`
    insert into auth.users (id, email, aud, role) values (${userId}, ${`${userId}@example.test`}, 'authenticated', 'authenticated')
  `;
  const bed: WorkerBed = {
    sql,
    cluster,
    clusters: new Map(),
    clusterId: registered!.id,
    userId,
    log,
    createWorker: () =>
      createWorker({
        sql,
        orchestratorFor: (where) => bed.clusters.get(where.id) ?? cluster,
        log: (level, message, fields) => log.push(JSON.stringify({ level, message, ...fields })),
      }),
    run: (worker = bed.createWorker()) => worker.run(UNTIL_IDLE),
    rpc: async (name, args) => {
      const names = Object.keys(args);
      const values = Object.values(args).map((value) =>
        value !== null && typeof value === "object" ? sql.json(value as never) : value
      );
      const [row] = await sql.begin(async (transaction) => {
        await transaction`
          select set_config('request.jwt.claims', ${
          JSON.stringify({ sub: userId, role: "authenticated" })
        }, true), set_config('role', 'authenticated', true)
        `;
        return await transaction.unsafe(
          `select public.${name}(${
            names.map((each, i) => `${each} => $${i + 1}`).join(", ")
          }) as answer`,
          values as never[],
        );
      });
      return row!.answer;
    },
    createAgent: async (spec = {}) => {
      const answer = await bed.rpc("create_agent", {
        spec: { name: `agent-${crypto.randomUUID().slice(0, 8)}`, ...spec },
      });
      return answer.agent.id;
    },
    operation: async (agentId) => {
      const [row] = await sql<OperationRow[]>`
        select * from public.operations where agent_id = ${agentId} order by created_at desc limit 1
      `;
      return row!;
    },
    deployment: async (agentId) => {
      const [row] = await sql`select * from public.deployments where agent_id = ${agentId}`;
      return row!;
    },
    passTime: async () => {
      await sql`update private.operation_queue set run_after = now() - interval '1 ms'`;
      await sql`update public.circuit_breakers set retry_at = now() - interval '1 ms' where retry_at is not null`;
    },
    set: async (category, key, value) => {
      await sql`
        insert into public.settings (category, key, value) values (${category}, ${key}, ${
        sql.json(value)
      })
        on conflict (category, key) do update set value = excluded.value
      `;
    },
  };
  // Tests of operations order faults for the next call; looks at deployments would take them.
  await bed.set("collection", "concurrency", 0);
  return bed;
}
