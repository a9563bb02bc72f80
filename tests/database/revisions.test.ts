/** Revisions: what is kept of each rollout, going back on request and by itself, what is forgotten. */
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  call,
  claim,
  type Claimed,
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

const sick = {
  code: "CONTAINER_UNHEALTHY",
  message: "Container health check failed",
  details: { component: "portainer" },
};
const away = {
  code: "UPSTREAM_UNAVAILABLE",
  message: "Portainer cannot be reached",
  details: { component: "portainer", reason: "unreachable" },
};

/** Takes up the operation that is due, as a worker does. */
async function begin(): Promise<Claimed & { plan: Record<string, unknown> }> {
  const [claimed] = await claim(world.sql);
  if (!claimed) throw new Error("No operation was due.");
  return { ...claimed, plan: await planOf(claimed) };
}

async function planOf({ operation, lease_token }: Claimed) {
  const [row] = await world
    .sql`select private.operation_plan(${operation.id}, ${lease_token}) as plan`;
  return row!.plan as Record<string, unknown>;
}

const fail = ({ operation, lease_token }: Claimed, error: object) =>
  world.sql`select private.fail_operation(${operation.id}, ${lease_token}, ${
    world.sql.json(error as never)
  }, false)`;
const complete = ({ operation, lease_token }: Claimed) =>
  world.sql`select private.complete_operation(${operation.id}, ${lease_token}, '{}')`;

/** Gives up the operation that is due. */
async function failNext(error: object = sick): Promise<Claimed> {
  const begun = await begin();
  await fail(begun, error);
  return begun;
}

const update = (id: string, changes: object, person = owner) =>
  call(person, "update_agent($1, $2::text::jsonb)", id, JSON.stringify(changes));

/** An agent that was deployed with A and then updated to B: revisions 1 and 2. */
async function updatedAgent(): Promise<string> {
  const id = await createRunningAgent(world, owner, {
    system_prompt: "first",
    environment: { MODE: "one" },
  });
  await update(id, { system_prompt: "second", environment: { MODE: "two", MORE: "x" } });
  await finishNext(world.sql);
  return id;
}

const agentOf = async (id: string) => (await world.sql`select * from agents where id = ${id}`)[0]!;
const deploymentOf = async (id: string) =>
  (await world.sql`select * from deployments where agent_id = ${id}`)[0]!;
const revisionsOf = async (id: string) =>
  await world.sql`select * from agent_revisions where agent_id = ${id} order by revision`;
const statesOf = async (id: string) =>
  (await revisionsOf(id)).map((row) => `${row.revision} ${row.state}`);
const environmentOf = async (id: string) => {
  const [row] = await world.sql`
    select s.decrypted_secret::jsonb as value
    from private.agent_environments e join vault.decrypted_secrets s on s.id = e.secret_id
    where e.agent_id = ${id}`;
  return row?.value ?? {};
};
const secretsOf = async (id: string) =>
  (await world.sql`select 1 from vault.secrets where name like ${`agent-environment:${id}%`}`)
    .length;
const kindsOf = async (id: string) =>
  (await world.sql`select kind, state from operations where agent_id = ${id} order by created_at`)
    .map(({ kind, state }) => `${kind} ${state}`);
const eventsOf = async (id: string) =>
  await world
    .sql`select event_type, message, data from agent_events where agent_id = ${id} order by timestamp, id`;

