/** What a user's search and an administrator's cost in a table of a million agents. */
import postgres from "postgres";
import { withThrowAwayDatabase } from "../throw-away-database.ts";
import { claimsOf, fillFleet, ownerOf, promote } from "./fleet.ts";
import type { BenchResult } from "./result.ts";

const OWNERS = 10_000;
const ROUNDS = 2000;
const TARGET_MS = 10;
const ADMIN_ROUNDS = 140;
const ADMIN_TARGET_MS = 250;

/** Words, beginnings, several words, and words that were mistyped or stand nowhere. */
const QUERIES = [
  "trading",
  "supp",
  "weather discord",
  "markets",
  "travel guide 42",
  "tradng",
  "xylophone",
];

/** Beside those what every agent, every fourth or every seventh has, and several such words at once. */
const COMMON_QUERIES = [
  ...QUERIES,
  "bot",
  "discord",
  "answers questions",
  "trading bot",
  "a",
  "42",
];

/** Common words with a status that one agent in ten thousand has. */
const RARE_ROUNDS = 60;
const RARE = ["bot", "discord", "answers questions", "a"];

export async function run(): Promise<BenchResult[]> {
  return await withThrowAwayDatabase(async (url, superuserUrl) => {
    const admin = postgres(superuserUrl, { max: 1, onnotice: () => {} });
    const sql = postgres(url, { max: 1, onnotice: () => {} });
    try {
      await fillFleet(admin, 1, OWNERS);
      const own = (round: number) => ownerOf(round, OWNERS);
      await timeSearches(sql, own, QUERIES, ROUNDS);
      const result = (name: string, targetMs: number, taken: number[]): BenchResult => {
        const median = taken[Math.floor(taken.length / 2)]!;
        const p95 = taken[Math.floor(taken.length * 0.95)]!;
        return {
          name,
          ratio: p95 / targetMs,
          target: `at most 1 (${targetMs} ms)`,
          detail: `95 of 100 within ${p95.toFixed(2)} ms, half within ${median.toFixed(2)} ms`,
        };
      };
      const users = await timeSearches(sql, own, QUERIES, ROUNDS);
      await promote(admin, own(0));
      const everybody = () => own(0);
      await timeSearches(sql, everybody, COMMON_QUERIES, COMMON_QUERIES.length);
      const administrators = await timeSearches(sql, everybody, COMMON_QUERIES, ADMIN_ROUNDS);
      await admin`update public.deployments set state = 'failed' where hashtext(agent_id::text) % 10000 = 0`;
      const failed = ", status => '{failed}'";
      await timeSearches(sql, everybody, RARE, RARE.length, failed);
      const rare = await timeSearches(sql, everybody, RARE, RARE_ROUNDS, failed);
      return [
        result(
          "95 of 100 searches of a user, of a million agents of ten thousand owners",
          TARGET_MS,
          users,
        ),
        result(
          "95 of 100 searches of an administrator in all of them, very common words too",
          ADMIN_TARGET_MS,
          administrators,
        ),
        result(
          "95 of 100 searches of an administrator for very common words with a rare status",
          ADMIN_TARGET_MS,
          rare,
        ),
      ];
    } finally {
      await sql.end();
      await admin.end();
    }
  });
}

/** Sorted times in ms of `search_agents` as one owner after the other, as the api function sends it. */
async function timeSearches(
  sql: postgres.Sql,
  ownerIn: (round: number) => string,
  queries: readonly string[],
  rounds: number,
  filter = "",
): Promise<number[]> {
  const taken: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const claims = claimsOf(ownerIn(round));
    const query = queries[round % queries.length]!;
    const start = performance.now();
    await sql.unsafe(`
      select set_config('role', 'authenticated', true), set_config('request.jwt.claims', '${claims}', true);
      select public.search_agents('${query}'${filter})
    `).simple();
    taken.push(performance.now() - start);
  }
  return taken.sort((a, b) => a - b);
}

if (import.meta.main) console.log(await run());
