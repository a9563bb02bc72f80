/** What the api function costs beyond the SQL: against a bare handler, and to create an agent. */
import postgres from "postgres";
import { fileURLToPath } from "node:url";
import { tradingBot } from "../demo/requests.ts";
import { withThrowAwayDatabase } from "../throw-away-database.ts";
import { configuredFunctions, type RunningFunctions, startFunctions } from "./function-process.ts";
import { createOwner } from "./owner.ts";
import { load, type LoadRequest } from "./load.ts";
import type { BenchResult } from "./result.ts";
import { median, range } from "./statistics.ts";

const AGENTS = 100;
const IN_FLIGHT = 32;
const ROUNDS = 20;
const ROUND_MS = 500;
const POOL_SIZE = "10";

export async function run(): Promise<BenchResult[]> {
  // Durable as an installation is: POST answers when the agent is on disk.
  return await withThrowAwayDatabase(async (url, superuserUrl) => {
    const admin = postgres(superuserUrl, { max: 1, onnotice: () => {} });
    const api = configuredFunctions().find(({ name }) => name === "api")!;
    const bare = fileURLToPath(new URL("bare-handler.ts", import.meta.url));
    try {
      await liftLimits(admin);
      const functions = await startFunctions(
        [api, { name: "bare", entrypoint: bare, importMap: api.importMap }],
        url,
        { DATABASE_POOL_SIZE: POOL_SIZE },
      );
      try {
        const owner = await signUp(admin, functions);
        const taken = await createAgents(functions, owner, AGENTS);
        const others = await Promise.all(
          Array.from({ length: IN_FLIGHT }, () => signUp(admin, functions)),
        );
        for (const other of others) await createAgents(functions, other, 1);
        await letRun(admin);
        const agents = await idsOf(admin);
        const read = ({ userId, token }: User) => ({
          path: `/api/agents/${agents.get(userId)}`,
          token,
        });
        return [
          describeCreation(taken),
          await compare(functions, "GET /api/agents/{id}", [read(owner)]),
          await compare(functions, "GET /api/agents", [{
            path: "/api/agents",
            token: owner.token,
          }]),
          // Nothing that one caller's requests share, such as the count of its requests, helps here.
          await compare(
            functions,
            `GET /api/agents/{id} by ${IN_FLIGHT} callers`,
            others.map(read),
          ),
        ];
      } finally {
        await functions.close();
      }
    } finally {
      await admin.end();
    }
  }, {});
}

interface User {
  userId: string;
  token: string;
}

async function signUp(admin: postgres.Sql, functions: RunningFunctions): Promise<User> {
  const userId = await createOwner(admin);
  return { userId, token: await functions.sign(userId) };
}

async function compare(
  functions: RunningFunctions,
  name: string,
  requests: LoadRequest[],
): Promise<BenchResult> {
  const api = await functions.port("api");
  const bare = await functions.port("bare");
  for (const port of [api, bare]) await load(port, requests, IN_FLIGHT, ROUND_MS);
  const rates = { api: [] as number[], bare: [] as number[] };
  for (let round = 0; round < ROUNDS; round++) {
    rates.api.push(await load(api, requests, IN_FLIGHT, ROUND_MS));
    rates.bare.push(await load(bare, requests, IN_FLIGHT, ROUND_MS));
  }
  // Round against round: a machine that is busy for a while slows both of its neighbours.
  const ratios = rates.api.map((rate, round) => rate / rates.bare[round]!);
  return {
    name: `${name} against a bare handler with the same SQL`,
    ratio: median(ratios),
    target: "at least 0.7",
    detail: `${Math.round(median(rates.api))} against ${Math.round(median(rates.bare))} requests ` +
      `a second, ${IN_FLIGHT} in flight, rounds ${range(ratios, 2)}`,
  };
}

/** One after the other, each with the request of seed 000; gives the milliseconds that each took. */
async function createAgents(
  functions: RunningFunctions,
  { token }: User,
  count: number,
): Promise<number[]> {
  const url = `http://127.0.0.1:${await functions.port("api")}/api/agents`;
  const taken: number[] = [];
  for (let number = 0; number < count; number++) {
    const name = `agent-${crypto.randomUUID()}`;
    const portainer = { ...tradingBot.portainer, stack_name: name };
    const body = JSON.stringify({ ...tradingBot, agentName: name, portainer });
    const began = performance.now();
    const answer = await fetch(url, {
      method: "POST",
      headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
      body,
    });
    const text = await answer.text();
    taken.push(performance.now() - began);
    if (answer.status !== 201) throw new Error(`POST /api/agents answered ${text}`);
  }
  return taken;
}

function describeCreation(taken: number[]): BenchResult {
  // The first ones warm the function up.
  const warm = taken.slice(taken.length / 5);
  return {
    name: "POST /api/agents, median in ms",
    ratio: median(warm),
    target: "at most 50",
    detail: `${range(warm, 1)} ms over ${warm.length} requests`,
  };
}

async function liftLimits(admin: postgres.Sql): Promise<void> {
  await admin`
    update public.settings set value = '1000000000'
    where (category = 'rate_limit' and key like '%_limit') or (category = 'agents' and key like 'max%per_user')`;
  await admin`
    select private.register_default_cluster('portainer', 'bench', 'http://127.0.0.1:9', 1, null, 'none', '{}')`;
}

/** Makes every agent one that runs and is measured. */
async function letRun(admin: postgres.Sql): Promise<void> {
  await admin.unsafe(`
    set session_replication_role = replica;
    update public.operations set state = 'succeeded', progress = 100, started_at = now(), finished_at = now();
    update public.agents set status = 'deployed';
    update public.deployments d set
      state = 'running', replicas_ready = replicas_desired, stack_id = '1', orchestrator = 'portainer-compose',
      url = 'http://127.0.0.1:3000', deployed_at = now(), last_checked_at = now(),
      containers = (
        select jsonb_agg(jsonb_build_object(
          'id', md5(d.id::text || n), 'name', d.stack_name || '-' || n, 'status', 'running', 'health', 'healthy',
          'image', 'elizaos/eliza:latest', 'started_at', now(), 'finished_at', null, 'restart_count', 0,
          'exit_code', null, 'oom_killed', false
        )) from generate_series(1, d.replicas_desired) n
      );
    reset session_replication_role;
    insert into public.agent_metrics (agent_id, user_id, replicas, cpu_usage, cpu_limit, memory_usage, memory_limit)
      select agent_id, user_id, replicas_desired, 0.2, 1.5, 200000000, 3221225472 from public.deployments;
  `);
  await admin.unsafe("vacuum analyze");
}

/** One agent of each owner. */
async function idsOf(admin: postgres.Sql): Promise<Map<string, string>> {
  const rows = await admin<{ user_id: string; id: string }[]>`
    select distinct on (user_id) user_id, id from public.agents`;
  return new Map(rows.map(({ user_id, id }) => [user_id, id]));
}
