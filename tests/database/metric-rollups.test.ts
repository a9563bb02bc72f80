/** Roll-ups of measurements: whatever was rolled up, and whenever, the figures are those of the samples. */
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createRunningAgent, createWorld, type Person, refusal, type World } from "./support.ts";

let world: World;
let owner: Person;
let agentId: string;

beforeAll(async () => {
  world = await createWorld();
  await world.sql`select private.ensure_partitions(now() - interval '32 days', '40 days')`;
  owner = await world.person();
});

beforeEach(async () => {
  agentId = await createRunningAgent(world, owner);
});

interface Figure {
  current: number | null;
  average: number | null;
  max: number | null;
  min: number | null;
  data_points: { timestamp: string; value: number | null; min: number; max: number }[];
}

type Series = Record<"cpu" | "memory" | "requests_per_minute" | "error_rate", Figure> & {
  samples: number;
};

/** Samples at random from `from` ago until `to` ago, every `every`; a figure now and then unknown. */
function sample(from: string, to: string, every: string): Promise<unknown> {
  return world.sql`
    insert into agent_metrics (agent_id, user_id, timestamp, replicas, cpu_usage, cpu_limit, memory_usage,
      requests_per_minute, error_rate, response_time_ms)
    select ${agentId}, ${owner.id}, moment, 1, random(), 2, (random() * 1e9)::bigint,
      case when random() < 0.7 then random() * 100 end, case when random() < 0.5 then random() end, random() * 50
    from generate_series(now() - ${from}::interval, now() - ${to}::interval, ${every}::interval) moment
    on conflict do nothing`;
}

const rollUp = () => world.sql`select private.roll_up_metrics()`;

async function series(since: Date, bin: string): Promise<Series> {
  const rows = await owner.do((t) =>
    t`select agent_metric_series(${agentId}, ${since}, ${bin}) as series`
  );
  return rows[0]?.series as Series;
}

/** The same, counted sample by sample. */
async function truth(since: Date, bin: string) {
  const samples = await world.sql<
    { bin: Date; cpu: number; memory: number; rate: number | null; errors: number | null }[]
  >`
    select date_bin(${bin}, timestamp, '2024-01-01 00:00:00+00') as bin, 100 * cpu_usage / cpu_limit as cpu,
      memory_usage::float8 as memory, requests_per_minute as rate, error_rate as errors
    from agent_metrics where agent_id = ${agentId} and timestamp >= ${since} order by timestamp`;
  const figure = (pick: (row: typeof samples[number]) => number | null, gaps: boolean) => {
    const bins = new Map<string, number[]>();
    for (const row of samples) {
      const values = bins.get(row.bin.toISOString()) ?? [];
      const value = pick(row);
      if (value !== null) values.push(value);
      if (value !== null || !gaps) bins.set(row.bin.toISOString(), values);
    }
    const all = [...bins.values()].flat();
    const last = samples.at(-1);
    return {
      current: last === undefined ? null : pick(last),
      average: average(all),
      max: all.length === 0 ? null : Math.max(...all),
      min: all.length === 0 ? null : Math.min(...all),
      points: [...bins].map(([timestamp, values]) => ({
        timestamp,
        value: average(values),
        max: Math.max(...values),
        min: Math.min(...values),
      })),
    };
  };
  return {
    samples: samples.length,
    cpu: figure((row) => row.cpu, false),
    memory: figure((row) => row.memory, false),
    requests_per_minute: figure((row) => row.rate, true),
    error_rate: figure((row) => row.errors, true),
  };
}

const average = (values: number[]) =>
  values.length === 0 ? null : values.reduce((sum, value) => sum + value, 0) / values.length;

const near = (value: number | null) => value === null ? null : Number(value.toPrecision(9));

async function expectTruth(since: Date, bin: string): Promise<void> {
  const [told, counted] = [await series(since, bin), await truth(since, bin)];
  expect(told.samples).toBe(counted.samples);
  for (const name of ["cpu", "memory", "requests_per_minute", "error_rate"] as const) {
    const { data_points, ...ends } = told[name];
    const { points, ...countedEnds } = counted[name];
    for (const end of ["current", "average", "max", "min"] as const) {
      expect([name, end, near(ends[end])]).toEqual([name, end, near(countedEnds[end])]);
    }
    expect(
      data_points.map((point) => [
        new Date(point.timestamp).toISOString(),
        near(point.value),
        near(point.min),
        near(point.max),
      ]),
    ).toEqual(
      points.map((point) => [point.timestamp, near(point.value), near(point.min), near(point.max)]),
    );
  }
}

const ago = (hours: number) => new Date(Date.now() - hours * 3_600_000);
const BINS = ["1 minute", "5 minutes", "15 minutes", "1 hour"];