describe("what is kept", () => {
  test("each rollout is a revision with all that is deployed, its environment in Vault only", async () => {
    const id = await updatedAgent();
    const [first, second] = await revisionsOf(id);
    expect(first).toMatchObject({
      revision: 1,
      state: "deployed",
      environment_keys: ["MODE"],
      definition: {
        system_prompt: "first",
        replicas: 1,
        template: { name: "eliza-agent-template", version: 1, image: "elizaos/eliza:latest" },
      },
    });
    expect(second).toMatchObject({
      revision: 2,
      state: "deployed",
      environment_keys: ["MODE", "MORE"],
      definition: { system_prompt: "second" },
      operation_id: (await world
        .sql`select id from operations where agent_id = ${id} and kind = 'update'`)[0]!.id,
    });
    expect(await deploymentOf(id)).toMatchObject({ revision: 2 });
    expect(await secretsOf(id)).toBe(2);
    expect(JSON.stringify(await revisionsOf(id))).not.toContain('"two"');
  });

  test("it is what was carried out, not what the agent has become since", async () => {
    const { agent: { id } } = await createAgent(owner, { system_prompt: "first" });
    const begun = await begin();
    await owner.do((t) => t`update agents set system_prompt = 'later' where id = ${id}`);
    await complete(begun);
    expect((await revisionsOf(id))[0]).toMatchObject({
      state: "deployed",
      definition: { system_prompt: "first" },
    });
    await finishNext(world.sql);
    expect((await revisionsOf(id))[1]).toMatchObject({ definition: { system_prompt: "later" } });
  });

  test("a change that the same operation takes along is in its revision", async () => {
    const { agent: { id } } = await createAgent(owner, { system_prompt: "first" });
    const begun = await begin();
    await owner.do((t) => t`update agents set system_prompt = 'later' where id = ${id}`);
    await planOf(begun);
    await complete(begun);
    expect(await statesOf(id)).toEqual(["1 deployed"]);
    expect((await revisionsOf(id))[0]!.definition.system_prompt).toBe("later");
  });

  test("scaling and restarting make no revision; the one that runs takes on the replicas", async () => {
    const id = await createRunningAgent(world, owner);
    await call(owner, "scale_agent($1, 3)", id);
    await finishNext(world.sql);
    await call(owner, "restart_agent($1)", id);
    await finishNext(world.sql);
    expect(await statesOf(id)).toEqual(["1 deployed"]);
    const [row] = await revisionsOf(id);
    expect(row!.definition.replicas).toBe(3);
    expect(row!.generation).toBe((await agentOf(id)).generation);
  });

  test("a start that brings a change made while it was stopped is a revision", async () => {
    const id = await createRunningAgent(world, owner);
    await call(owner, "stop_agent($1)", id);
    await finishNext(world.sql);
    await update(id, { system_prompt: "changed" });
    await call(owner, "start_agent($1)", id);
    await finishNext(world.sql);
    expect(await statesOf(id)).toEqual(["1 deployed", "2 deployed"]);
    expect(await deploymentOf(id)).toMatchObject({ revision: 2, state: "running" });
  });

  test("a restart keeps the version of the template that runs, an update takes the newest", async () => {
    const add = (image: string) =>
      world
        .sql`insert into stack_templates (user_id, name, image) values (null, 'versioned', ${image})`;
    await add("image:one");
    const id = await createRunningAgent(world, owner, { portainer: { template: "versioned" } });
    await add("image:two");
    for (const command of ["restart_agent($1)", "scale_agent($1, 2)"]) {
      await call(owner, command, id);
      const begun = await begin();
      expect(begun.plan.template).toMatchObject({ image: "image:one", version: 1 });
      await complete(begun);
    }
    await update(id, { system_prompt: "b" });
    expect((await begin()).plan.template).toMatchObject({ image: "image:two", version: 2 });
    await world.sql`delete from stack_templates where name = 'versioned'`;
  });

  test("only so many are kept, the one that runs beyond them", async () => {
    await world
      .sql`update settings set value = '2' where category = 'agents' and key = 'revisions_kept'`;
    try {
      const id = await createRunningAgent(world, owner, { environment: { N: "0" } });
      for (let n = 1; n <= 3; n++) {
        await update(id, { environment: { N: String(n) } });
        await finishNext(world.sql);
      }
      expect(await statesOf(id)).toEqual(["3 deployed", "4 deployed"]);
      expect(await secretsOf(id)).toBe(2);
      // The cluster is away, so nothing goes back, and revision 4 stays the one that runs.
      for (let n = 5; n <= 8; n++) {
        await update(id, { environment: { N: String(n) } });
        await failNext(away);
      }
      expect(await statesOf(id)).toEqual(["4 deployed", "7 failed", "8 failed"]);
      expect(await secretsOf(id)).toBe(3);
      expect(await deploymentOf(id)).toMatchObject({ revision: 4 });
    } finally {
      await world
        .sql`update settings set value = '10' where category = 'agents' and key = 'revisions_kept'`;
    }
  });
});

