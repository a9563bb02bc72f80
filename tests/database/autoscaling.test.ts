/** Scaling by policy: what measurements lead to which decision, and what a decision leaves behind. */
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  call,
  claim,
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
});
beforeEach(async () => {
  // What other tests left is neither this one's to decide on nor what its worker finds.
  await world.sql`delete from private.autoscalings`;
  await world.sql`delete from private.operation_queue`;
  owner = await world.person();
});

/** The clock of a test stands; every moment in it is so many seconds before this one. */
const now = new Date(Date.now() + 3_600_000);
const ago = (seconds: number) => new Date(now.getTime() - seconds * 1000);

/** An agent that has run unchanged for an hour (or `settled` seconds), with limits of 1 core and 1 GiB. */
async function agentWith(
  scaling: Record<string, unknown> | null,
  { replicas = 2, settled = 3600, ...spec }: Record<string, unknown> = {},
): Promise<string> {
  const id = await createRunningAgent(world, owner, {
    replicas,
    scaling,
    resources: { cpu: "1", memory: "1Gi" },
    ...spec,
  });
  await settle(id, settled as number);
  return id;
}

const settle = (id: string, seconds: number) =>
  world.sql`update public.operations set finished_at = ${ago(seconds)} where agent_id = ${id}
    and finished_at is not null`;

interface Load {
  cpu?: number | null;
  memory?: number | null;
  containers?: number;
  limited?: boolean;
}

/** Measurements every ten seconds from `from` to `to` seconds ago: percent of its limit that each container uses. */
async function measure(
  id: string,
  { cpu = null, memory = null, containers = 2, limited = true }: Load,
  from = 55,
  to = 5,
): Promise<void> {
  const GiB = 1024 ** 3;
  for (let seconds = from; seconds >= to; seconds -= 10) {
    await world.sql`
      insert into public.agent_metrics (agent_id, user_id, timestamp, replicas, cpu_usage, cpu_limit, memory_usage, memory_limit, containers)
      select ${id}, ${owner.id}, ${
      ago(seconds)
    }, ${containers}::int, ${cpu}::float8 / 100 * ${containers}::int,
        ${limited ? containers : null}::float8, (${memory}::float8 / 100 * ${GiB}::float8)::bigint,
        ${limited ? containers * GiB : null}::bigint,
        (select jsonb_agg(jsonb_build_object('id', n, 'cpu_usage', ${cpu}::float8 / 100,
          'memory_usage', ${memory}::float8 / 100 * ${GiB}::float8)) from generate_series(1, ${containers}::int) n)
    `;
  }
}

const decide = async (at: Date = now) => {
  await world.sql`update private.autoscalings set next_at = '-infinity' where next_at < 'infinity'`;
  const [row] = await world.sql`select private.autoscale(${at}) as scaled`;
  return row!.scaled as number;
};
const read = async (id: string) =>
  (await world.sql`
    select a.replicas, a.status, a.generation, d.state, d.replicas_desired, d.observed_generation
    from public.agents a join public.deployments d on d.agent_id = a.id where a.id = ${id}`)[0]!;
const events = async (id: string) =>
  await world.sql`select event_type, message, data, operation_id, actor_id from public.agent_events
    where agent_id = ${id} and event_type like 'AUTOSCAL%' order by timestamp`;
const set = (category: string, key: string, value: unknown) =>
  world.sql`update public.settings set value = ${world.sql.json(value as never)}
    where category = ${category} and key = ${key}`;

const policy = { minReplicas: 1, maxReplicas: 10, targetCPU: 50 };

