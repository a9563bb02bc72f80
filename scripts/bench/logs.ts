/** How fast the collector stores an agent's log, against copying the same rows into a table without an index. */
import { once } from "node:events";
import type postgres from "postgres";
import type { LogLine, Orchestrator } from "../../shared/orchestrators/types.ts";
import { collect } from "../../shared/worker/collector/collect.ts";
import { createCollectionStore } from "../../shared/worker/collector/store.ts";
import { systemClock } from "../../shared/worker/clock.ts";
import { readSettings } from "../../shared/worker/settings.ts";
import { connectWorkerDatabase } from "../../shared/worker/connect.ts";
import { withThrowAwayDatabase } from "../throw-away-database.ts";
import type { BenchResult } from "./result.ts";

const LINES = 200_000;
const ROUNDS = 5;

export async function run(): Promise<BenchResult> {
  return await withThrowAwayDatabase(async (url) => {
    const sql = connectWorkerDatabase(url);
    try {
      const lines = makeLines(LINES);
      const bare: number[] = [];
      const collected: number[] = [];
      // In turns, so that a machine that is busy for a while slows both.
      for (let round = 0; round < ROUNDS; round++) {
        bare.push(await timeBareCopy(sql, lines));
        collected.push(await timeCollection(sql, lines));
      }
      const [copyRate, collectRate] = [Math.max(...bare), Math.max(...collected)];
      return {
        name: "log lines a second, collected and stored, against a bare copy without an index",
        ratio: collectRate / copyRate,
        target: "at least 0.5",
        detail: `${thousands(collectRate)} against ${thousands(copyRate)} rows a second`,
      };
    } finally {
      await sql.end();
    }
  }, {});
}

const thousands = (rate: number) => `${Math.round(rate / 1000)}k`;

function makeLines(count: number): LogLine[] {
  const start = Date.now() - 60_000;
  return Array.from({ length: count }, (_, n) => {
    const time = new Date(start + Math.floor(n / 10)).toISOString();
    return {
      timestamp: `${time.slice(0, -1)}${String((n % 10) * 1000).padStart(6, "0")}Z`,
      stream: "stdout",
      message: `[${time}] INFO (eliza-core): #${n} Heartbeat: ${n * 3} requests answered, 0 failed`,
    };
  });
}

/** The same rows as the collector makes of the lines, ready to be sent. */
async function timeBareCopy(sql: postgres.Sql, lines: LogLine[]): Promise<number> {
  await sql`drop table if exists bench_logs`;
  await sql`
    create table bench_logs (
      agent_id uuid, user_id uuid, "timestamp" timestamptz, level text, message text, source text,
      container_id text, container_name text, metadata jsonb
    )
  `;
  const [agent, user] = [crypto.randomUUID(), crypto.randomUUID()];
  const chunks: string[] = [];
  for (let at = 0; at < lines.length; at += 1000) {
    chunks.push(
      lines.slice(at, at + 1000).map((line, n) =>
        `${agent}\t${user}\t${line.timestamp}\tINFO\t#${at + n} Heartbeat: ${
          (at + n) * 3
        } requests answered, 0 failed\teliza-core\tcontainer\tbench-1\t{}\n`
      ).join(""),
    );
  }
  const began = performance.now();
  const stream = await sql`copy bench_logs from stdin`.writable();
  const finished = once(stream, "finish");
  for (const chunk of chunks) if (!stream.write(chunk)) await once(stream, "drain");
  stream.end();
  await finished;
  return lines.length / (performance.now() - began) * 1000;
}

async function timeCollection(sql: postgres.Sql, lines: LogLine[]): Promise<number> {
  const store = createCollectionStore(sql, "bench");
  const settings = { ...await readSettings(sql), logLagSeconds: Infinity };
  const orchestrator = { kind: "portainer", logs: pagesOf(lines) } as Partial<Orchestrator>;
  const agentId = await deployedAgent(sql);
  const [before] = await sql<{ number: number }[]>`
    select count(*)::int as number from public.agent_logs
  `;
  const began = performance.now();
  for (let stored = 0; stored < lines.length;) {
    await sql`update private.collections set next_at = now() where agent_id = ${agentId}`;
    const [collection] = await store.claim(1, 60);
    if (collection === undefined) throw new Error("the deployment is not due");
    await collect({ ...collection, due: { state: false, metrics: false, logs: true } }, {
      store,
      orchestratorFor: () => orchestrator as Orchestrator,
      clock: systemClock,
      log: (_level, message, fields) => console.error(message, fields),
      settings,
      signal: new AbortController().signal,
      catchingUp: new Set(),
    });
    const [now] = await sql<{ at: string }[]>`
      select cursor #>> '{logs,container,at}' as at from private.collections where agent_id = ${agentId}
    `;
    stored = lines.findLastIndex((line) => line.timestamp === now!.at) + 1;
  }
  const rate = lines.length / (performance.now() - began) * 1000;
  const [after] = await sql<{ number: number }[]>`
    select count(*)::int as number from public.agent_logs
  `;
  if (after!.number - before!.number !== lines.length) {
    throw new Error(`${after!.number - before!.number} of ${lines.length} lines were stored`);
  }
  return rate;
}

/** Pages as a driver gives them: in order, strictly later than `since`, cut at the limit. */
function pagesOf(lines: LogLine[]): Orchestrator["logs"] {
  return (_ref, _id, { since, tail, limitBytes }) => {
    if (tail !== undefined) return Promise.resolve({ lines: lines.slice(-tail), truncated: false });
    let low = 0;
    for (let high = lines.length; low < high;) {
      const middle = (low + high) >> 1;
      if (since === undefined || lines[middle]!.timestamp > since) high = middle;
      else low = middle + 1;
    }
    let end = low;
    for (let size = 0; end < lines.length; end++) {
      size += lines[end]!.message.length + 31;
      if (size > limitBytes) break;
    }
    return Promise.resolve({ lines: lines.slice(low, end), truncated: end < lines.length });
  };
}

/** A running deployment with one container, as the collector finds it. */
async function deployedAgent(sql: postgres.Sql): Promise<string> {
  const [user, agent] = [crypto.randomUUID(), crypto.randomUUID()];
  const container = { id: "container", name: "bench-1", started_at: new Date().toISOString() };
  await sql`
    select private.register_default_cluster('portainer', 'bench', 'http://bench.invalid', 1, null, 'none')
  `;
  await sql`
    insert into auth.users (id, email, aud, role)
    values (${user}, ${`${user}@example.test`}, 'authenticated', 'authenticated')
  `;
  await sql`insert into public.agents (id, user_id, name) values (${agent}, ${user}, 'bench')`;
  await sql`
    insert into public.deployments (agent_id, user_id, cluster_id, stack_name, state, containers)
    select ${agent}, ${user}, c.id, ${`bench-${agent}`}, 'running', ${sql.json([container])}
    from public.clusters c where c.is_default
  `;
  await sql`
    insert into private.collections (agent_id, cluster_id)
    select ${agent}, c.id from public.clusters c where c.is_default
  `;
  return agent;
}

if (import.meta.main) console.log(await run());
