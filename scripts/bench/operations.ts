/** How many operations a second one worker claims, carries out and ends, when the cluster costs no time. */
import type postgres from "postgres";
import type { Orchestrator, WorkloadRef, WorkloadSpec } from "../../shared/orchestrators/types.ts";
import { createWorker } from "../../shared/worker/worker.ts";
import { connectWorkerDatabase } from "../../shared/worker/connect.ts";
import { withThrowAwayDatabase } from "../throw-away-database.ts";
import type { BenchResult } from "./result.ts";

const AGENTS = 600;
const TARGET = 200;

export async function run(): Promise<BenchResult> {
  // Durable as an installation is: what is written counts only when it is on disk.
  return await withThrowAwayDatabase(async (url) => {
    const sql = connectWorkerDatabase(url);
    try {
      const worker = createWorker({
        sql,
        orchestratorFor: createIdleOrchestrator(),
        log: () => {},
      });
      await sql`
        select private.register_default_cluster('portainer', 'bench', 'http://bench.invalid', 1, null, 'none')
      `;
      await queueDeployments(sql, AGENTS);
      const began = performance.now();
      const summary = await worker.run({ wallMs: 120_000, graceMs: 10_000, idleMs: 0 });
      const seconds = (performance.now() - began) / 1000;
      const [done] = await sql<{ number: number }[]>`
        select count(*)::int as number from public.operations where state = 'succeeded'
      `;
      if (done!.number !== AGENTS) {
        throw new Error(
          `${done!.number} of ${AGENTS} operations succeeded: ${JSON.stringify(summary)}`,
        );
      }
      const rate = AGENTS / seconds;
      return {
        name: "operations a second, claimed and finished with a driver that does nothing",
        ratio: rate / TARGET,
        target: "at least 1 (200 a second)",
        detail: `${Math.round(rate)} a second: ${AGENTS} deployments of four steps in ${
          seconds.toFixed(2)
        } s`,
      };
    } finally {
      await sql.end();
    }
  }, {});
}

/** Knows what it was told to deploy and says that it runs. */
function createIdleOrchestrator(): () => Orchestrator {
  const specs = new Map<string, WorkloadSpec>();
  const nothing = () => Promise.resolve();
  const orchestrator: Orchestrator = {
    kind: "portainer",
    deploy: (spec) => {
      specs.set(spec.name, spec);
      return Promise.resolve({
        agentId: spec.agentId,
        name: spec.name,
        stackId: spec.name,
        namespace: null,
        orchestrator: "portainer-compose",
        endpointId: 1,
      });
    },
    update: nothing,
    promote: nothing,
    abandon: nothing,
    scale: nothing,
    restart: nothing,
    start: nothing,
    stop: nothing,
    remove: nothing,
    inspect: (ref: WorkloadRef) => {
      const spec = specs.get(ref.name);
      return Promise.resolve(
        spec === undefined ? null : {
          ref,
          status: "active",
          revision: spec.revision,
          desired: spec.replicas,
          ready: spec.replicas,
          settled: true,
          candidate: null,
          containers: [],
          services: [],
          url: null,
          consoleUrl: null,
          failure: null,
        },
      );
    },
    logs: () => Promise.resolve({ lines: [], truncated: false }),
    metrics: () => Promise.resolve([]),
    health: () => Promise.reject(new Error("not asked for")),
  };
  return () => orchestrator;
}

async function queueDeployments(sql: postgres.Sql, count: number): Promise<void> {
  const owner = crypto.randomUUID();
  await sql`
    insert into auth.users (id, email, aud, role)
    values (${owner}, 'bench@example.test', 'authenticated', 'authenticated')
  `;
  // Watching what was deployed is other work than deploying.
  await sql`insert into public.settings (category, key, value) values ('collection', 'concurrency', '0')`;
  await sql`
    update public.settings set value = '1000000'
    where category = 'agents' and key in ('max_per_user', 'max_replicas_per_user')
  `;
  await sql.begin(async (transaction) => {
    const claims = JSON.stringify({ sub: owner, role: "authenticated" });
    await transaction`
      select set_config('request.jwt.claims', ${claims}, true), set_config('role', 'authenticated', true)
    `;
    await transaction`
      select public.create_agent(jsonb_build_object('name', 'bench ' || n)) from generate_series(1, ${count}) n
    `;
  });
}

if (import.meta.main) console.log(await run());