describe("up", () => {
  test("as many replicas as bring usage to the target, by an ordinary operation, told with its reason", async () => {
    const id = await agentWith(policy);
    await measure(id, { cpu: 90 });
    expect(await decide()).toBe(1);
    expect(await read(id)).toMatchObject({ replicas: 4, replicas_desired: 4, state: "scaling" });
    const [operation] = await world
      .sql`select * from public.operations where agent_id = ${id} and state = 'queued'`;
    expect(operation).toMatchObject({
      kind: "scale",
      requested_by: null,
      request: { from_replicas: 2, to_replicas: 4, automatic: true, strategy: "rolling" },
    });
    const [event] = await events(id);
    expect(event).toMatchObject({
      event_type: "AUTOSCALED",
      operation_id: operation!.id,
      actor_id: null,
      message: "Scaling up from 2 to 4 replicas: CPU at 90.0 % of its limit, target 50 %",
      data: {
        reason: "above_target",
        metric: "cpu",
        value_percent: 90,
        target_percent: 50,
        from_replicas: 2,
        to_replicas: 4,
        min_replicas: 1,
        max_replicas: 10,
        window: { samples: 6 },
      },
    });
  });

  test("carrying it out brings no update after it", async () => {
    const id = await agentWith(policy);
    await measure(id, { cpu: 90 });
    await decide();
    expect((await finishNext(world.sql)).operation.kind).toBe("scale");
    const { state, generation, observed_generation } = await read(id);
    expect(state).toBe("running");
    expect(observed_generation).toBe(generation);
    expect(await claim(world.sql)).toHaveLength(0);
  });

  test("the higher of CPU and memory decides", async () => {
    const id = await agentWith({ ...policy, targetMemory: 50 });
    await measure(id, { cpu: 60, memory: 75 });
    await decide();
    expect((await read(id)).replicas).toBe(3);
    expect((await events(id))[0]!.data).toMatchObject({ metric: "memory", value_percent: 75 });
  });

  test("a policy with a target for memory alone", async () => {
    const id = await agentWith({ targetMemory: 40 });
    await measure(id, { cpu: 100, memory: 80 });
    await decide();
    expect((await read(id)).replicas).toBe(4);
  });

  test.each([54, 46])("%i where the target is 50 is near enough", async (cpu) => {
    const id = await agentWith(policy);
    await measure(id, { cpu }, 360);
    expect(await decide()).toBe(0);
    expect(await events(id)).toHaveLength(0);
  });

  test("not more at once than the settings say", async () => {
    const id = await agentWith({ targetCPU: 10 });
    await measure(id, { cpu: 100 });
    await decide();
    expect((await read(id)).replicas).toBe(6);
    expect((await events(id))[0]!.data).toMatchObject({
      wanted_replicas: 20,
      limited_by: "at_once",
    });
  });

  test("replicas that are not measured count as idle", async () => {
    const id = await agentWith(policy, { replicas: 3 });
    await measure(id, { cpu: 90, containers: 2 });
    await decide();
    expect((await read(id)).replicas).toBe(4);
  });

  test("what unmeasured replicas could turn round is not decided", async () => {
    const id = await agentWith(policy, { replicas: 4 });
    await measure(id, { cpu: 90, containers: 2 });
    expect(await decide()).toBe(0);
  });
});

describe("nothing is decided", () => {
  test.each<[string, Load, number, number]>([
    ["without measurements of the metric", { cpu: null, memory: 90 }, 60, 5],
    ["on too few measurements", { cpu: 90 }, 15, 5],
    ["on stale measurements", { cpu: 90 }, 120, 61],
  ])("%s", async (_, load, from, to) => {
    const id = await agentWith(policy);
    await measure(id, load, from, to);
    expect(await decide()).toBe(0);
    expect(await events(id)).toHaveLength(0);
  });

  test("on what was measured before the last change", async () => {
    const id = await agentWith(policy, { settled: 25 });
    await set("autoscaling", "up_cooldown_seconds", 0);
    try {
      await measure(id, { cpu: 90 }, 55, 35);
      await measure(id, { cpu: 50 }, 15, 5);
      expect(await decide()).toBe(0);
    } finally {
      await set("autoscaling", "up_cooldown_seconds", 60);
    }
  });

  test("without limits there is no percentage; that is told once of each", async () => {
    const id = await agentWith({ ...policy, targetMemory: 50 });
    await measure(id, { cpu: 90, memory: 90, limited: false });
    expect(await decide()).toBe(0);
    expect(await decide()).toBe(0);
    expect(await events(id)).toMatchObject([
      { event_type: "AUTOSCALING_LIMITED", data: { limited_by: "no_limit", metric: "cpu" } },
      { event_type: "AUTOSCALING_LIMITED", data: { limited_by: "no_limit", metric: "memory" } },
    ]);
  });

  test("while an operation is under way", async () => {
    const id = await agentWith(policy);
    await measure(id, { cpu: 90 });
    await call(owner, "public.restart_agent($1)", id);
    expect(await decide()).toBe(0);
  });

  test("for a stopped agent, and again once it runs", async () => {
    const id = await agentWith(policy);
    await call(owner, "public.stop_agent($1)", id);
    await finishNext(world.sql);
    await measure(id, { cpu: 90 });
    expect(await decide()).toBe(0);
    await call(owner, "public.start_agent($1)", id);
    await finishNext(world.sql);
    await settle(id, 3600);
    expect(await decide()).toBe(1);
  });

  test("for an agent that is being deleted", async () => {
    const id = await agentWith(policy);
    await measure(id, { cpu: 90 });
    await call(owner, "public.delete_agent($1)", id);
    expect(await decide()).toBe(0);
  });

  test("where Kubernetes does it", async () => {
    const id = await agentWith(policy);
    await world
      .sql`update public.deployments set orchestrator = 'kubernetes' where agent_id = ${id}`;
    await measure(id, { cpu: 90 });
    expect(await decide()).toBe(0);
  });

  test("when the settings turn it off", async () => {
    const id = await agentWith(policy);
    await measure(id, { cpu: 90 });
    await set("autoscaling", "enabled", false);
    expect(await decide()).toBe(0);
    await set("autoscaling", "enabled", true);
    expect(await decide()).toBe(1);
  });

  test("without a policy any more", async () => {
    const id = await agentWith(policy);
    await measure(id, { cpu: 90 });
    await world.sql`update public.agents set scaling = null where id = ${id}`;
    expect(await decide()).toBe(0);
  });
});