describe("going back on request", () => {
  test("everything that is deployed is as it was, the environment too", async () => {
    const before = {
      name: "before",
      framework: "openai",
      model: "gpt-4o",
      system_prompt: "first",
      settings: { temperature: 1 },
      character: { bio: "one" },
      plugins: ["one"],
      platforms: ["discord"],
      resources: { memory: "512Mi", cpu: "250m" },
      replicas: 2,
      scaling: { minReplicas: 1, maxReplicas: 4 },
      portainer: { deployment_strategy: "rolling" },
      supabase_config: { project_ref: "one" },
      enabled_tools: ["one"],
    };
    const after = {
      name: "after",
      framework: "anthropic",
      model: "claude-sonnet-4-20250514",
      system_prompt: null,
      settings: {},
      character: { bio: "two" },
      plugins: ["two", "three"],
      platforms: [],
      resources: { memory: "1Gi", cpu: "500m" },
      replicas: 3,
      scaling: null,
      portainer: { deployment_strategy: "recreate" },
      supabase_config: { project_ref: "two" },
      enabled_tools: [],
    };
    const id = await createRunningAgent(world, owner, { ...before, environment: { MODE: "one" } });
    await update(id, { ...after, environment: { MODE: "two", MORE: "x" } });
    await finishNext(world.sql);
    expect(await agentOf(id)).toMatchObject(after);

    const answer = await call(owner, "rollback_agent($1)", id);
    expect(answer.operation).toMatchObject({
      kind: "rollback",
      state: "queued",
      request: { from_revision: 2, to_revision: 1 },
    });
    expect(answer.agent).toMatchObject({ ...before, environment_keys: ["MODE"] });
    expect(answer.deployment).toMatchObject({ state: "updating", replicas_desired: 2 });
    expect(await environmentOf(id)).toEqual({ MODE: "one" });
    const begun = await begin();
    expect(begun.plan).toMatchObject({ environment: { MODE: "one" }, agent: before });
    await complete(begun);
    expect(await statesOf(id)).toEqual(["1 deployed", "2 deployed", "3 deployed"]);
    expect((await revisionsOf(id))[2]).toMatchObject({ restored_from: 1 });
    expect(await deploymentOf(id)).toMatchObject({ revision: 3, state: "running", error: null });
    expect((await eventsOf(id)).map((event) => event.event_type).slice(-2)).toEqual([
      "ROLLING_BACK",
      "ROLLED_BACK",
    ]);
    expect(await claim(world.sql)).toHaveLength(0);
  });

  test("every column that counts as a change of what is deployed is in a revision", async () => {
    // prepare_agent names the columns; agent_definition has to know each of them.
    const [row] = await world
      .sql`select pg_get_functiondef('private.prepare_agent'::regproc) as text`;
    const counted = new Set(
      [...row!.text.split("deployable_changed :=")[1]!.split("is distinct")[0]!.matchAll(
        /new\.([a-z_]+)/g,
      )].map((match) => match[1]),
    );
    expect(counted.size).toBeGreaterThan(10);
    const id = await createRunningAgent(world, owner);
    const [revision] = await revisionsOf(id);
    expect([...Object.keys(revision!.definition), "environment_keys"].sort())
      // A scaling policy counts only where the orchestrator has to be told of it.
      .toEqual([...counted, "scaling", "template"].sort());
  });

  test("by number, also to one that failed", async () => {
    const id = await updatedAgent();
    await update(id, { system_prompt: "third" });
    await failNext(away);
    expect(await statesOf(id)).toEqual(["1 deployed", "2 deployed", "3 failed"]);
    await call(owner, "rollback_agent($1, 1)", id);
    await finishNext(world.sql);
    expect(await agentOf(id)).toMatchObject({ system_prompt: "first", status: "deployed" });
    await call(owner, "rollback_agent($1, 3)", id);
    await finishNext(world.sql);
    expect(await agentOf(id)).toMatchObject({ system_prompt: "third" });
  });

  test("after a change that did not come up, without a number it is what ran", async () => {
    const id = await updatedAgent();
    await update(id, { system_prompt: "third" });
    await failNext(away);
    const answer = await call(owner, "rollback_agent($1)", id);
    expect(answer.operation.request).toMatchObject({ to_revision: 2 });
    expect(answer.agent.system_prompt).toBe("second");
  });

  test("it runs the version of the template that it ran then", async () => {
    await world
      .sql`insert into stack_templates (user_id, name, image) values (null, 'moving', 'image:one')`;
    const id = await createRunningAgent(world, owner, { portainer: { template: "moving" } });
    await world
      .sql`insert into stack_templates (user_id, name, image) values (null, 'moving', 'image:two')`;
    await update(id, { system_prompt: "with two" });
    expect((await finishNext(world.sql)).operation.kind).toBe("update");
    await call(owner, "rollback_agent($1)", id);
    const begun = await begin();
    expect(begun.plan.template).toMatchObject({ image: "image:one", version: 1 });
    await complete(begun);
    await world.sql`delete from stack_templates where name = 'moving' and version = 1`;
    expect(await refusal(call(owner, "rollback_agent($1, 1)", id))).toMatchObject({
      code: "INVALID_STATE",
      status: 409,
      details: { reason: "template_missing", template: "moving", version: 1 },
    });
  });

  test.each([
    ["no revision to go back to", "rollback_agent($1)", {
      code: "INVALID_STATE",
      status: 409,
      details: { reason: "no_revision" },
    }],
    ["a revision that is not there", "rollback_agent($1, 7)", {
      code: "REVISION_NOT_FOUND",
      status: 404,
      details: { revision: 7 },
    }],
    ["the revision that runs", "rollback_agent($1, 1)", {
      code: "INVALID_STATE",
      status: 409,
      details: { reason: "revision_runs" },
    }],
  ])("%s is refused", async (_, text, expected) => {
    const id = await createRunningAgent(world, owner);
    expect(await refusal(call(owner, text, id))).toMatchObject(expected);
    expect(await kindsOf(id)).toEqual(["deploy succeeded"]);
  });

  test("an agent that is stopped is to be started first", async () => {
    const id = await updatedAgent();
    await call(owner, "stop_agent($1)", id);
    await finishNext(world.sql);
    expect(await refusal(call(owner, "rollback_agent($1)", id))).toMatchObject({
      code: "INVALID_STATE",
      details: { state: "stopped" },
    });
    expect((await agentOf(id)).system_prompt).toBe("second");
  });

  test("of a rollback and an update at the same moment one is refused, and nothing is mixed", async () => {
    for (let round = 0; round < 5; round++) {
      const id = await updatedAgent();
      const outcomes = await Promise.allSettled([
        call(owner, "rollback_agent($1)", id),
        update(id, { system_prompt: "third", environment: { MODE: "three" } }),
      ]);
      expect(outcomes.map((each) => each.status).sort()).toEqual(["fulfilled", "rejected"]);
      const back = outcomes[0]!.status === "fulfilled";
      expect((await agentOf(id)).system_prompt).toBe(back ? "first" : "third");
      expect((await environmentOf(id)).MODE).toBe(back ? "one" : "three");
      await finishNext(world.sql);
    }
  });

  test("the quota of replicas counts", async () => {
    const id = await createRunningAgent(world, owner, { replicas: 40 });
    await update(id, { replicas: 1 });
    await finishNext(world.sql);
    for (let n = 0; n < 3; n++) await createAgent(owner, { replicas: 50 });
    await createAgent(owner, { replicas: 20 });
    expect(await refusal(call(owner, "rollback_agent($1)", id))).toMatchObject({
      code: "RESOURCE_LIMIT_EXCEEDED",
      status: 429,
    });
  });

  test("a model that was taken away is named", async () => {
    await world.sql`insert into models (framework, id) values ('google', 'gone')`;
    const id = await createRunningAgent(world, owner, { framework: "google", model: "gone" });
    await update(id, { model: "gemini-2.5-pro" });
    await finishNext(world.sql);
    await world.sql`delete from models where id = 'gone'`;
    expect(await refusal(call(owner, "rollback_agent($1)", id))).toMatchObject({
      code: "INVALID_MODEL",
      status: 400,
    });
    expect((await agentOf(id)).model).toBe("gemini-2.5-pro");
  });

  test("an image that the last scan blocks is not gone back to", async () => {
    await world.sql`insert into private.image_scans (image, vulnerabilities, scanned_at)
      values ('bad:one', '{"critical": 1, "high": 0, "medium": 0, "low": 0}', now())`;
    await world
      .sql`insert into stack_templates (user_id, name, image) values (null, 'scanned', 'bad:one')`;
    const id = await createRunningAgent(world, owner, { portainer: { template: "scanned" } });
    await update(id, { portainer: { template: "eliza-agent-template" } });
    await finishNext(world.sql);
    await world
      .sql`update settings set value = '"critical"' where key = 'block_deployment_on'`;
    try {
      expect(await refusal(call(owner, "rollback_agent($1)", id))).toMatchObject({
        code: "SECURITY_SCAN_FAILED",
        status: 422,
      });
    } finally {
      await world.sql`update settings set value = '"none"' where key = 'block_deployment_on'`;
    }
  });

  test("many agents go back in one batch", async () => {
    const ids = [await updatedAgent(), await createRunningAgent(world, owner)];
    const [row] = await owner.do((t) =>
      t`select create_batch('rollback', ${ids}, '{"max_concurrent": 1}') as answer`
    );
    expect(row!.answer.results).toMatchObject([
      { state: "queued" },
      { state: "rejected", error: { code: "INVALID_STATE" } },
    ]);
    await finishNext(world.sql);
    expect((await agentOf(ids[0]!)).system_prompt).toBe("first");
  });
});

