import { randomUUID } from "node:crypto";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  call,
  claim,
  type Claimed,
  createAgent,
  createRunningAgent,
  createWorld,
  leaveNothingDue,
  type Person,
  refusal,
  type World,
} from "./support.ts";

interface Snapshot {
  batch: {
    id: string;
    state: string;
    total: number;
    rejected: number;
    waiting: number;
    running: number;
    succeeded: number;
    failed: number;
    cancelled: number;
    finished_at: string | null;
  };
  results: {
    agent_id: string;
    state: string;
    operation_id: string | null;
    error: { code: string } | null;
  }[];
}

let world: World;
let owner: Person;

beforeAll(async () => {
  world = await createWorld();
});
beforeEach(async () => {
  owner = await world.person();
  await leaveNothingDue(world.sql);
});

async function runningAgents(number: number, person = owner): Promise<string[]> {
  const ids: string[] = [];
  for (let made = 0; made < number; made++) ids.push(await createRunningAgent(world, person));
  return ids;
}

function batch(
  operation: string,
  agentIds: string[],
  options: Record<string, unknown> = {},
  person = owner,
): Promise<Snapshot> {
  return call(
    person,
    "create_batch($1, $2::uuid[], $3::text::jsonb)",
    operation,
    agentIds,
    JSON.stringify(options),
  ) as unknown as Promise<Snapshot>;
}

const look = (id: string, person = owner) =>
  call(person, "batch_snapshot($1)", id) as unknown as Promise<Snapshot>;
const cancel = (id: string, person = owner) =>
  call(person, "cancel_batch($1)", id) as unknown as Promise<Snapshot>;
const states = (snapshot: Snapshot) => snapshot.results.map((result) => result.state);

const complete = ({ operation, lease_token }: Claimed) =>
  world.sql`select private.complete_operation(${operation.id}, ${lease_token}, '{}')`;
const fail = ({ operation, lease_token }: Claimed) =>
  world
    .sql`select private.fail_operation(${operation.id}, ${lease_token}, '{"code": "DEPLOYMENT_FAILED", "message": "no"}', false)`;

describe("max_concurrent", () => {
  test("so many are let in, in the order of the request; the others wait", async () => {
    const ids = (await runningAgents(5)).reverse();
    const made = await batch("restart", ids, { max_concurrent: 2 });
    expect(states(made)).toEqual(["queued", "queued", "waiting", "waiting", "waiting"]);
    expect(made.batch).toMatchObject({ state: "running", total: 5, running: 2, waiting: 3 });
    const claimed = await claim(world.sql);
    expect(claimed.map((one) => one.operation.agent_id).sort()).toEqual(ids.slice(0, 2).sort());
  });

  test("the end of one lets the next in", async () => {
    const made = await batch("restart", await runningAgents(3), { max_concurrent: 1 });
    const [first] = await claim(world.sql);
    expect(await claim(world.sql)).toHaveLength(0);
    await complete(first!);
    expect((await look(made.batch.id)).batch).toMatchObject({
      succeeded: 1,
      running: 1,
      waiting: 1,
    });
    expect(await claim(world.sql)).toHaveLength(1);
  });

  test("a failure lets the next in too; one that is tried again keeps its place", async () => {
    const made = await batch("restart", await runningAgents(2), { max_concurrent: 1 });
    const [first] = await claim(world.sql);
    await world
      .sql`select private.fail_operation(${first!.operation.id}, ${
      first!.lease_token
    }, '{}', true, interval '0')`;
    expect((await look(made.batch.id)).batch).toMatchObject({ running: 1, waiting: 1 });
    const [again] = await claim(world.sql);
    expect(again!.operation.id).toBe(first!.operation.id);
    await fail(again!);
    expect((await look(made.batch.id)).batch).toMatchObject({ failed: 1, running: 1, waiting: 0 });
  });

  test("two workers that end their operations at once never have more than two active", async () => {
    const made = await batch("restart", await runningAgents(5), { max_concurrent: 2 });
    const held: Claimed[] = [];
    let most = 0;
    for (
      let round = 0;
      round < 10 && (await look(made.batch.id)).batch.state === "running";
      round++
    ) {
      held.push(...(await Promise.all([claim(world.sql), claim(world.sql)])).flat());
      const [active] = await world.sql`
        select count(*)::int as n from operations o join private.operation_queue q on q.operation_id = o.id
        where o.batch_id = ${made.batch.id} and o.state in ('queued', 'running')`;
      most = Math.max(most, active!.n, held.length);
      await Promise.all(held.splice(0).map(complete));
    }
    expect(most).toBe(2);
    expect((await look(made.batch.id)).batch).toMatchObject({
      state: "succeeded",
      succeeded: 5,
      running: 0,
      waiting: 0,
    });
  });

  test("is what the settings say when nothing is said", async () => {
    const made = await batch("restart", await runningAgents(6));
    expect(made.batch).toMatchObject({ max_concurrent: 5, running: 5, waiting: 1 });
  });
});