describe("down", () => {
  test("to the highest that the whole window asked for", async () => {
    const id = await agentWith(policy, { replicas: 6 });
    await measure(id, { cpu: 25, containers: 6 }, 360, 215);
    await measure(id, { cpu: 5, containers: 6 }, 205);
    expect(await decide()).toBe(1);
    expect((await read(id)).replicas).toBe(3);
    expect((await events(id))[0]).toMatchObject({
      message: "Scaling down from 6 to 3 replicas: CPU at 5.0 % of its limit, target 50 %",
      data: { reason: "below_target", wanted_replicas: 3 },
    });
  });

  test("not below the policy", async () => {
    const id = await agentWith({ ...policy, minReplicas: 2 }, { replicas: 6 });
    await measure(id, { cpu: 0, containers: 6 }, 360);
    await decide();
    expect((await read(id)).replicas).toBe(2);
  });

  test("not while one metric is unknown", async () => {
    const id = await agentWith({ ...policy, targetMemory: 50 }, { replicas: 6 });
    await measure(id, { cpu: 0, containers: 6 }, 360);
    expect(await decide()).toBe(0);
  });

  test("not within the window after a change, as by hand", async () => {
    const id = await agentWith(policy, { replicas: 1 });
    await call(owner, "public.scale_agent($1, 6)", id);
    await finishNext(world.sql);
    await measure(id, { cpu: 0, containers: 6 }, 360);
    await settle(id, 299);
    expect(await decide()).toBe(0);
    await settle(id, 301);
    expect(await decide()).toBe(1);
    expect((await read(id)).replicas).toBe(1);
  });
});

describe("bounds", () => {
  test.each([
    [{ minReplicas: 5, maxReplicas: 8 }, 5, "below_minimum"],
    [{ maxReplicas: 1 }, 1, "above_maximum"],
  ])(
    "replicas outside of %o are brought inside at once, to %i",
    async (scaling, replicas, reason) => {
      const id = await agentWith(scaling, { settled: 1 });
      expect(await decide()).toBe(1);
      expect((await read(id)).replicas).toBe(replicas);
      expect((await events(id))[0]!.data).toMatchObject({ reason, to_replicas: replicas });
    },
  );

  test("a policy that changes is looked at in the next round", async () => {
    const id = await agentWith(policy);
    await world.sql`update private.autoscalings set next_at = now() + interval '1 day'`;
    await owner.do((t) =>
      t`update public.agents set scaling = '{"minReplicas": 4}' where id = ${id}`
    );
    await world.sql`select private.autoscale()`;
    expect((await read(id)).replicas).toBe(4);
  });

  test("more than maxReplicas is told once, and again after it was over for long", async () => {
    const id = await agentWith({ ...policy, maxReplicas: 2 });
    await measure(id, { cpu: 90 });
    await decide();
    await decide();
    expect(await events(id)).toMatchObject([{
      event_type: "AUTOSCALING_LIMITED",
      message:
        "Needs 4 replicas and stays at 2 (CPU at 90.0 % of its limit, target 50 %): the policy allows at most 2",
      data: { limited_by: "max_replicas", wanted_replicas: 4, from_replicas: 2 },
    }]);
    await world.sql`update private.autoscalings set limits = ${
      world.sql.json({ max_replicas: ago(301).toISOString() })
    }`;
    await decide();
    expect(await events(id)).toHaveLength(2);
  });

  test("the part that maxReplicas allows is done", async () => {
    const id = await agentWith({ ...policy, maxReplicas: 3 });
    await measure(id, { cpu: 90 });
    await decide();
    expect((await events(id))[0]!.data).toMatchObject({
      to_replicas: 3,
      wanted_replicas: 4,
      limited_by: "max_replicas",
    });
  });

  test("the owner's quota of replicas", async () => {
    await set("agents", "max_replicas_per_user", 8);
    try {
      await createRunningAgent(world, owner, { name: "other", replicas: 5 });
      const id = await agentWith(policy);
      await measure(id, { cpu: 90 });
      await decide();
      expect((await read(id)).replicas).toBe(3);
      expect((await events(id))[0]!.data).toMatchObject({ limited_by: "quota" });
      await finishNext(world.sql);
      await settle(id, 3600);
      await measure(id, { cpu: 90, containers: 3 }, 4, 1);
      expect(await decide()).toBe(0);
      expect((await events(id)).at(-1)!.data).toMatchObject({ limited_by: "quota" });
    } finally {
      await set("agents", "max_replicas_per_user", 200);
    }
  });

  test("within the cool-down nothing is added; that is told once", async () => {
    const id = await agentWith(policy, { settled: 59 });
    await measure(id, { cpu: 90 }, 50);
    expect(await decide()).toBe(0);
    expect(await decide()).toBe(0);
    expect(await events(id)).toMatchObject([{ data: { limited_by: "cooldown" } }]);
    await settle(id, 61);
    expect(await decide()).toBe(1);
  });
});

