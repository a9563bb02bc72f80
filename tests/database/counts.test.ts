/** The counts that figures of everybody are read from equal what counting would find, whatever happened to the rows. */
import { beforeAll, expect, test } from "vitest";
import {
  call,
  claim,
  createAgent,
  createRunningAgent,
  createWorld,
  finishNext,
  type Person,
  type World,
} from "./support.ts";

let world: World;
let owner: Person;
beforeAll(async () => {
  world = await createWorld();
  owner = await world.person();
});

const EVERYBODY = [
  "00000000-0000-0000-0000-000000000000",
  "ffffffff-ffff-ffff-ffff-ffffffffffff",
] as const;
const kept = async () =>
  Object.fromEntries(
    (await world.sql`select name, number from private.current_counts() where number <> 0`)
      .map((row) => [row.name, Number(row.number)]),
  );
const counted = async () =>
  Object.fromEntries(
    (await world.sql`
      select name, number from private.count_rows(${EVERYBODY[0]}, ${
      EVERYBODY[1]
    }) where number <> 0`)
      .map((row) => [row.name, Number(row.number)]),
  );
/** They equal the truth, before they are folded and after. */
async function expectTruth() {
  const truth = await counted();
  expect(await kept()).toEqual(truth);
  await world.sql`select private.fold_counts()`;
  expect(await kept()).toEqual(truth);
  return truth;
}
const observe = (id: string, containers: object[]) =>
  world.sql`select private.observe_deployment(${id}, ${world.sql.json({ containers } as never)})`;

test("through the life of an agent", async () => {
  const id = await createRunningAgent(world, owner);
  expect(await expectTruth()).toMatchObject({
    agents: 1,
    "deployments.running": 1,
    "deploys.succeeded": 1,
  });
  await observe(id, [
    { id: "1", name: "1", status: "running" },
    { id: "2", name: "2", status: "exited", exit_code: 1 },
    { id: "3", name: "3", status: "exited", exit_code: 0 },
  ]);
  expect(await expectTruth()).toMatchObject({
    "containers.running": 1,
    "containers.failed": 1,
    "containers.stopped": 1,
  });
  await call(owner, "public.stop_agent($1)", id);
  await finishNext(world.sql);
  expect(await expectTruth()).toMatchObject({
    "deployments.stopped": 1,
    "containers.stopped": 2,
  });
  await call(owner, "public.delete_agent($1)", id);
  await finishNext(world.sql);
  expect(await expectTruth()).toEqual({ "deploys.succeeded": 1 });
  await world.sql`delete from public.agents where id = ${id}`;
  await world.sql`delete from public.operations where agent_id = ${id}`;
  expect(await expectTruth()).toEqual({});
});

test("of a deployment that fails", async () => {
  await createAgent(owner);
  const [claimed] = await claim(world.sql);
  await world.sql`select private.fail_operation(${claimed!.operation.id}, ${
    claimed!.lease_token
  }, '{"code": "DEPLOYMENT_FAILED"}', false)`;
  expect(await expectTruth()).toMatchObject({ "deployments.failed": 1, "deploys.failed": 1 });
});

test("of a user who goes with all they have", async () => {
  const leaver = await world.person();
  await createRunningAgent(world, leaver);
  await createAgent(leaver, { name: "second" });
  const before = await expectTruth();
  await world.sql`delete from auth.users where id = ${leaver.id}`;
  const after = await expectTruth();
  expect(after.agents).toBe(before.agents! - 2);
  // What was done for them is erased with them.
  expect(before["deploys.succeeded"]).toBe(1);
  expect(after["deploys.succeeded"]).toBeUndefined();
});

test("of many rows in one statement", async () => {
  await world.sql`
    insert into public.agents (user_id, name) select ${owner.id}, 'bulk ' || n from generate_series(1, 50) n`;
  await expectTruth();
  await world.sql`
    update public.agents set deleted_at = now() where name like 'bulk %' and right(name, 1) < '5'`;
  await expectTruth();
  await world.sql`update public.agents set deleted_at = null where name like 'bulk %'`;
  await world.sql`delete from public.agents where name like 'bulk %'`;
  await expectTruth();
});

