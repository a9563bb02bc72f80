/** How many log lines there are: counted beside them, and always the same number as counted one by one. */
import { beforeAll, beforeEach, expect, test } from "vitest";
import { writeLog } from "../support/logs.ts";
import { createRunningAgent, createWorld, type Person, type World } from "./support.ts";

let world: World;
let owner: Person;
let agentId: string;

beforeAll(async () => {
  world = await createWorld();
  owner = await world.person();
});

beforeEach(async () => {
  agentId = await createRunningAgent(world, owner);
});

const levels = ["DEBUG", "INFO", "WARN", "ERROR"];
const HOUR = 3_600_000;

/** Lines over the last `hours` hours, of three containers and none. */
const write = (number: number, hours: number) =>
  writeLog(
    world.sql,
    { agentId, userId: owner.id },
    Array.from({ length: number }, (_, index) => ({
      timestamp: new Date(Date.now() - Math.random() * hours * HOUR).toISOString(),
      level: levels[index % 4]!,
      message: `line ${index}`,
      source: null,
      container_id: index % 5 === 0 ? null : `c0ffee${index % 3}`,
      container_name: index % 5 === 0 ? null : `agent-${index % 3}`,
      metadata: null,
    })),
  );

interface Filter {
  since?: Date;
  levels?: string[];
  container?: string;
}

async function total({ since, levels, container }: Filter): Promise<number> {
  const rows = await owner.do((t) =>
    t`select agent_log_lines(${agentId}, 1, ${since ?? null}, ${levels ?? null}, ${
      container ?? null
    }) as answer`
  );
  return rows[0]?.answer.total_lines;
}

async function counted({ since, levels, container }: Filter): Promise<number> {
  const [row] = await world.sql`
    select count(*)::int as number from agent_logs where agent_id = ${agentId}
      and timestamp >= ${since ?? new Date(0)} and (${
    levels ?? null
  }::text[] is null or level = any (${levels ?? null}))
      and (${container ?? null}::text is null or container_name = ${
    container ?? null
  } or starts_with(container_id, ${container ?? null}))`;
  return row?.number;
}

/** Moments in the first and in the second half of an hour, and at its very beginning. */
const moments = [0.2, 0.8, 1.3, 1.7, 5.4].map((hours) => new Date(Date.now() - hours * HOUR))
  .concat(new Date(Math.floor(Date.now() / HOUR) * HOUR));

test("totals are true whatever is filtered by", async () => {
  await write(3000, 6);
  for (const since of [undefined, ...moments]) {
    for (const levels of [undefined, ["ERROR"], ["INFO", "WARN"]]) {
      for (const container of [undefined, "agent-1", "c0ffee2", "c0f", "nobody"]) {
        const filter = { since, levels, container };
        expect([filter, await total(filter)]).toEqual([filter, await counted(filter)]);
      }
    }
  }
});

test("lines written by several at once are all counted", async () => {
  await Promise.all(Array.from({ length: 8 }, () => write(200, 2)));
  expect(await total({})).toBe(1600);
});

test("lines that a rolled-back transaction wrote are not", async () => {
  await world.sql.begin(async (t) => {
    await writeLog(
      { begin: (work: (sql: typeof t) => unknown) => work(t) } as unknown as World["sql"],
      { agentId, userId: owner.id },
      [{
        timestamp: new Date().toISOString(),
        level: "INFO",
        message: "x",
        source: null,
        container_id: null,
        container_name: null,
        metadata: null,
      }],
    );
    throw new Error("enough");
  }).catch(() => {});
  expect(await total({})).toBe(0);
});

test("deleted lines are taken off", async () => {
  await write(400, 3);
  await world
    .sql`delete from agent_logs where agent_id = ${agentId} and level in ('DEBUG', 'INFO')`;
  expect(await total({})).toBe(200);
  expect(await total({ levels: ["DEBUG"] })).toBe(0);
  expect(
    await world.sql`select 1 from agent_log_counts where agent_id = ${agentId} and level = 'DEBUG'`,
  )
    .toHaveLength(0);
});

test("a deleted agent leaves no counts", async () => {
  await write(50, 3);
  await owner.do((t) => t`select delete_agent(${agentId})`);
  expect(await world.sql`select 1 from agent_log_counts where agent_id = ${agentId}`).toHaveLength(
    0,
  );
});

test("counts go with the partition that held the lines, and only those", async () => {
  await write(60, 3);
  await world.sql`select private.ensure_partitions(now() - interval '20 days', interval '1 day')`;
  const old = new Date(Date.now() - 20 * 24 * HOUR).toISOString();
  await writeLog(
    world.sql,
    { agentId, userId: owner.id },
    Array.from({ length: 7 }, () => ({
      timestamp: old,
      level: "INFO",
      message: "old",
      source: null,
      container_id: null,
      container_name: null,
      metadata: null,
    })),
  );
  expect(await total({})).toBe(67);
  await world.sql`select private.drop_expired_partitions()`;
  expect(await total({})).toBe(60);
});

test("strangers see no counts, and nobody writes them", async () => {
  await write(10, 1);
  const stranger = await world.person();
  expect(await stranger.do((t) => t`select 1 from agent_log_counts`)).toHaveLength(0);
  expect((await owner.do((t) => t`select 1 from agent_log_counts`)).length).toBeGreaterThan(0);
  await expect(owner.do((t) => t`update agent_log_counts set lines = 1`)).rejects.toMatchObject({
    code: "42501",
  });
});