describe("a policy alone", () => {
  test.each([
    ["update_agent", `public.update_agent($1, '{"scaling": {"targetCPU": 50}}')`],
    ["scale_agent", `public.scale_agent($1, 2, 'rolling', '{"targetCPU": 50}')`],
  ])("takes effect when %s brings it", async (_, command) => {
    const id = await agentWith(null);
    await call(owner, command, id);
    for (const { operation, lease_token: token } of await claim(world.sql)) {
      await world.sql`select private.complete_operation(${operation.id}, ${token}, '{}')`;
    }
    await settle(id, 3600);
    await measure(id, { cpu: 90 });
    expect(await decide()).toBe(1);
  });

  test("rolls nothing out where we scale", async () => {
    const id = await agentWith(null);
    await owner.do((t) =>
      t`update public.agents set scaling = '{"targetCPU": 50}' where id = ${id}`
    );
    expect(await claim(world.sql)).toHaveLength(0);
    const { state, generation, observed_generation } = await read(id);
    expect([state, observed_generation]).toEqual(["running", generation]);
    // Going back to what runs does not go back behind it.
    const [revision] = await world
      .sql`select definition from public.agent_revisions where agent_id = ${id}`;
    expect(revision!.definition).toMatchObject({ replicas: 2, scaling: { targetCPU: 50 } });
  });

  test("is a scaling and no update where Kubernetes does", async () => {
    const id = await agentWith(null);
    await world
      .sql`update public.deployments set orchestrator = 'kubernetes' where agent_id = ${id}`;
    await owner.do((t) =>
      t`update public.agents set scaling = '{"targetCPU": 50}' where id = ${id}`
    );
    expect((await finishNext(world.sql)).operation).toMatchObject({
      kind: "scale",
      request: { from_replicas: 2, to_replicas: 2, policy_changed: true },
    });
    const { generation, observed_generation } = await read(id);
    expect(observed_generation).toBe(generation);
    await owner.do((t) =>
      t`update public.agents set scaling = null, system_prompt = 'x' where id = ${id}`
    );
    expect((await finishNext(world.sql)).operation.kind).toBe("update");
  });
});

describe("many at once", () => {
  test("two callers scale each agent once", async () => {
    const ids = [];
    for (let n = 0; n < 6; n++) {
      owner = await world.person();
      ids.push(await agentWith(policy));
      await measure(ids[n]!, { cpu: 90 });
    }
    await world.sql`update private.autoscalings set next_at = '-infinity'`;
    const rounds = await Promise.all(
      [1, 2, 3].map(() => world.sql`select private.autoscale(${now}) as scaled`),
    );
    expect(rounds.reduce((sum, [row]) => sum + row!.scaled, 0)).toBe(6);
    for (const id of ids) expect(await events(id)).toHaveLength(1);
  });

  test("an agent that somebody else holds is left for the next round, and nobody waits", async () => {
    const id = await agentWith(policy);
    await measure(id, { cpu: 90 });
    await world.sql.begin(async (t) => {
      await t`select from public.agents where id = ${id} for update`;
      expect(await decide()).toBe(0);
    });
    expect(await decide()).toBe(1);
  });

  test("an agent that cannot be decided on keeps no other from it", async () => {
    const [broken, id] = [await agentWith(policy), await agentWith(policy, { name: "other" })];
    await measure(broken, { cpu: 90 });
    await measure(id, { cpu: 90 });
    await world.sql`update public.agent_metrics set containers = '{}' where agent_id = ${broken}`;
    expect(await decide()).toBe(1);
    expect((await read(id)).replicas).toBe(4);
  });
});

