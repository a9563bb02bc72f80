import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  call,
  claim,
  createAgent,
  createRunningAgent,
  createWorld,
  finishNext,
  leaveNothingDue,
  type Person,
  refusal,
  type World,
} from "./support.ts";

let world: World;
let owner: Person;

beforeAll(async () => {
  world = await createWorld();
});
beforeEach(async () => {
  owner = await world.person();
  await leaveNothingDue(world.sql);
});

const operation = async (id: string) =>
  (await world.sql`select * from operations where id = ${id}`)[0];
/** How many environments of an agent Vault holds, the present one and those of its revisions. */
const environmentsOf = async (id: string) =>
  (await world.sql`select 1 from vault.secrets where name like ${`agent-environment:${id}%`}`)
    .length;
const agent = async (id: string) => (await world.sql`select * from agents where id = ${id}`)[0];

test("creating queues a deployment with the documented steps, the first one done", async () => {
  const { agent, operation, deployment } = await createAgent(owner, { resources: { replicas: 3 } });
  expect(agent).toMatchObject({
    status: "queued",
    replicas: 3,
    resources: { memory: "512Mi", cpu: "250m" },
  });
  expect(deployment).toMatchObject({ state: "queued", replicas_desired: 3 });
  const steps = operation.steps as { name: string; status: string }[];
  expect(steps.map((step) => [step.name, step.status])).toEqual([
    ["validate_configuration", "completed"],
    ["create_container_template", "pending"],
    ["deploy_to_portainer", "pending"],
    ["setup_monitoring", "pending"],
  ]);
});

test("a second command is refused with the id of the first", async () => {
  const id = await createRunningAgent(world, owner);
  const first = await call(owner, "scale_agent($1, 5)", id);
  expect(await refusal(call(owner, "restart_agent($1)", id))).toMatchObject({
    code: "OPERATION_IN_PROGRESS",
    status: 409,
    details: { operation_id: first.operation.id, kind: "scale" },
  });
});

test("of two commands at the same moment one is refused", async () => {
  const id = await createRunningAgent(world, owner);
  const both = await Promise.allSettled([
    call(owner, "scale_agent($1, 2)", id),
    call(owner, "scale_agent($1, 3)", id),
  ]);
  expect(both.map((one) => one.status).sort()).toEqual(["fulfilled", "rejected"]);
});

/** Waits until somebody waits for a lock. */
const somebodyWaits = () =>
  expect.poll(async () =>
    (await world.sql`select 1 from pg_stat_activity
      where wait_event_type = 'Lock' and datname = current_database()`).length
  ).toBeGreaterThan(0);

test("a command and the first measurement of an agent do not wait for each other", async () => {
  const id = await createRunningAgent(world, owner);
  let command: Promise<unknown> = Promise.resolve();
  // As the collector writes what it found.
  await world.sql.begin(async (t) => {
    await t`select private.observe_deployment(${id}, '{"replicas_ready": 1}')`;
    command = call(owner, 'update_agent($1, \'{"name": "changed"}\')', id);
    await somebodyWaits();
    await t`insert into agent_metrics (agent_id, user_id, timestamp, replicas)
      values (${id}, ${owner.id}, now(), 1)`;
  });
  await command;
  expect(await world.sql`select 1 from agent_metrics_latest where agent_id = ${id}`)
    .toHaveLength(1);
});

test("two workers never hold the same operation", async () => {
  await createAgent(owner);
  await createAgent(owner);
  const claims = (await Promise.all([claim(world.sql), claim(world.sql), claim(world.sql)])).flat();
  expect(new Set(claims.map((one) => one.operation.id)).size).toBe(2);
  expect(claims).toHaveLength(2);
});

test("nobody waits behind all that another queued before", async () => {
  await leaveNothingDue(world.sql);
  await world
    .sql`update settings set value = '3600' where category = 'operations' and key = 'turn_seconds'`;
  const other = await world.person();
  for (let made = 0; made < 3; made++) await createAgent(owner);
  await createAgent(other);
  await createAgent(other);
  const turns: unknown[] = [];
  for (let next = 0; next < 5; next++) {
    const [row] = await world.sql`select * from private.claim_operations('test', '1 minute', 1)`;
    turns.push(row!.operation.user_id === owner.id ? "owner" : "other");
  }
  expect(turns).toEqual(["owner", "other", "owner", "other", "owner"]);
  await leaveNothingDue(world.sql);
});