test("what is rolled back was never counted", async () => {
  const before = await expectTruth();
  await expect(world.sql.begin(async (t) => {
    await t`insert into public.agents (user_id, name) values (${owner.id}, 'gone')`;
    await t`select private.fold_counts()`;
    throw new Error("back");
  })).rejects.toThrow("back");
  expect(await expectTruth()).toEqual(before);
});

test("nobody waits for another, and folding meanwhile loses nothing", async () => {
  const before = await expectTruth();
  await world.sql.begin(async (open) => {
    await open`insert into public.agents (user_id, name) values (${owner.id}, 'open')`;
    // Another transaction counts and folds while the first is open.
    await world.sql`insert into public.agents (user_id, name) values (${owner.id}, 'other')`;
    await Promise.all([1, 2].map(() => world.sql`select private.fold_counts()`));
    expect((await kept()).agents).toBe(before.agents! + 1);
  });
  expect((await expectTruth()).agents).toBe(before.agents! + 2);
});

test("through the life of a stack", async () => {
  const rows = await owner.do((t) =>
    t`select public.create_stack('{"name": "counted", "template": "eliza-agent-template",
      "environment": {"AGENT_NAME": "a"}}') as answer`
  );
  const { id } = rows[0]!.answer.stack;
  const look = (observation: object) =>
    world.sql`select private.observe_stack(${id}, ${world.sql.json(observation as never)})`;
  const running = async () => (await expectTruth())["containers.running"] ?? 0;
  const before = await running();
  await look({ containers: [{ status: "running" }, { status: "running" }] });
  expect(await running()).toBe(before + 2);
  await look({ containers: [{ status: "running" }, { status: "exited", exit_code: 1 }] });
  expect(await running()).toBe(before + 1);
  await world.sql`select private.measure_stack(${id}, '{"memory_usage": 41}')`;
  const [used] = await world.sql`
    select sum(memory) as memory from private.measured_usage(${owner.id}, ${owner.id})`;
  expect(used!.memory).toBe(41);
  await world.sql`delete from public.stacks where id = ${id}`;
  expect(await running()).toBe(before);
});

test("under many writers and folders at once", async () => {
  await Promise.all(
    Array.from({ length: 20 }, async (_, n) => {
      const [row] = await world.sql`
        insert into public.agents (user_id, name) values (${owner.id}, ${`race ${n}`}) returning id`;
      await world.sql`select private.fold_counts()`;
      if (n % 2 === 0) await world.sql`delete from public.agents where id = ${row!.id}`;
    }),
  );
  await expectTruth();
});

test("rows that came past the triggers are counted by recount", async () => {
  await world.sql`alter table public.agents disable trigger agents_count_added`;
  await world.sql`insert into public.agents (user_id, name) values (${owner.id}, 'past')`;
  await world.sql`alter table public.agents enable trigger agents_count_added`;
  expect(await kept()).not.toEqual(await counted());
  await world.sql`select private.recount()`;
  await expectTruth();
});

test("what all use is the sum of what each uses", async () => {
  const id = await createRunningAgent(world, owner, { name: "measured" });
  await world
    .sql`insert into public.agent_metrics (agent_id, user_id, replicas, cpu_usage, memory_usage, network_rx)
    values (${id}, ${owner.id}, 1, 0.5, 100, 7)`;
  await world.sql`select private.sum_usage()`;
  await world.sql`select private.sum_usage()`;
  expect(await world.sql`select clusters, network_rx from private.usage`).toEqual([
    { clusters: { [world.clusterId]: { cpu: 0.5, memory: 100 } }, network_rx: 7 },
  ]);
});

test("lists of everybody's agents tell the same", async () => {
  const admin = await world.person("admin");
  const truth = await counted();
  const [row] = await admin.do((t) => t`select public.list_agents() as list`);
  expect(row!.list.summary).toMatchObject({
    total_agents: truth.agents,
    running: truth["deployments.running"] ?? 0,
  });
});

test("the counts are closed to those who may not see all", async () => {
  await expect(owner.do((t) => t`select private.fleet_counts()`)).rejects.toThrow(
    "PERMISSION_DENIED",
  );
  await expect(owner.do((t) => t`select private.current_counts()`)).rejects.toThrow("permission");
});