describe("a scaling that fails", () => {
  async function fail() {
    const [claimed] = await claim(world.sql);
    const { operation, lease_token: token } = claimed!;
    await world.sql`select private.operation_plan(${operation.id}, ${token})`;
    await world.sql`select private.fail_operation(${operation.id}, ${token},
      '{"code": "RESOURCE_EXHAUSTED", "message": "The cluster has no room"}', false)`;
  }

  test("takes the agent back to what it had, and rests", async () => {
    const id = await agentWith(policy);
    await measure(id, { cpu: 90 });
    await decide();
    await fail();
    expect(await read(id)).toMatchObject({ replicas: 2, state: "scaling" });
    expect((await finishNext(world.sql)).operation).toMatchObject({
      kind: "scale",
      request: { from_replicas: 4, to_replicas: 2, automatic: true },
    });
    const { state, generation, observed_generation } = await read(id);
    expect(state).toBe("running");
    expect(observed_generation).toBe(generation);
    expect((await events(id)).at(-1)).toMatchObject({
      event_type: "AUTOSCALING_LIMITED",
      data: { limited_by: "scaling_failed", code: "RESOURCE_EXHAUSTED", to_replicas: 2 },
    });
    await settle(id, 3600);
    await world.sql`select private.autoscale(now() + interval '800 seconds')`;
    expect((await read(id)).state).toBe("running");
    expect(await world.sql`select from public.dead_letters where agent_id = ${id}`).toHaveLength(0);
  });

  test("and cannot get back either fails like any other", async () => {
    const id = await agentWith(policy);
    await measure(id, { cpu: 90 });
    await decide();
    await fail();
    await fail();
    expect((await read(id)).state).toBe("failed");
    expect(await world.sql`select from public.dead_letters where agent_id = ${id}`).toHaveLength(1);
  });

  test("fails the agent when it was asked for by hand", async () => {
    const id = await agentWith(policy);
    await call(owner, "public.scale_agent($1, 3)", id);
    await fail();
    expect((await read(id)).state).toBe("failed");
  });
});