test("an operation whose lease ended is due again, and its first worker can write nothing", async () => {
  await createAgent(owner);
  const [dead] = await claim(world.sql, "0 seconds");
  const [heir] = await claim(world.sql);
  expect(heir?.operation.id).toBe(dead?.operation.id);
  expect(
    (await refusal(
      world.sql`select private.complete_operation(${dead!.operation.id}, ${
        dead!.lease_token
      }, '{}')`,
    )).code,
  ).toBe("LP001");
});

test("a finished deployment runs, and says so everywhere", async () => {
  const id = await createRunningAgent(world, owner);
  expect(await agent(id)).toMatchObject({ status: "deployed" });
  const [deployment] = await world.sql`select * from deployments where agent_id = ${id}`;
  expect(deployment).toMatchObject({ state: "running", revision: 1, stack_id: "7" });
  const events = await world
    .sql`select event_type from agent_events where agent_id = ${id} order by timestamp`;
  expect(events.map((event) => event.event_type)).toEqual(["QUEUED", "DEPLOYED"]);
});

test("a failed attempt comes back later; after the last one there is a dead letter", async () => {
  const { operation: { id } } = await createAgent(owner);
  for (let attempt = 1; attempt <= 5; attempt++) {
    const [held] = await claim(world.sql);
    const [outcome] = await world.sql`
      select private.fail_operation(${id}, ${
      held!.lease_token
    }, '{"code": "UPSTREAM_UNAVAILABLE", "message": "m"}', true) as word`;
    expect(outcome?.word).toBe(attempt < 5 ? "retrying" : "failed");
    expect(await claim(world.sql)).toHaveLength(0);
    await world.sql`update private.operation_queue set run_after = now()`;
  }
  expect(await operation(id)).toMatchObject({
    state: "failed",
    attempts: 5,
    error: { code: "UPSTREAM_UNAVAILABLE" },
  });
  expect(await world.sql`select 1 from dead_letters where operation_id = ${id}`).toHaveLength(1);
});

test("what cannot be retried fails at once", async () => {
  const { operation: { id }, agent: { id: agentId } } = await createAgent(owner);
  const [held] = await claim(world.sql);
  await world.sql`select private.fail_operation(${id}, ${
    held!.lease_token
  }, '{"code": "DEPLOYMENT_FAILED", "message": "m"}', false)`;
  expect(await agent(agentId)).toMatchObject({ status: "failed" });
});

test("an administrator retries a dead letter, once", async () => {
  const { operation: { id } } = await createAgent(owner);
  const [held] = await claim(world.sql);
  await world.sql`select private.fail_operation(${id}, ${
    held!.lease_token
  }, '{"code": "X", "message": "m"}', false)`;
  const [letter] = await world.sql`select id from dead_letters where operation_id = ${id}`;
  expect(await refusal(owner.do((t) => t`select retry_dead_letter(${letter?.id})`))).toMatchObject({
    code: "PERMISSION_DENIED",
  });
  const admin = await world.person("admin");
  await admin.do((t) => t`select retry_dead_letter(${letter?.id})`);
  expect((await claim(world.sql))[0]?.operation.kind).toBe("deploy");
  expect(await refusal(admin.do((t) => t`select retry_dead_letter(${letter?.id})`))).toMatchObject({
    code: "INVALID_STATE",
    status: 409,
  });
});

test.each([["over /api", true], ["with its row", false]])(
  "a dead letter of an agent that was deleted %s is not retried",
  async (_, softly) => {
    const id = await createRunningAgent(world, owner);
    await call(owner, "restart_agent($1)", id);
    const [held] = await claim(world.sql);
    await world.sql`select private.fail_operation(${held!.operation.id}, ${
      held!.lease_token
    }, '{"code": "X", "message": "m"}', false)`;
    if (softly) await call(owner, "delete_agent($1)", id);
    else await owner.do((t) => t`delete from agents where id = ${id}`);
    await finishNext(world.sql);
    const [letter] = await world.sql`select id from dead_letters where agent_id = ${id}`;
    const admin = await world.person("admin");
    expect(await refusal(admin.do((t) => t`select retry_dead_letter(${letter!.id})`)))
      .toMatchObject({ code: "INVALID_STATE", status: 409 });
  },
);