describe("an agent that cannot", () => {
  test("is reported with its code and stops no other", async () => {
    const [good, busy, stopped] = await runningAgents(3);
    await call(owner, "scale_agent($1, 2)", busy);
    await world.sql`update deployments set state = 'stopped' where agent_id = ${stopped!}`;
    const other = await createRunningAgentOf(await world.person());
    const nobody = randomUUID();
    const made = await batch("restart", [busy!, other, good!, nobody, stopped!]);
    expect(made.results.map((result) => [result.state, result.error?.code])).toEqual([
      ["rejected", "OPERATION_IN_PROGRESS"],
      ["rejected", "AGENT_NOT_FOUND"],
      ["queued", undefined],
      ["rejected", "AGENT_NOT_FOUND"],
      ["rejected", "INVALID_STATE"],
    ]);
    expect(made.batch).toMatchObject({ total: 5, rejected: 4, running: 1, state: "running" });
  });

  test("a stranger's agent and one that does not exist look the same", async () => {
    const other = await createRunningAgentOf(await world.person());
    const nobody = randomUUID();
    const made = await batch("stop", [other, nobody]);
    const [one, two] = made.results.map((result) =>
      JSON.stringify(result.error).replaceAll(result.agent_id, "")
    );
    expect(one).toBe(two);
    expect((await world.sql`select state from deployments where agent_id = ${other}`)[0]!.state)
      .toBe("running");
  });

  test("alone makes a batch that has failed", async () => {
    const made = await batch("stop", [randomUUID()]);
    expect(made.batch).toMatchObject({ state: "failed", rejected: 1 });
    expect(made.batch.finished_at).not.toBeNull();
  });

  test("leaves nothing behind when it fails halfway", async () => {
    const [id, second] = await runningAgents(2);
    await batch("scale", [id!], { replicas: 50 });
    await world.sql`update settings set value = '60' where key = 'max_replicas_per_user'`;
    try {
      const made = await batch("scale", [second!], { replicas: 50 });
      expect(made.results[0]!.error!.code).toBe("RESOURCE_LIMIT_EXCEEDED");
      const [row] = await world.sql`select replicas, status from agents where id = ${second!}`;
      expect(row).toMatchObject({ replicas: 1, status: "deployed" });
    } finally {
      await world.sql`update settings set value = '200' where key = 'max_replicas_per_user'`;
    }
  });

  async function createRunningAgentOf(person: Person) {
    await world.sql`update private.operation_queue set run_after = now() + interval '1 hour'`;
    const id = await createRunningAgent(world, person);
    await world.sql`update private.operation_queue set run_after = now()`;
    return id;
  }
});

