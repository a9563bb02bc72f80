/** What a month of one agent's figures by the hour costs, among many agents that are measured as well. */
import postgres from "postgres";
import { withThrowAwayDatabase } from "../throw-away-database.ts";
import { claimsOf, fillFleet, ownerOf } from "./fleet.ts";
import type { BenchResult } from "./result.ts";

/** Agents that a month of roll-ups and a day of samples is kept of. */
const AGENTS = 200;
const ROUNDS = 200;
const SINCE = "now() - interval '30 days'";

export async function run(): Promise<BenchResult> {
  return await withThrowAwayDatabase(async (url, superuserUrl) => {
    const admin = postgres(superuserUrl, { max: 1, onnotice: () => {} });
    const sql = postgres(url, { max: 1, onnotice: () => {} });
    try {
      await fillFleet(admin, 1, AGENTS / 100);
      await measureFleet(admin);
      const agents = await admin<{ id: string; user_id: string }[]>`
        select id, user_id from public.agents where user_id in ${admin([ownerOf(0, 1)])}
      `;
      const [sampled] = agents;
      await sampleMonth(admin, sampled!.id);
      const rolled: number[] = [];
      const plain: number[] = [];
      // In turns, so that a machine that is busy for a while slows both.
      for (let round = 0; round < ROUNDS; round++) {
        const agent = agents[1 + round % (agents.length - 1)]!;
        rolled.push(
          await time(
            sql,
            agent.user_id,
            `select public.agent_metric_series('${agent.id}', ${SINCE}, '1 hour')`,
          ),
        );
        if (round % 10 === 0) plain.push(await time(sql, agent.user_id, fromSamples(sampled!.id)));
      }
      const [fast, slow] = [median(rolled), median(plain)];
      return {
        name: "a month of figures by the hour, of one agent among many, against its samples",
        ratio: fast / slow,
        target: "at most 0.25",
        detail: `${fast.toFixed(1)} against ${slow.toFixed(0)} ms`,
      };
    } finally {
      await sql.end();
      await admin.end();
    }
  });
}

async function time(sql: postgres.Sql, userId: string, statement: string): Promise<number> {
  const start = performance.now();
  await sql.unsafe(`
    select set_config('role', 'authenticated', true),
      set_config('request.jwt.claims', '${claimsOf(userId)}', true);
    ${statement}
  `).simple();
  return performance.now() - start;
}

const median = (values: number[]) => values.sort((a, b) => a - b)[values.length >> 1]!;

/** Two of the five series, which is all that a month of samples is asked for here. */
function fromSamples(agentId: string): string {
  return `
    select date_bin('1 hour', timestamp, '2024-01-01 00:00:00+00') as starts, avg(cpu_usage / cpu_limit), min(cpu_usage),
      max(cpu_usage), avg(memory_usage), min(memory_usage), max(memory_usage)
    from public.agent_metrics where agent_id = '${agentId}' and timestamp >= ${SINCE} group by 1`;
}

/** What the worker measures in a month, past the triggers. */
async function sampleMonth(admin: postgres.Sql, agentId: string): Promise<void> {
  await admin.unsafe(`
    set session_replication_role = replica;
    insert into public.agent_metrics (agent_id, user_id, timestamp, replicas, cpu_usage, cpu_limit, memory_usage, network_rx, network_tx)
    select a.id, a.user_id, m, 1, random(), 1, 1e8, 1000, 1000
    from public.agents a, generate_series(${SINCE}, now() - interval '1 hour', '10 seconds') m
    where a.id = '${agentId}' on conflict do nothing;
    reset session_replication_role;
    analyze public.agent_metrics;
  `);
}

/** A month of hours, a day of minutes, and samples of the last two minutes that are not rolled up yet. */
async function measureFleet(admin: postgres.Sql): Promise<void> {
  await admin.unsafe(`
    select private.ensure_partitions(now() - interval '31 days', '40 days');
    insert into public.agent_metric_hours
    select a.id, a.user_id, h, 360, 360, 7200, 5, 60, 360, 3.6e10, 1e8, 2e8, 360, 3600, 5, 20, 360, 3.6, 0, 0.1, 360, 3600, 5, 20
    from public.agents a, generate_series(date_trunc('hour', now()) - interval '30 days', date_trunc('hour', now()) - interval '1 hour', '1 hour') h;
    insert into public.agent_metrics (agent_id, user_id, timestamp, replicas, cpu_usage, cpu_limit, memory_usage, network_rx, network_tx)
    select a.id, a.user_id, m, 1, 0.2, 1, 1e8, 1000, 1000
    from public.agents a, generate_series(date_trunc('hour', now()), now(), '10 seconds') m;
    select private.roll_up_metrics();
    insert into public.agent_metrics (agent_id, user_id, timestamp, replicas, cpu_usage, cpu_limit, memory_usage, network_rx, network_tx)
    select a.id, a.user_id, m + interval '1 ms', 1, 0.2, 1, 1e8, 1000, 1000
    from public.agents a, generate_series(now() - interval '2 minutes', now(), '10 seconds') m;
    analyze public.agent_metrics; analyze public.agent_metric_minutes; analyze public.agent_metric_hours; analyze private.metric_bins_due;
  `);
}

if (import.meta.main) console.log(await run());