describe("a rollback that is cancelled while it waits in a batch", () => {
  const cancel = async (ids: string[]) => {
    const [row] = await owner.do((t) =>
      t`select create_batch('rollback', ${ids}, '{"max_concurrent": 1}') as answer`
    );
    const last = ids.at(-1)!;
    expect((await agentOf(last)).system_prompt).toBe("first");
    await owner.do((t) => t`select cancel_batch(${row!.answer.batch.id})`);
    return last;
  };

  test("leaves the agent as it was, with nothing to roll out", async () => {
    const id = await cancel([await updatedAgent(), await updatedAgent()]);
    expect(await agentOf(id)).toMatchObject({ system_prompt: "second", status: "deployed" });
    expect(await environmentOf(id)).toEqual({ MODE: "two", MORE: "x" });
    expect((await deploymentOf(id)).observed_generation).toBe((await agentOf(id)).generation);
    await finishNext(world.sql);
    await call(owner, "restart_agent($1)", id);
    await finishNext(world.sql);
    expect(await statesOf(id)).toEqual(["1 deployed", "2 deployed"]);
    expect((await call(owner, "rollback_agent($1)", id)).operation.request)
      .toMatchObject({ to_revision: 1 });
  });

  test("leaves a change that did not come up to be tried again", async () => {
    const ids = [
      await updatedAgent(),
      await createRunningAgent(world, owner, {
        system_prompt: "first",
      }),
    ];
    await update(ids[1]!, { system_prompt: "third" });
    await failNext(away);
    const id = await cancel(ids);
    expect(await agentOf(id)).toMatchObject({ system_prompt: "third", status: "failed" });
  });
});