describe("how it ends", () => {
  test("partial when some failed", async () => {
    const made = await batch("restart", await runningAgents(2));
    const [one, two] = await claim(world.sql);
    await Promise.all([complete(one!), fail(two!)]);
    const over = await look(made.batch.id);
    expect(over.batch).toMatchObject({ state: "partial", succeeded: 1, failed: 1 });
    expect(over.results.find((result) => result.state === "failed")!.error!.code)
      .toBe("DEPLOYMENT_FAILED");
  });

  test("failed when none succeeded", async () => {
    const made = await batch("restart", await runningAgents(1));
    await fail((await claim(world.sql))[0]!);
    expect((await look(made.batch.id)).batch).toMatchObject({ state: "failed", failed: 1 });
  });
});

describe("every operation of a single agent", () => {
  test("scale", async () => {
    const [id] = await runningAgents(1);
    await batch("scale", [id!], { replicas: 3, strategy: "recreate" });
    const [claimed] = await claim(world.sql);
    expect(claimed!.operation).toMatchObject({
      kind: "scale",
      request: { to_replicas: 3, strategy: "recreate" },
    });
  });

  test("stop, then start", async () => {
    const ids = await runningAgents(2);
    await batch("stop", ids);
    for (const one of await claim(world.sql)) await complete(one);
    const started = await batch("start", ids);
    expect((await claim(world.sql)).map((one) => one.operation.kind)).toEqual(["start", "start"]);
    expect(started.batch.running).toBe(2);
  });

  test("deploy is start: it deploys what never was", async () => {
    const [made] = await owner.do((t) => t`insert into agents (name) values ('new') returning id`);
    await batch("deploy", [made!.id]);
    expect((await claim(world.sql))[0]!.operation).toMatchObject({
      kind: "deploy",
      agent_id: made!.id,
    });
  });

  test("update; an agent without a deployment is done at once", async () => {
    const [id] = await runningAgents(1);
    const [plain] = await owner.do((t) => t`insert into agents (name) values ('new') returning id`);
    const made = await batch("update", [id!, plain!.id], {
      changes: { system_prompt: "be brief", environment: { TOKEN: "canary-of-batch" } },
    });
    expect(states(made)).toEqual(["queued", "succeeded"]);
    expect((await claim(world.sql))[0]!.operation.kind).toBe("update");
    const rows = await world.sql`select system_prompt from agents where id in ${
      world.sql([id!, plain!.id])
    }`;
    expect(rows.map((row) => row.system_prompt)).toEqual(["be brief", "be brief"]);
    expect(JSON.stringify(made)).not.toContain("canary-of-batch");
  });

  test("delete: data goes at once, containers as the turn comes", async () => {
    const ids = await runningAgents(2);
    const made = await batch("delete", ids, { max_concurrent: 1 });
    expect(states(made)).toEqual(["queued", "waiting"]);
    for (const each of ids) {
      const [claimed] = await claim(world.sql);
      expect(claimed!.operation).toMatchObject({ kind: "delete", agent_id: each });
      await complete(claimed!);
    }
    expect((await look(made.batch.id)).batch.state).toBe("succeeded");
  });

  test("restart takes restart_policy and max_unavailable", async () => {
    await batch("restart", await runningAgents(1), {
      restart_policy: "recreate",
      max_unavailable: 2,
    });
    expect((await claim(world.sql))[0]!.operation).toMatchObject({
      request: { restart_policy: "recreate", max_unavailable: 2 },
    });
  });
});

