/** What a month of one agent's figures by the hour costs, among many agents that are measured as well. */
import postgres from "postgres";
import { withThrowAwayDatabase } from "../throw-away-database.ts";
import { claimsOf, fillFleet, ownerOf } from "./fleet.ts";
import type { BenchResult } from "./result.ts";

/** Agents that a month of roll-ups and a day of samples is kept of. */
const AGENTS = 200;
const ROUNDS = 200;

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
      const taken: number[] = [];
      let samples = 0;
      for (let round = 0; round < ROUNDS; round++) {
        const agent = agents[round % agents.length]!;
        const start = performance.now();
        const answers = await sql.unsafe(`
          select set_config('role', 'authenticated', true), set_config('request.jwt.claims', '${
          claimsOf(agent.user_id)
        }', true);
          select (public.agent_metric_series('${agent.id}', now() - interval '30 days', '1 hour') ->> 'samples')::int as samples
        `).simple();
        taken.push(performance.now() - start);
        samples = (answers as unknown as { samples: number }[][])[1]![0]!.samples;
      }
      return {
        name: "a month of figures by the hour, of one agent among many",
        ratio: taken.sort((a, b) => a - b)[ROUNDS / 2]!,
        target: "at most 30 ms",
        detail: `milliseconds, median; ${samples} samples of each of ${AGENTS} agents`,
      };
    } finally {
      await sql.end();
      await admin.end();
    }
  });
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