describe("who may", () => {
  test("a stranger finds neither agent nor revisions", async () => {
    const id = await updatedAgent();
    const stranger = await world.person();
    for (
      const text of ["rollback_agent($1)", "rollback_agent($1, 1)", "list_agent_revisions($1)"]
    ) {
      expect(await refusal(call(stranger, text, id))).toMatchObject({
        code: "AGENT_NOT_FOUND",
        status: 404,
      });
    }
    expect(await stranger.do((t) => t`select 1 from agent_revisions where agent_id = ${id}`))
      .toHaveLength(0);
  });

  test.each(["operator", "admin"] as const)(
    "an %s reads and goes back for others",
    async (role) => {
      const id = await updatedAgent();
      const person = await world.person(role);
      expect(await person.do((t) => t`select 1 from agent_revisions where agent_id = ${id}`))
        .toHaveLength(2);
      const answer = await call(person, "rollback_agent($1)", id);
      expect(answer.operation).toMatchObject({ kind: "rollback", user_id: owner.id });
    },
  );

  test("a key needs containers:manage to go back, agents:read to look", async () => {
    const id = await updatedAgent();
    const reading = await world.withKey(owner, ["agents:read"]);
    expect(await refusal(call(reading, "rollback_agent($1)", id))).toMatchObject({
      code: "PERMISSION_DENIED",
      status: 403,
    });
    expect(await reading.do((t) => t`select 1 from agent_revisions where agent_id = ${id}`))
      .toHaveLength(2);
    const managing = await world.withKey(owner, ["containers:manage"]);
    expect(await refusal(call(managing, "list_agent_revisions($1)", id))).toMatchObject({
      code: "PERMISSION_DENIED",
    });
    expect((await call(managing, "rollback_agent($1)", id)).operation.kind).toBe("rollback");
  });

  test("nobody writes revisions, anonymous callers see none", async () => {
    const id = await updatedAgent();
    for (
      const text of [
        `update agent_revisions set state = 'failed' where agent_id = '${id}'`,
        `delete from agent_revisions where agent_id = '${id}'`,
        "select * from private.revision_environments",
      ]
    ) {
      expect((await refusal(owner.do((t) => t.unsafe(text)))).code).toBe("42501");
    }
    expect((await refusal(world.anonymous((t) => t`select * from agent_revisions`))).code)
      .toBe("42501");
  });

  test("the list is paged from the newest", async () => {
    const id = await updatedAgent();
    await update(id, { system_prompt: "third" });
    await finishNext(world.sql);
    const list = async (...values: unknown[]) =>
      await call(owner, "list_agent_revisions($1, $2, $3)", id, ...values) as unknown as {
        revisions: { revision: number; running: boolean }[];
        running: number;
        has_more: boolean;
      };
    const page = await list(2, null);
    expect(page.revisions.map((row) => [row.revision, row.running])).toEqual([[3, true], [
      2,
      false,
    ]]);
    expect(page).toMatchObject({ running: 3, has_more: true });
    expect(await list(2, 2)).toMatchObject({ revisions: [{ revision: 1 }], has_more: false });
    expect(await refusal(list(51, null))).toMatchObject({ code: "VALIDATION_ERROR", status: 400 });
  });
});

