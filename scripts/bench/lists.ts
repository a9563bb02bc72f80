/** What reading one's own agents costs as the table grows, and what row level security adds. */
import postgres from "postgres";
import { withThrowAwayDatabase } from "../throw-away-database.ts";
import type { BenchResult } from "./result.ts";

const agentsPerOwner = 100;
const rounds = 2000;

export async function run(): Promise<BenchResult[]> {
  return await withThrowAwayDatabase(async (url, superuserUrl) => {
    const admin = postgres(superuserUrl, { max: 1, onnotice: () => {} });
    const sql = postgres(url, { max: 1, onnotice: () => {} });
    try {
      await fill(admin, 1, 100);
      await timeList(sql, 100);
      const small = await timeList(sql, 100);
      await fill(admin, 101, 10_000);
      await timeList(sql, 10_000);
      const large = await timeList(sql, 10_000);
      const protectedRead = await timeRead(sql, "authenticated", 10_000);
      const plainRead = await timeRead(sql, "service_role", 10_000);
      return [
        {
          name: "list of agents, a million of ten thousand owners against ten thousand",
          ratio: large / small,
          target: "at most 1.3",
          detail: `${milliseconds(large)} against ${milliseconds(small)}`,
        },
        {
          name: "row level security on a list of agents",
          ratio: protectedRead / plainRead,
          target: "at most 1.2",
          detail: `${milliseconds(protectedRead)} with, ${milliseconds(plainRead)} without`,
        },
      ];
    } finally {
      await sql.end();
      await admin.end();
    }
  });
}

const ownerId = (number: number) =>
  `00000000-0000-4000-8000-${number.toString(16).padStart(12, "0")}`;

/** Owners `from` to `to` with their agents and deployments, past the triggers. */
async function fill(admin: postgres.Sql, from: number, to: number): Promise<void> {
  const owner = `('00000000-0000-4000-8000-' || lpad(to_hex(o), 12, '0'))::uuid`;
  await admin.unsafe(`
    set session_replication_role = replica;
    insert into auth.users (id, email, instance_id, aud, role)
      select ${owner}, 'u' || o || '@example.com', '00000000-0000-0000-0000-000000000000', 'authenticated', 'authenticated'
      from generate_series(${from}, ${to}) o;
    insert into public.profiles (id, username) select ${owner}, 'u' || o from generate_series(${from}, ${to}) o;
    insert into public.agents (user_id, name, model, status, created_at)
      select ${owner}, 'agent ' || n, 'gpt-4o', 'deployed', now() - random() * interval '100 days'
      from generate_series(1, ${agentsPerOwner}) n, generate_series(${from}, ${to}) o;
    insert into public.deployments (agent_id, user_id, stack_name, state)
      select a.id, a.user_id, 's-' || a.id, 'running' from public.agents a
      where a.user_id between ${owner.replace("(o)", `(${from})`)} and ${
    owner.replace("(o)", `(${to})`)
  };
    reset session_replication_role;
  `);
  for (const table of ["public.agents", "public.deployments", "public.profiles", "auth.users"]) {
    await admin.unsafe(`vacuum analyze ${table}`);
  }
  await admin.unsafe("checkpoint");
}

/** Median time of `list_agents` as one owner after the other, as the api function sends it. */
function timeList(sql: postgres.Sql, owners: number): Promise<number> {
  return time((round) =>
    sql.unsafe(`
      select set_config('role', 'authenticated', true), set_config('request.jwt.claims', '${
      claims(pick(round, owners))
    }', true);
      select public.list_agents()
    `).simple()
  );
}

/** Median time of a page read from the table as PostgREST does: prepared, in a transaction, as JSON. */
function timeRead(sql: postgres.Sql, role: string, owners: number): Promise<number> {
  return time((round) => {
    const owner = pick(round, owners);
    return sql.begin((t) => [
      t`select set_config('role', ${role}, true), set_config('request.jwt.claims', ${
        claims(owner)
      }, true)`,
      t`
        select coalesce(json_agg(page), '[]') as body from (
          select * from public.agents where user_id = ${owner} order by created_at desc limit 20
        ) page`,
    ]);
  });
}

const pick = (round: number, owners: number) => ownerId(1 + (round * 7919) % owners);
const claims = (owner: string) => JSON.stringify({ sub: owner, role: "authenticated" });

async function time(work: (round: number) => Promise<unknown>): Promise<number> {
  const taken: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const start = performance.now();
    await work(round);
    taken.push(performance.now() - start);
  }
  return taken.sort((a, b) => a - b)[rounds / 2]!;
}

const milliseconds = (value: number) => `${value.toFixed(2)} ms`;