describe("the figures are those of the samples", () => {
  test("before anything was rolled up", async () => {
    await sample("3 hours", "0", "17 seconds");
    for (const bin of BINS) await expectTruth(ago(2.51), bin);
  });

  test("after it was, in every timeframe and interval", async () => {
    await sample("30 days", "3 days", "37 minutes");
    await sample("3 days", "0", "4 minutes 11 seconds");
    await rollUp();
    for (const [hours, bins] of [[1, 4], [6, 4], [24, 4], [24 * 7, 4], [24 * 30, 3]] as const) {
      for (const bin of BINS.slice(4 - bins)) await expectTruth(ago(hours), bin);
    }
  });

  test("while some is rolled up, some is not, and more comes late", async () => {
    await sample("30 hours", "2 hours", "23 seconds");
    await rollUp();
    await sample("1 hour", "0", "23 seconds");
    await sample("20 hours", "19 hours", "31 seconds");
    for (const bin of BINS) await expectTruth(ago(29.3), bin);
    await world.sql`select private.roll_up_minutes(now(), 50)`;
    for (const bin of BINS) await expectTruth(ago(29.3), bin);
    await rollUp();
    await rollUp();
    for (const bin of BINS) await expectTruth(ago(29.3), bin);
  });

  test("when the samples themselves are gone", async () => {
    await sample("5 hours", "3 hours", "10 seconds");
    const since = ago(24);
    const before = await series(since, "1 hour");
    await rollUp();
    await world.sql`delete from agent_metrics where agent_id = ${agentId}`;
    const after = await series(since, "1 hour");
    expect(after.samples).toBe(before.samples);
    expect(after.cpu.max).toBeCloseTo(before.cpu.max!, 9);
    expect(after.cpu.data_points).toHaveLength(before.cpu.data_points.length);
  });
});

test("the roll-ups are what is read: a month by the hour comes from hours", async () => {
  await sample("3 days", "2 days", "1 minute");
  await rollUp();
  await world.sql`update agent_metric_hours set cpu_percent_max = 4711 where agent_id = ${agentId}`;
  expect((await series(ago(24 * 30), "1 hour")).cpu.max).toBe(4711);
});

test("the job is scheduled", async () => {
  const [job] = await world.sql`select * from cron.job where jobname = 'roll-up-metrics'`;
  expect(job).toMatchObject({ active: true, command: "select private.roll_up_metrics()" });
});

test("a run that was missed is caught up, and one too many changes nothing", async () => {
  await sample("26 hours", "1 hour", "1 minute");
  await rollUp();
  const state = () =>
    world.sql`select * from agent_metric_hours where agent_id = ${agentId} order by starts`;
  const first = await state();
  expect(first.length).toBeGreaterThan(24);
  const [again] = await world.sql`select private.roll_up_metrics() as done`;
  expect(again?.done).toEqual({ minutes: 0, hours: 0 });
  expect(await state()).toEqual(first);
});

test("a sample whose insert is not committed is not forgotten by a run in between", async () => {
  const moment = new Date((Math.floor(Date.now() / 60_000) - 5) * 60_000);
  const insert = (sql: World["sql"], at: Date, usage: number) =>
    sql`insert into agent_metrics (agent_id, user_id, timestamp, replicas, cpu_usage, cpu_limit)
      values (${agentId}, ${owner.id}, ${at}, 1, ${usage}, 1)`;
  await insert(world.sql, moment, 0.25);
  await world.sql.begin(async (open) => {
    await insert(open as unknown as World["sql"], new Date(moment.getTime() + 1), 0.75);
    await rollUp();
  });
  await rollUp();
  const [minute] = await world
    .sql`select * from agent_metric_minutes where agent_id = ${agentId}`;
  expect(minute).toMatchObject({ samples: 2, cpu_percent_sum: 100, cpu_percent_max: 75 });
});

test("more bins than allowed are refused by name", async () => {
  expect(await refusal(series(ago(24 * 31), "1 minute"))).toMatchObject({
    code: "VALIDATION_ERROR",
    status: 400,
    details: { interval: expect.stringContaining("43200") },
  });
});

test.each(["1 month", "1 year"])("a bin of %s is refused by name", async (bin) => {
  expect(await refusal(series(ago(24), bin))).toMatchObject({
    code: "VALIDATION_ERROR",
    details: { interval: expect.stringContaining("days") },
  });
});

test("strangers see nothing of them, operators do", async () => {
  await sample("2 hours", "1 hour", "1 minute");
  await rollUp();
  const stranger = await world.person();
  const operator = await world.person("operator");
  for (const table of ["agent_metric_minutes", "agent_metric_hours"]) {
    const read = (person: Person) =>
      person.do((t) => t`select 1 from ${t(table)} where agent_id = ${agentId}`);
    expect(await read(stranger)).toHaveLength(0);
    expect((await read(operator)).length).toBeGreaterThan(0);
    expect((await read(owner)).length).toBeGreaterThan(0);
    expect(await refusal(owner.do((t) => t`delete from ${t(table)}`))).toMatchObject({
      code: "42501",
    });
  }
});

test("old roll-ups go by their settings", async () => {
  await world.sql`select private.ensure_partitions(now() - interval '500 days', '1 day')`;
  const partitions = async () =>
    (await world.sql`
      select relname from pg_class where relkind = 'r' and relname ~ '^agent_metric_(minutes|hours)_'`)
      .length;
  const before = await partitions();
  await world.sql`select private.drop_expired_partitions()`;
  expect(before - await partitions()).toBe(2);
});