describe("going back by itself", () => {
  test("an update that is given up puts back what ran, and says so everywhere", async () => {
    const id = await updatedAgent();
    await update(id, { system_prompt: "broken", replicas: 5, environment: { MODE: "broken" } });
    const { operation } = await failNext();
    expect((await world.sql`select * from operations where id = ${operation.id}`)[0]).toMatchObject(
      {
        state: "failed",
        error: { ...sick, details: { component: "portainer", rolled_back_to: 2 } },
      },
    );
    expect(await agentOf(id)).toMatchObject({
      system_prompt: "second",
      replicas: 1,
      environment_keys: ["MODE", "MORE"],
      status: "updating",
    });
    expect(await environmentOf(id)).toEqual({ MODE: "two", MORE: "x" });
    expect(await deploymentOf(id)).toMatchObject({
      state: "updating",
      replicas_desired: 1,
      error: { code: "CONTAINER_UNHEALTHY", rolled_back: true },
    });
    expect(await world.sql`select 1 from dead_letters where operation_id = ${operation.id}`)
      .toHaveLength(0);

    const begun = await begin();
    expect(begun.operation).toMatchObject({
      kind: "rollback",
      batch_id: null,
      request: { to_revision: 2, automatic: true, failed_operation_id: operation.id },
    });
    expect(begun.plan.environment).toEqual({ MODE: "two", MORE: "x" });
    await complete(begun);
    expect(await deploymentOf(id)).toMatchObject({
      state: "running",
      revision: 4,
      error: { code: "CONTAINER_UNHEALTHY", rolled_back: true },
    });
    expect((await deploymentOf(id)).observed_generation).toBe((await agentOf(id)).generation);
    const [, , broken, restored] = await revisionsOf(id);
    expect(broken).toMatchObject({
      state: "failed",
      error: { code: "CONTAINER_UNHEALTHY" },
      definition: { system_prompt: "broken", replicas: 5 },
    });
    expect(restored).toMatchObject({ state: "deployed", restored_from: 2 });
    const events = (await eventsOf(id)).slice(-3);
    expect(events.map((event) => event.event_type)).toEqual([
      "FAILED",
      "ROLLING_BACK",
      "ROLLED_BACK",
    ]);
    for (const event of events.slice(1)) {
      expect(event.data).toMatchObject({ reason: "CONTAINER_UNHEALTHY", to_revision: 2 });
    }
    expect(await claim(world.sql)).toHaveLength(0);
  });

  test("the next thing that works forgets why it went back", async () => {
    const id = await updatedAgent();
    await update(id, { system_prompt: "broken" });
    await failNext();
    await finishNext(world.sql);
    await update(id, { system_prompt: "better" });
    await finishNext(world.sql);
    expect(await deploymentOf(id)).toMatchObject({ error: null, revision: 5 });
  });

  test("it goes back to as many replicas as it was scaled to", async () => {
    const id = await createRunningAgent(world, owner);
    await call(owner, "scale_agent($1, 4)", id);
    await finishNext(world.sql);
    await update(id, { system_prompt: "broken" });
    await failNext();
    expect((await agentOf(id)).replicas).toBe(4);
  });

  test("a change over PostgREST goes back as well", async () => {
    const id = await updatedAgent();
    await owner.do((t) => t`update agents set system_prompt = 'broken' where id = ${id}`);
    await failNext();
    expect((await agentOf(id)).system_prompt).toBe("second");
    expect((await finishNext(world.sql)).operation.kind).toBe("rollback");
  });

  test("so does a rollback that was asked for", async () => {
    const id = await updatedAgent();
    await call(owner, "rollback_agent($1, 1)", id);
    await failNext();
    expect((await agentOf(id)).system_prompt).toBe("second");
    await finishNext(world.sql);
    expect(await kindsOf(id)).toEqual([
      "deploy succeeded",
      "update succeeded",
      "rollback failed",
      "rollback succeeded",
    ]);
  });

  test("going back that fails is the end of it", async () => {
    const id = await updatedAgent();
    await update(id, { system_prompt: "broken" });
    await failNext();
    const { operation } = await failNext();
    expect(await claim(world.sql)).toHaveLength(0);
    expect(await agentOf(id)).toMatchObject({ status: "failed", system_prompt: "second" });
    expect(await deploymentOf(id)).toMatchObject({ state: "failed", revision: 2 });
    expect(await world.sql`select kind from dead_letters where operation_id = ${operation.id}`)
      .toMatchObject([{ kind: "rollback" }]);
  });

  test("a dead letter of going back is carried out once more, and loops as little", async () => {
    const id = await updatedAgent();
    await update(id, { system_prompt: "broken" });
    await failNext();
    const { operation } = await failNext();
    const admin = await world.person("admin");
    await admin.do((t) =>
      t`select retry_dead_letter(id) from dead_letters where operation_id = ${operation.id}`
    );
    await failNext();
    expect(await claim(world.sql)).toHaveLength(0);
    expect((await agentOf(id)).status).toBe("failed");
  });

  test("a rollback to the last good revision that fails does not go back to the same", async () => {
    const id = await updatedAgent();
    await update(id, { system_prompt: "broken" });
    await failNext(away);
    await call(owner, "rollback_agent($1)", id);
    await failNext();
    expect(await claim(world.sql)).toHaveLength(0);
    expect((await agentOf(id)).status).toBe("failed");
  });

  test("an attempt that will be made again goes nowhere", async () => {
    const id = await updatedAgent();
    await update(id, { system_prompt: "broken" });
    const { operation, lease_token } = await begin();
    const [row] = await world.sql`select private.fail_operation(${operation.id}, ${lease_token}, ${
      world.sql.json(sick)
    }, true) as word`;
    expect(row!.word).toBe("retrying");
    expect((await agentOf(id)).system_prompt).toBe("broken");
    expect(await statesOf(id)).toContain("3 rolling_out");
  });

  test("a first deployment has nothing to go back to", async () => {
    const { agent: { id } } = await createAgent(owner);
    const { operation } = await failNext();
    expect(await agentOf(id)).toMatchObject({ status: "failed" });
    expect(await statesOf(id)).toEqual(["1 failed"]);
    expect(await world.sql`select 1 from dead_letters where operation_id = ${operation.id}`)
      .toHaveLength(1);
  });

  test.each([
    ["that does not answer", away],
    ["that lets nobody in", {
      code: "DEPLOYMENT_FAILED",
      message: "Portainer refused the credential",
      details: { reason: "unauthorized" },
    }],
  ])("a cluster %s says nothing against the change, which stays", async (_, error) => {
    const id = await updatedAgent();
    await update(id, { system_prompt: "fine" });
    const { operation } = await failNext(error);
    expect(await agentOf(id)).toMatchObject({ status: "failed", system_prompt: "fine" });
    expect(await claim(world.sql)).toHaveLength(0);
    expect(await world.sql`select 1 from dead_letters where operation_id = ${operation.id}`)
      .toHaveLength(1);
  });

  test("what was changed meanwhile is rolled out instead", async () => {
    const id = await updatedAgent();
    await update(id, { system_prompt: "broken" });
    const begun = await begin();
    await owner.do((t) => t`update agents set system_prompt = 'repaired' where id = ${id}`);
    await fail(begun, sick);
    expect((await agentOf(id)).system_prompt).toBe("repaired");
    expect((await finishNext(world.sql)).operation.kind).toBe("update");
    expect(await statesOf(id)).toEqual(["1 deployed", "2 deployed", "3 failed", "4 deployed"]);
    expect((await revisionsOf(id))[3]!.definition.system_prompt).toBe("repaired");
  });

  test("where that fails too, it goes back", async () => {
    const id = await updatedAgent();
    await update(id, { system_prompt: "broken" });
    const begun = await begin();
    await owner.do((t) => t`update agents set system_prompt = 'worse' where id = ${id}`);
    await fail(begun, sick);
    await failNext();
    expect((await agentOf(id)).system_prompt).toBe("second");
    expect((await finishNext(world.sql)).operation.kind).toBe("rollback");
  });

  test("a change made while it goes back follows it", async () => {
    const id = await updatedAgent();
    await update(id, { system_prompt: "broken" });
    await failNext();
    const begun = await begin();
    await owner.do((t) => t`update agents set system_prompt = 'repaired' where id = ${id}`);
    await complete(begun);
    expect((await finishNext(world.sql)).operation.kind).toBe("update");
    expect((await agentOf(id)).system_prompt).toBe("repaired");
  });

  test("what is not allowed any more is not brought back: the agent has failed", async () => {
    await world.sql`insert into models (framework, id) values ('google', 'fleeting')`;
    const id = await createRunningAgent(world, owner, { framework: "google", model: "fleeting" });
    await update(id, { model: "gemini-2.5-pro" });
    await world.sql`delete from models where id = 'fleeting'`;
    await failNext();
    expect(await agentOf(id)).toMatchObject({ status: "failed", model: "gemini-2.5-pro" });
    expect(await claim(world.sql)).toHaveLength(0);
  });

  test("a newer version of the template that does not come up is left alone", async () => {
    await world
      .sql`insert into stack_templates (user_id, name, image) values (null, 'breaking', 'image:good')`;
    const id = await createRunningAgent(world, owner, { portainer: { template: "breaking" } });
    await world
      .sql`insert into stack_templates (user_id, name, image) values (null, 'breaking', 'image:bad')`;
    await update(id, { system_prompt: "x" });
    const begun = await begin();
    expect(begun.plan.template).toMatchObject({ image: "image:bad" });
    await fail(begun, sick);
    expect((await begin()).plan.template).toMatchObject({ image: "image:good" });
  });

  test("in a batch the update stays failed", async () => {
    const id = await updatedAgent();
    const [row] = await owner.do((t) =>
      t`select create_batch('update', ${[
        id,
      ]}, '{"changes": {"system_prompt": "broken"}}') as answer`
    );
    await failNext();
    await finishNext(world.sql);
    const [after] = await owner.do((t) =>
      t`select batch_snapshot(${row!.answer.batch.id}) as answer`
    );
    expect(after!.answer).toMatchObject({
      batch: { state: "failed", failed: 1, succeeded: 0, running: 0 },
      results: [{ state: "failed", error: { details: { rolled_back_to: 2 } } }],
    });
    expect((await agentOf(id)).system_prompt).toBe("second");
  });
});