describe("cancelling", () => {
  test("what waits is cancelled and as it was; what runs goes on", async () => {
    const ids = await runningAgents(3);
    const made = await batch("restart", ids, { max_concurrent: 1 });
    const [running] = await claim(world.sql);
    const after = await cancel(made.batch.id);
    expect(states(after)).toEqual(["running", "cancelled", "cancelled"]);
    expect(after.batch).toMatchObject({ state: "running", running: 1, waiting: 0, cancelled: 2 });
    for (const id of ids.slice(1)) {
      const [row] = await world.sql`
        select a.status, d.state from agents a join deployments d on d.agent_id = a.id where a.id = ${id}`;
      expect(row).toMatchObject({ status: "deployed", state: "running" });
    }
    await complete(running!);
    expect((await look(made.batch.id)).batch).toMatchObject({ state: "cancelled", succeeded: 1 });
    expect(await claim(world.sql)).toHaveLength(0);
  });

  test("an agent whose scaling was cancelled has its replicas again, and no update follows", async () => {
    const ids = await runningAgents(2);
    const made = await batch("scale", ids, {
      replicas: 4,
      max_concurrent: 1,
      scaling_policy: { maxReplicas: 8 },
    });
    await cancel(made.batch.id);
    const [row] = await world.sql`
      select a.replicas, a.scaling, d.replicas_desired, d.observed_generation = a.generation as current
      from agents a join deployments d on d.agent_id = a.id where a.id = ${ids[1]!}`;
    expect(row).toEqual({ replicas: 1, scaling: null, replicas_desired: 1, current: true });
    expect(
      await world.sql`select 1 from operations where agent_id = ${ids[1]!} and state = 'queued'`,
    ).toHaveLength(0);
  });

  test("an agent that was never deployed is undeployed again", async () => {
    const made = await owner.do((t) =>
      t`insert into agents (name) values ('one'), ('two') returning id`
    );
    const ids = made.map((row) => row.id as string);
    await cancel((await batch("deploy", ids, { max_concurrent: 1 })).batch.id);
    expect(await world.sql`select agent_id from deployments where agent_id in ${world.sql(ids)}`)
      .toEqual([{ agent_id: ids[0] }]);
  });

  test("the agents are free for other commands", async () => {
    const ids = await runningAgents(2);
    await cancel((await batch("restart", ids, { max_concurrent: 1 })).batch.id);
    expect((await call(owner, "stop_agent($1)", ids[1])).operation.kind).toBe("stop");
  });

  test("a batch that is over, and one that deletes, cannot be cancelled", async () => {
    const over = await batch("stop", [randomUUID()]);
    expect(await refusal(cancel(over.batch.id))).toMatchObject({
      code: "INVALID_STATE",
      status: 409,
    });
    const deleting = await batch("delete", await runningAgents(1));
    expect(await refusal(cancel(deleting.batch.id))).toMatchObject({
      code: "INVALID_STATE",
      status: 409,
    });
  });
});

describe("deleting an agent of a batch", () => {
  test("that waits: it is cancelled, and the batch goes on without it", async () => {
    const ids = await runningAgents(3);
    const made = await batch("restart", ids, { max_concurrent: 1 });
    await call(owner, "delete_agent($1)", ids[1]);
    const after = await look(made.batch.id);
    expect(states(after)).toEqual(["queued", "cancelled", "waiting"]);
    expect(after.batch).toMatchObject({ cancelled: 1, waiting: 1, running: 1 });
    const claimed = await claim(world.sql);
    expect(claimed.map((one) => one.operation.kind).sort()).toEqual(["delete", "restart"]);
    for (const one of claimed) await complete(one);
    for (const one of await claim(world.sql)) await complete(one);
    expect((await look(made.batch.id)).batch).toMatchObject({ state: "partial", succeeded: 2 });
  });

  test("that was let in: the next one comes in", async () => {
    const ids = await runningAgents(2);
    const made = await batch("restart", ids, { max_concurrent: 1 });
    await owner.do((t) => t`delete from agents where id = ${ids[0]!}`);
    expect(states(await look(made.batch.id))).toEqual(["cancelled", "queued"]);
  });

  test("in a batch, while a worker holds it: its containers go when the worker has let go", async () => {
    const [id] = await runningAgents(1);
    await call(owner, "restart_agent($1)", id);
    const [held] = await claim(world.sql);
    await batch("delete", [id!]);
    expect(await claim(world.sql)).toHaveLength(0);
    await world.sql`select private.release_operation(${held!.operation.id}, ${held!.lease_token})`;
    expect((await claim(world.sql))[0]!.operation).toMatchObject({ kind: "delete", agent_id: id });
  });

  test("with its user: the batch goes and leaves no operation waiting", async () => {
    const made = await batch("restart", await runningAgents(2), { max_concurrent: 1 });
    await world.sql`delete from auth.users where id = ${owner.id}`;
    expect(await world.sql`select from batches where id = ${made.batch.id}`).toHaveLength(0);
    expect(
      await world.sql`
        select 1 from operations o left join private.operation_queue q on q.operation_id = o.id
        where o.state = 'queued' and q.operation_id is null`,
    ).toHaveLength(0);
  });
});