test("of a retried dead letter and a command at the same moment one is refused", async () => {
  const id = await createRunningAgent(world, owner);
  await call(owner, "restart_agent($1)", id);
  const [held] = await claim(world.sql);
  await world.sql`select private.fail_operation(${held!.operation.id}, ${
    held!.lease_token
  }, '{"code": "X", "message": "m"}', false)`;
  const [letter] = await world.sql`select id from dead_letters where agent_id = ${id}`;
  const admin = await world.person("admin");
  const both = await Promise.all([
    refusal(admin.do((t) => t`select retry_dead_letter(${letter!.id})`)).catch(() => null),
    refusal(call(owner, "restart_agent($1)", id)).catch(() => null),
  ]);
  expect(both.filter((one) => one !== null)).toMatchObject([{ code: "OPERATION_IN_PROGRESS" }]);
});

test("a change over PostgREST is rolled out", async () => {
  const id = await createRunningAgent(world, owner);
  await owner.do((t) =>
    t`update agents set resources = '{"memory": "2Gi", "cpu": "1000m"}', status = 'updated' where id = ${id}`
  );
  expect((await finishNext(world.sql)).operation.kind).toBe("update");
  const [deployment] = await world
    .sql`select revision, observed_generation from deployments where agent_id = ${id}`;
  expect(deployment).toMatchObject({
    revision: 2,
    observed_generation: (await agent(id))?.generation,
  });
});

test("a change while an operation is under way is rolled out after it", async () => {
  const id = await createRunningAgent(world, owner);
  await call(owner, "restart_agent($1)", id);
  const [held] = await claim(world.sql);
  await world.sql`select private.operation_plan(${held!.operation.id}, ${held!.lease_token})`;
  await owner.do((t) => t`update agents set system_prompt = 'new' where id = ${id}`);
  await world.sql`select private.complete_operation(${held!.operation.id}, ${
    held!.lease_token
  }, '{}')`;
  expect((await finishNext(world.sql)).operation.kind).toBe("update");
});

test("a changed environment value alone is rolled out, and never shown", async () => {
  const id = await createRunningAgent(world, owner, { environment: { A: "1", B: "2" } });
  const answer = await call(
    owner,
    "update_agent($1, $2::text::jsonb)",
    id,
    '{"environment": {"A": "3", "B": null}}',
  );
  expect(answer.agent.environment_keys).toEqual(["A"]);
  expect(answer.operation.kind).toBe("update");
  expect(JSON.stringify(answer)).not.toContain('"3"');
});

test("the quota of replicas holds for two agents that are scaled at once", async () => {
  const ids = [
    await createRunningAgent(world, owner),
    await createRunningAgent(world, owner, { name: "second" }),
  ];
  await world.sql`update settings set value = '6' where key = 'max_replicas_per_user'`;
  try {
    let second: Promise<unknown> = Promise.resolve();
    await owner.do(async (t) => {
      await t`select scale_agent(${ids[0]!}, 4)`;
      second = refusal(owner.do((other) => other`select scale_agent(${ids[1]!}, 4)`));
      const waits = () =>
        t`select from pg_locks where locktype = 'advisory' and not granted
          and database = (select oid from pg_database where datname = current_database())`;
      while ((await waits()).length === 0);
    });
    expect(await second).toMatchObject({ code: "RESOURCE_LIMIT_EXCEEDED", status: 429 });
  } finally {
    await world.sql`update settings set value = '200' where key = 'max_replicas_per_user'`;
  }
});