describe("forgetting", () => {
  test("deleting an agent takes its revisions and all its environments at once", async () => {
    const id = await updatedAgent();
    expect(await secretsOf(id)).toBe(2);
    await call(owner, "delete_agent($1)", id);
    expect(await revisionsOf(id)).toHaveLength(0);
    expect(await secretsOf(id)).toBe(0);
  });

  test("so does deleting its row, and its owner", async () => {
    const [first, second] = [await updatedAgent(), await updatedAgent()];
    await owner.do((t) => t`delete from agents where id = ${first}`);
    expect(await secretsOf(first)).toBe(0);
    expect(await secretsOf(second)).toBe(2);
    await world.sql`delete from auth.users where id = ${owner.id}`;
    for (const id of [first, second]) {
      expect(await revisionsOf(id)).toHaveLength(0);
      expect(await secretsOf(id)).toBe(0);
    }
  });

  test("deleting while an update is under way leaves nothing that writes it down again", async () => {
    const id = await updatedAgent();
    await update(id, { system_prompt: "third" });
    const begun = await begin();
    await call(owner, "delete_agent($1)", id);
    expect((await refusal(complete(begun))).code).toBe("LP001");
    expect(await revisionsOf(id)).toHaveLength(0);
  });

  test("an environment is kept once, however many revisions have it", async () => {
    const id = await createRunningAgent(world, owner, { environment: { MODE: "one" } });
    for (const prompt of ["a", "b", "c"]) {
      await update(id, { system_prompt: prompt });
      await finishNext(world.sql);
    }
    expect(await secretsOf(id)).toBe(1);
    await update(id, { environment: { MODE: null } });
    await finishNext(world.sql);
    expect(await environmentOf(id)).toEqual({});
    await call(owner, "rollback_agent($1)", id);
    expect(await environmentOf(id)).toEqual({ MODE: "one" });
    await finishNext(world.sql);
    await call(owner, "rollback_agent($1)", id);
    expect(await environmentOf(id)).toEqual({});
  });
});