describe("whose batch", () => {
  test("a stranger neither reads nor cancels it", async () => {
    const stranger = await world.person();
    const made = await batch("restart", await runningAgents(2), { max_concurrent: 1 });
    for (const attempt of [look, cancel]) {
      expect(await refusal(attempt(made.batch.id, stranger)))
        .toMatchObject({ code: "NOT_FOUND", status: 404 });
    }
    expect(await stranger.do((t) => t`select * from batches`)).toHaveLength(0);
  });

  test("clients write no batches", async () => {
    for (
      const text of [
        "insert into batches default values",
        "update batches set state = 'failed'",
        "delete from batches",
      ]
    ) {
      expect(await refusal(owner.do((t) => t.unsafe(text)))).toMatchObject({ code: "42501" });
    }
  });

  test("a key without the right makes none", async () => {
    const key = await world.withKey(owner, ["agents:read"]);
    expect(await refusal(batch("restart", [randomUUID()], {}, key))).toMatchObject({
      code: "PERMISSION_DENIED",
      status: 403,
    });
  });

  test("an operator works on agents of several owners", async () => {
    const operator = await world.person("operator");
    const ids = [...await runningAgents(1), ...await runningAgents(1, await world.person())];
    expect(states(await batch("restart", ids, {}, operator))).toEqual(["queued", "queued"]);
  });
});

describe("what is asked for is checked as a whole", () => {
  const id = "11111111-1111-4111-8111-111111111111";
  test.each<[string, string, string[], Record<string, unknown>, string[]]>([
    ["an unknown operation", "explode", [id], {}, ["operation"]],
    ["no agents", "stop", [], {}, ["agent_ids"]],
    ["an agent twice", "stop", [id, id], {}, ["agent_ids"]],
    ["too many", "stop", Array.from({ length: 101 }, () => randomUUID()), {}, ["agent_ids"]],
    ["scale without replicas", "scale", [id], {}, ["options.replicas"]],
    ["update without changes", "update", [id], {}, ["options.changes"]],
    ["a misspelt change", "update", [id], { changes: { nmae: "x" } }, ["options.changes.nmae"]],
    ["a rollback to no revision", "rollback", [id], { revision: 0 }, ["options.revision"]],
    ["an option of another operation", "stop", [id], { replicas: 2 }, ["options.replicas"]],
    [
      "everything at once",
      "restart",
      [],
      { max_concurrent: 0, restart_policy: "hope", max_unavailable: 1.5, colour: 1 },
      [
        "agent_ids",
        "options.colour",
        "options.max_concurrent",
        "options.max_unavailable",
        "options.restart_policy",
      ],
    ],
  ])("%s is refused", async (_name, operation, ids, options, fields) => {
    const refused = await refusal(batch(operation, ids, options));
    expect(refused).toMatchObject({ code: "VALIDATION_ERROR", status: 400 });
    expect(Object.keys(refused.details!).sort()).toEqual(fields);
  });
});

test("batches are in the publication that Realtime follows", async () => {
  expect(
    await world.sql`
      select 1 from pg_publication_tables where pubname = 'supabase_realtime' and tablename = 'batches'`,
  ).toHaveLength(1);
});

test("an operation outside a batch enters the queue at once, also after a batch in the same transaction", async () => {
  const [one, two] = await runningAgents(2);
  await owner.do(async (t) => {
    await t`select create_batch('restart', ${[one!]}::uuid[])`;
    await t`select restart_agent(${two!})`;
  });
  expect(await claim(world.sql)).toHaveLength(2);
  const made = await createAgent(owner);
  expect(made.operation).toMatchObject({ batch_id: null });
});