test("scaling keeps to the policy", async () => {
  const id = await createRunningAgent(world, owner, {
    scaling: { minReplicas: 1, maxReplicas: 4 },
  });
  expect(await refusal(call(owner, "scale_agent($1, 5)", id))).toMatchObject({
    code: "VALIDATION_ERROR",
    status: 400,
  });
  const answer = await call(owner, "scale_agent($1, 5, 'rolling', '{\"maxReplicas\": 6}')", id);
  expect(answer.operation.request).toMatchObject({
    from_replicas: 1,
    to_replicas: 5,
    strategy: "rolling",
  });
  await finishNext(world.sql);
  expect(await claim(world.sql)).toHaveLength(0);
});

test("more replicas than the quota is RESOURCE_LIMIT_EXCEEDED", async () => {
  await createRunningAgent(world, owner, { replicas: 50 });
  for (let n = 0; n < 3; n++) await createAgent(owner, { replicas: 50 });
  expect(await refusal(createAgent(owner, { replicas: 1 }))).toMatchObject({
    code: "RESOURCE_LIMIT_EXCEEDED",
    status: 429,
  });
});

describe("the quota of replicas holds", () => {
  const quota = (replicas: number) =>
    world.sql`update settings set value = ${replicas} where key = 'max_replicas_per_user'`;
  const exceeded = { code: "RESOURCE_LIMIT_EXCEEDED", status: 429 };
  let person: Person;
  let id: string;

  beforeEach(async () => {
    person = await world.person();
    id = await createRunningAgent(world, person);
    await quota(4);
  });
  afterEach(() => quota(200));

  test("for a change over PostgREST", async () => {
    const change = (replicas: number) =>
      person.do((t) => t`update agents set replicas = ${replicas} where id = ${id}`);
    expect(await refusal(change(5))).toMatchObject(exceeded);
    const asResources = person.do((t) =>
      t`update agents set resources = resources || '{"replicas": 5}' where id = ${id}`
    );
    expect(await refusal(asResources)).toMatchObject(exceeded);
    await change(4);
  });

  test("for two agents that one request changes", async () => {
    await createRunningAgent(world, person, { name: "second" });
    const both = person.do((t) => t`update agents set replicas = 3`);
    expect(await refusal(both)).toMatchObject(exceeded);
  });

  test("for an agent that failed, which held none of it meanwhile", async () => {
    await world.sql`update agents set replicas = 3, status = 'failed' where id = ${id}`;
    await leaveNothingDue(world.sql);
    await world.sql`update deployments set state = 'failed' where agent_id = ${id}`;
    await createRunningAgent(world, person, { name: "second", replicas: 3 });
    expect(await refusal(call(person, "restart_agent($1)", id))).toMatchObject(exceeded);
    const change = person.do((t) => t`update agents set system_prompt = 'x' where id = ${id}`);
    expect(await refusal(change)).toMatchObject(exceeded);
  });
});

test("a command that makes no sense now is INVALID_STATE", async () => {
  const id = await createRunningAgent(world, owner);
  expect(await refusal(call(owner, "start_agent($1)", id))).toMatchObject({
    code: "INVALID_STATE",
    status: 409,
  });
  await call(owner, "stop_agent($1)", id);
  await finishNext(world.sql);
  expect(await refusal(call(owner, "scale_agent($1, 2)", id))).toMatchObject({
    code: "INVALID_STATE",
    status: 409,
  });
});

test("starting an agent that was never deployed deploys it", async () => {
  const [made] = await owner.do((t) => t`insert into agents (name) values ('later') returning id`);
  const answer = await call(owner, "start_agent($1)", made?.id);
  expect(answer.operation.kind).toBe("deploy");
});

test("deleting scrubs at once, removes the containers and then hides the agent", async () => {
  const id = await createRunningAgent(world, owner, {
    description: "personal",
    environment: { A: "secret" },
  });
  expect(await environmentsOf(id)).toBe(1);
  await call(owner, "delete_agent($1)", id);
  expect(await agent(id)).toMatchObject({
    description: null,
    name: "deleted agent",
    status: "deleting",
    environment_keys: [],
  });
  expect(await environmentsOf(id)).toBe(0);
  expect((await finishNext(world.sql)).operation.kind).toBe("delete");
  expect(await owner.do((t) => t`select id from agents where id = ${id}`)).toHaveLength(0);
  expect((await agent(id))?.purge_after).not.toBeNull();
});

