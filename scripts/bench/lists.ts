/** What reading one's own agents and everybody's figures costs as the table grows, and what row level security adds. */
import postgres from "postgres";
import { withThrowAwayDatabase } from "../throw-away-database.ts";
import { claimsOf, fillFleet, ownerOf, promote } from "./fleet.ts";
import type { BenchResult } from "./result.ts";

const rounds = 2000;

export async function run(): Promise<BenchResult[]> {
  return await withThrowAwayDatabase(async (url, superuserUrl) => {
    const admin = postgres(superuserUrl, { max: 1, onnotice: () => {} });
    const sql = postgres(url, { max: 1, onnotice: () => {} });
    try {
      await fillFleet(admin, 1, 100);
      await promote(admin, ownerOf(0, 100));
      await timeFigures(sql);
      const fewFigures = await timeFigures(sql);
      await timeList(sql, 100);
      const small = await timeList(sql, 100);
      await fillFleet(admin, 101, 10_000);
      await timeList(sql, 10_000);
      const large = await timeList(sql, 10_000);
      await timeFigures(sql);
      const manyFigures = await timeFigures(sql);
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
          name:
            "system_metrics and list_agents of an administrator, a million against ten thousand",
          ratio: manyFigures / fewFigures,
          target: "at most 1.3",
          detail: `${milliseconds(manyFigures)} against ${milliseconds(fewFigures)}`,
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

/** Median time of `list_agents` as one owner after the other, as the api function sends it. */
function timeList(sql: postgres.Sql, owners: number): Promise<number> {
  return time((round) =>
    sql.unsafe(`
      select set_config('role', 'authenticated', true), set_config('request.jwt.claims', '${
      claimsOf(ownerOf(round, owners))
    }', true);
      select public.list_agents()
    `).simple()
  );
}

/** Median time of everybody's figures and the first page of everybody's agents. */
function timeFigures(sql: postgres.Sql): Promise<number> {
  return time(() =>
    sql.unsafe(`
      select set_config('role', 'authenticated', true), set_config('request.jwt.claims', '${
      claimsOf(ownerOf(0, 100))
    }', true);
      select public.system_metrics(), public.list_agents()
    `).simple()
  );
}

/** Median time of a page read from the table as PostgREST does: prepared, in a transaction, as JSON. */
function timeRead(sql: postgres.Sql, role: string, owners: number): Promise<number> {
  return time((round) => {
    const owner = ownerOf(round, owners);
    return sql.begin((t) => [
      t`select set_config('role', ${role}, true), set_config('request.jwt.claims', ${
        claimsOf(owner)
      }, true)`,
      t`
        select coalesce(json_agg(page), '[]') as body from (
          select * from public.agents where user_id = ${owner} order by created_at desc limit 20
        ) page`,
    ]);
  });
}

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
