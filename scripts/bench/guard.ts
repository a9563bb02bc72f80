/** What the guard that PostgREST calls before each request adds to it. */
import postgres from "postgres";
import { withThrowAwayDatabase } from "../throw-away-database.ts";
import { claimsOf, fillFleet, ownerOf } from "./fleet.ts";
import type { BenchResult } from "./result.ts";
import { median } from "./statistics.ts";

const OWNERS = 100;
const ROUNDS = 1500;
const IN_FLIGHT = 8;

export async function run(): Promise<BenchResult[]> {
  // Durable as an installation is: a change is answered when it is on disk.
  return await withThrowAwayDatabase(async (url, superuserUrl) => {
    const admin = postgres(superuserUrl, { max: 1, onnotice: () => {} });
    const sql = postgres(url, { max: IN_FLIGHT, onnotice: () => {} });
    try {
      await fillFleet(admin, 1, OWNERS);
      await admin`
        update public.settings set value = '1000000000' where category = 'rate_limit' and key = 'query_limit'`;
      await admin.unsafe("vacuum analyze");
      return [
        await compare(
          "PATCH of an agent",
          "at most 1.3",
          (guarded, round) => request(sql, ownerOf(round, OWNERS), guarded, false, change),
        ),
        await compare(
          "GET of a page of agents",
          "at most 1.3",
          (guarded, round) => request(sql, ownerOf(round, OWNERS), guarded, true, read),
        ),
        await compare(`PATCH by one user, ${IN_FLIGHT} at once`, "at most 1.3", async (guarded) => {
          await Promise.all(
            Array.from(
              { length: IN_FLIGHT },
              (_, lane) =>
                request(
                  sql,
                  ownerOf(1, OWNERS),
                  guarded,
                  false,
                  (t, owner) => change(t, owner, lane),
                ),
            ),
          );
        }, ROUNDS / IN_FLIGHT),
      ];
    } finally {
      await sql.end();
      await admin.end();
    }
  }, {});
}

type Statement = (
  sql: postgres.TransactionSql,
  owner: string,
  nth?: number,
) => postgres.PendingQuery<
  postgres.Row[]
>;

/** One request's transaction as PostgREST runs it: settings, guard, statement. */
async function request(
  sql: postgres.Sql,
  owner: string,
  guarded: boolean,
  readOnly: boolean,
  statement: Statement,
): Promise<void> {
  await sql.begin(readOnly ? "read only" : "read write", (t) => [
    t`select set_config('role', 'authenticated', true), set_config('request.jwt.claims', ${
      claimsOf(owner)
    }, true)`,
    ...guarded ? [t`select private.guard_request()`] : [],
    statement(t, owner),
  ]);
}

const change: Statement = (sql, owner, nth = 0) =>
  sql`
  update public.agents set description = ${crypto.randomUUID()}
  where id = (select id from public.agents where user_id = ${owner} order by id offset ${nth} limit 1)`;

const read: Statement = (sql, owner) =>
  sql`
  select coalesce(json_agg(page), '[]') as body from (
    select * from public.agents where user_id = ${owner} order by created_at desc limit 20
  ) page`;

/** Time with the guard against time without, taking turns: a busy machine slows both. */
async function compare(
  name: string,
  target: string,
  work: (guarded: boolean, round: number) => Promise<void>,
  rounds = ROUNDS,
): Promise<BenchResult> {
  const taken = { with: [] as number[], without: [] as number[] };
  for (let round = 0; round < rounds; round++) {
    for (const guarded of round % 2 === 0 ? [true, false] : [false, true]) {
      const began = performance.now();
      await work(guarded, round);
      taken[guarded ? "with" : "without"].push(performance.now() - began);
    }
  }
  const [guarded, bare] = [median(taken.with), median(taken.without)];
  return {
    name: `guard of requests over PostgREST: ${name}`,
    ratio: guarded / bare,
    target,
    detail: `${guarded.toFixed(2)} ms with, ${bare.toFixed(2)} ms without`,
  };
}