test("nothing names the containers any more once they are removed", async () => {
  const id = await createRunningAgent(world, owner, { name: "known as Zanzibar" });
  const row = { agent_id: id, user_id: owner.id };
  await world.sql`insert into container_events ${
    world.sql({ ...row, event: "start", container_id: "c1", container_name: "known-as-zanzibar-1" })
  }`;
  await world.sql`insert into agent_metrics ${
    world.sql({
      ...row,
      replicas: 1,
      containers: world.sql.json([{ name: "known-as-zanzibar-1" }]),
    })
  }`;
  await call(owner, "delete_agent($1)", id);
  expect((await finishNext(world.sql)).operation.request).toHaveProperty("stack_name");
  const [left] = await world.sql`select
    (select count(*)::int from container_events where agent_id = ${id}) as events,
    (select count(*)::int from agent_metrics where agent_id = ${id}) as metrics,
    (select count(*)::int from agent_metrics_latest where agent_id = ${id}) as latest,
    (select count(*)::int from operations where agent_id = ${id} and request::text like '%zanzibar%') as requests`;
  expect(left).toEqual({ events: 0, metrics: 0, latest: 0, requests: 0 });
});

test("deleting cancels what is under way, and waits for the worker that holds it", async () => {
  const id = await createRunningAgent(world, owner);
  await call(owner, "restart_agent($1)", id);
  const [held] = await claim(world.sql);
  await call(owner, "delete_agent($1)", id);
  expect(await claim(world.sql)).toHaveLength(0);
  const [word] = await world.sql`select private.renew_lease(${held!.operation.id}, ${
    held!.lease_token
  }, '30 seconds') as word`;
  expect(word?.word).toBe("cancelled");
  await world.sql`select private.release_operation(${held!.operation.id}, ${held!.lease_token})`;
  expect((await claim(world.sql))[0]?.operation.kind).toBe("delete");
});

test("a second deletion is refused with the id of the first", async () => {
  const id = await createRunningAgent(world, owner);
  const first = await call(owner, "delete_agent($1)", id);
  expect(await refusal(call(owner, "delete_agent($1)", id)))
    .toMatchObject({
      code: "OPERATION_IN_PROGRESS",
      details: { operation_id: first.operation.id },
    });
});

test("deleting the row over PostgREST removes the containers too", async () => {
  const id = await createRunningAgent(world, owner, { environment: { A: "secret" } });
  await owner.do((t) => t`delete from agents where id = ${id}`);
  expect(await environmentsOf(id)).toBe(0);
  const [held] = await claim(world.sql);
  const [plan] = await world.sql`select private.operation_plan(${held!.operation.id}, ${
    held!.lease_token
  }) as plan`;
  expect(plan?.plan).toMatchObject({
    agent: null,
    deployment: { stack_id: "7", agent_id: id },
    cluster: { credential: "ptr_test" },
  });
});

test("a deleted user's containers are removed", async () => {
  const id = await createRunningAgent(world, owner);
  await world.sql`delete from auth.users where id = ${owner.id}`;
  const [held] = await claim(world.sql);
  expect(held?.operation).toMatchObject({ kind: "delete", agent_id: id, user_id: null });
});

test("a breaker opens after five failures in a row, lets one call try and closes when it works", async () => {
  const record = (ok: boolean) =>
    world.sql`select private.breaker_record('cluster:t', ${ok}, 'down') as state`;
  const allow = async () =>
    (await world.sql`select private.breaker_allow('cluster:t') as answer`)[0]?.answer;
  for (let n = 0; n < 5; n++) await record(false);
  expect(await allow()).toMatchObject({ allowed: false, state: "open" });
  await world.sql`update circuit_breakers set retry_at = now() where name = 'cluster:t'`;
  expect(await allow()).toMatchObject({ allowed: true, state: "half_open" });
  expect(await allow()).toMatchObject({ allowed: false });
  await record(true);
  expect(await allow()).toMatchObject({ allowed: true, state: "closed" });
});