describe("where Kubernetes scales", () => {
  const seen = (desired: number, more: Record<string, unknown> = {}) => ({
    desired,
    replicas: desired,
    metrics: [
      { metric: "memory", value_percent: 20, target_percent: 80 },
      { metric: "cpu", value_percent: 90, target_percent: 50 },
    ],
    limited_by: null,
    ...more,
  });
  const observe = (id: string, autoscaler: unknown) =>
    world.sql`select private.observe_deployment(${id}, ${world.sql.json({ autoscaler } as never)})`;
  async function agentOnKubernetes(scaling: Record<string, unknown> = policy) {
    const id = await agentWith(scaling);
    await world
      .sql`update public.deployments set orchestrator = 'kubernetes' where agent_id = ${id}`;
    return id;
  }

  test("what it decided is taken over, told, and rolled out by nobody", async () => {
    const id = await agentOnKubernetes();
    const before = await read(id);
    await observe(id, seen(4));
    await observe(id, seen(4));
    expect(await read(id)).toEqual({ ...before, replicas: 4, replicas_desired: 4 });
    expect(await events(id)).toMatchObject([{
      event_type: "AUTOSCALED",
      operation_id: null,
      data: { by: "kubernetes", metric: "cpu", from_replicas: 2, to_replicas: 4 },
    }]);
    expect(await claim(world.sql)).toHaveLength(0);
    const [revision] = await world
      .sql`select definition from public.agent_revisions where agent_id = ${id}`;
    expect(revision!.definition.replicas).toBe(4);
    await observe(id, seen(3));
    expect((await events(id))[1]!.data).toMatchObject({ reason: "below_target", to_replicas: 3 });
  });

  test("a count that it brings within the policy is told as that, measured or not", async () => {
    const id = await agentOnKubernetes({ ...policy, minReplicas: 3 });
    await observe(id, seen(3, { metrics: [] }));
    await world
      .sql`update public.agents set scaling = scaling || '{"minReplicas": 1, "maxReplicas": 2}' where id = ${id}`;
    await finishNext(world.sql);
    await observe(id, seen(2));
    expect(await events(id)).toMatchObject([
      { message: expect.stringContaining("at least 3"), data: { reason: "below_minimum" } },
      { message: expect.stringContaining("at most 2"), data: { reason: "above_maximum" } },
    ]);
  });

  test("a count that it did not decide, or one under an operation, is not taken over", async () => {
    const id = await agentOnKubernetes();
    await observe(id, seen(4, { replicas: 2 }));
    expect((await read(id)).replicas).toBe(2);
    await call(owner, "public.scale_agent($1, 3)", id);
    await observe(id, seen(4));
    expect((await read(id)).replicas).toBe(3);
  });

  test.each(["max_replicas", "unmeasured", "scaling_failed"])(
    "that it is limited by %s is told once",
    async (limited_by) => {
      const id = await agentOnKubernetes({ ...policy, maxReplicas: 2 });
      await observe(id, seen(2, { limited_by }));
      await observe(id, seen(2, { limited_by }));
      expect(await events(id)).toMatchObject([
        { event_type: "AUTOSCALING_LIMITED", data: { limited_by, by: "kubernetes" } },
      ]);
    },
  );

  test("that it could never decide is told too", async () => {
    const id = await agentOnKubernetes();
    await observe(id, seen(2, { replicas: null, limited_by: "unmeasured" }));
    expect((await events(id))[0]!.data).toMatchObject({ limited_by: "unmeasured", replicas: 2 });
    expect((await read(id)).replicas).toBe(2);
  });

  test("the owner's quota bounds it: over it goes back, and on when there is room again", async () => {
    await set("agents", "max_replicas_per_user", 8);
    try {
      const other = await createRunningAgent(world, owner, { name: "other", replicas: 5 });
      const id = await agentOnKubernetes();
      await observe(id, seen(5));
      expect((await events(id)).at(-1)!.data).toMatchObject({ reason: "quota", to_replicas: 3 });
      const [claimed] = await claim(world.sql);
      const [row] = await world.sql`select private.operation_plan(${claimed!.operation.id}, ${
        claimed!.lease_token
      }) #> '{agent,scaling}' as scaling`;
      expect(row!.scaling).toMatchObject({ minReplicas: 1, maxReplicas: 3 });
      await world.sql`select private.complete_operation(${claimed!.operation.id}, ${
        claimed!.lease_token
      }, '{}')`;

      await observe(id, seen(3, { limited_by: "max_replicas" }));
      expect((await events(id)).at(-1)!.data).toMatchObject({ limited_by: "quota" });
      await call(owner, "public.stop_agent($1)", other);
      await finishNext(world.sql);
      await world
        .sql`update private.autoscalings set limits = jsonb_build_object('quota', now() - interval '31 seconds')`;
      await observe(id, seen(3, { limited_by: "max_replicas" }));
      expect((await events(id)).at(-1)!.data).toMatchObject({
        reason: "quota_free",
        to_replicas: 4,
      });
    } finally {
      await set("agents", "max_replicas_per_user", 200);
    }
  });
});

test("a minimum is no way around the owner's quota", async () => {
  await set("agents", "max_replicas_per_user", 8);
  try {
    await createRunningAgent(world, owner, { name: "other", replicas: 5 });
    const id = await agentWith({ minReplicas: 50, maxReplicas: 50, targetCPU: 50 });
    const [row] = await world.sql`
      select private.scaling_policy_within_quota(a) as policy from agents a where a.id = ${id}`;
    expect(row!.policy).toMatchObject({ minReplicas: 3, maxReplicas: 3 });
  } finally {
    await set("agents", "max_replicas_per_user", 200);
  }
});

test("what the worker is told of a policy has the bounds that the policy leaves out", async () => {
  const id = await agentWith({ targetCPU: 70 });
  await call(owner, "public.scale_agent($1, 3)", id);
  const [claimed] = await claim(world.sql);
  const [row] = await world.sql`
    select private.operation_plan(${claimed!.operation.id}, ${
    claimed!.lease_token
  }) #> '{agent,scaling}' as scaling`;
  expect(row!.scaling).toEqual({
    minReplicas: 1,
    maxReplicas: 50,
    targetCPU: 70,
    targetMemory: null,
  });
});
