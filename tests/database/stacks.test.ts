/** Stacks: templates and their parameters, owners, secrets, operations, update with diff, going back. */
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { claim, createWorld, type Person, refusal, type World } from "./support.ts";

interface StackAnswer {
  stack: Record<string, unknown> & { id: string; state: string; stack_name: string };
  operation: { id: string; kind: string; state: string; steps: { name: string }[] } | null;
  changes: Record<string, unknown>;
}

let world: World;
let owner: Person;
let stranger: Person;
beforeAll(async () => {
  world = await createWorld();
});
beforeEach(async () => {
  // What other tests left waiting is not what this one's worker finds.
  await world.sql`delete from private.operation_queue`;
  owner = await world.person();
  stranger = await world.person();
});

async function rpc(person: Person, text: string, ...values: unknown[]): Promise<StackAnswer> {
  const rows = await person.do((t) => t.unsafe(`select ${text} as answer`, values as never[]));
  return rows[0]?.answer as StackAnswer;
}

let number = 0;
const create = (person: Person, spec: Record<string, unknown> = {}) =>
  rpc(
    person,
    "public.create_stack($1::text::jsonb)",
    JSON.stringify({
      name: `stack-${++number}`,
      template: "eliza-agent-template",
      environment: { AGENT_NAME: "helper", DISCORD_TOKEN: "secret-token" },
      ...spec,
    }),
  );
const update = (person: Person, id: string, changes: Record<string, unknown>) =>
  rpc(person, "public.update_stack($1, $2::text::jsonb)", id, JSON.stringify(changes));

async function finish(error?: { code: string; message: string; details: object }) {
  const [claimed] = await claim(world.sql);
  if (!claimed) throw new Error("No operation was due.");
  const { operation: { id }, lease_token: token } = claimed;
  const [row] = await world.sql`select private.operation_plan(${id}, ${token}) as plan`;
  if (error === undefined) {
    await world
      .sql`select private.record_placement(${id}, ${token}, '{"stack_id": "7", "orchestrator": "portainer-swarm"}')`;
    await world.sql`select private.complete_operation(${id}, ${token}, '{}')`;
  } else {
    await world.sql`select private.fail_operation(${id}, ${token}, ${
      world.sql.json(error as never)
    }, false)`;
  }
  return { plan: row!.plan, kind: claimed.operation.kind };
}

async function running(spec?: Record<string, unknown>): Promise<string> {
  const { stack } = await create(owner, spec);
  await finish();
  return stack.id;
}

const read = async (id: string) =>
  (await world.sql`select * from public.stacks where id = ${id}`)[0]!;
const failure = {
  code: "CONTAINER_UNHEALTHY",
  message: "Container health check failed",
  details: {},
};

describe("creating", () => {
  test("a stack is queued with its steps; image and replicas come from template and environment", async () => {
    const { stack, operation } = await create(owner, {
      environment: { AGENT_NAME: "helper", REPLICAS: "5" },
    });
    expect(stack).toMatchObject({ state: "queued", replicas: 5, template_version: 1 });
    expect(operation).toMatchObject({ kind: "deploy_stack", state: "queued", agent_id: null });
    const { plan } = await finish();
    expect(plan.stack.services["eliza-agent"]).toMatchObject({
      image: "elizaos/eliza:latest",
      replicas: 5,
    });
    expect((await read(stack.id)).state).toBe("running");
  });

  test("values are in Vault only, the worker gets them with the template's defaults", async () => {
    const { stack } = await create(owner);
    const rows = await world
      .sql`select to_jsonb(s)::text as text from public.stacks s where id = ${stack.id}
      union all select to_jsonb(o)::text from public.operations o where stack_id = ${stack.id}
      union all select to_jsonb(l)::text from public.audit_log l where target_id = ${stack.id}
      union all select m.payload::text from realtime.messages m where m.topic = ${`stack:${stack.id}`}`;
    expect(rows.length).toBeGreaterThan(3);
    expect(rows.map((row) => row.text).join()).not.toContain("secret-token");
    expect(stack.environment_keys).toEqual(["AGENT_NAME", "DISCORD_TOKEN"]);
    const { plan } = await finish();
    expect(plan.environment).toEqual({
      AGENT_NAME: "helper",
      DISCORD_TOKEN: "secret-token",
      REPLICAS: "1",
    });
  });

  test("every parameter that is missing or wrong is named at once, no value is", async () => {
    const refused = await refusal(create(owner, { environment: { REPLICAS: "many" } }));
    expect(refused).toMatchObject({
      code: "VALIDATION_ERROR",
      status: 400,
      details: {
        "environment.AGENT_NAME": "is required",
        "environment.REPLICAS": "must be a whole number",
      },
    });
    expect(JSON.stringify(refused)).not.toContain("many");
  });

  test.each([0, 51])("%i replicas are refused", async (replicas) => {
    const refused = await refusal(
      create(owner, { environment: { AGENT_NAME: "a", REPLICAS: String(replicas) } }),
    );
    expect(refused.details).toHaveProperty(["services.eliza-agent.replicas"]);
  });

  test("agents and stacks share the quota of replicas", async () => {
    await world
      .sql`update public.settings set value = '6' where category = 'agents' and key = 'max_replicas_per_user'`;
    try {
      await create(owner, { environment: { AGENT_NAME: "a", REPLICAS: "4" } });
      expect(
        await refusal(create(owner, { environment: { AGENT_NAME: "b", REPLICAS: "3" } })),
      ).toMatchObject({ code: "RESOURCE_LIMIT_EXCEEDED", status: 429 });
      expect(
        await refusal(
          owner.do((t) => t`select public.create_agent('{"name": "a", "replicas": 3}')`),
        ),
      ).toMatchObject({ code: "RESOURCE_LIMIT_EXCEEDED" });
    } finally {
      await world
        .sql`update public.settings set value = '200' where category = 'agents' and key = 'max_replicas_per_user'`;
    }
  });

  test("two users may use one name; in Portainer they differ", async () => {
    const one = await create(owner, { name: "shared-name" });
    const other = await create(stranger, { name: "shared-name" });
    expect(one.stack.stack_name).toBe("shared-name");
    expect(other.stack.stack_name).toMatch(/^shared-name-[0-9a-f]{8}$/);
    expect(await refusal(create(owner, { name: "shared-name" }))).toMatchObject({
      code: "VALIDATION_ERROR",
      details: { name: "You have a stack of this name already" },
    });
  });

  test("of two requests at once with one name one is told that it is taken", async () => {
    const name = "at-once";
    const both = await Promise.allSettled([create(owner, { name }), create(owner, { name })]);
    expect(both.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
    const lost = both.find((one) => one.status === "rejected")!;
    expect(await refusal(Promise.reject((lost as PromiseRejectedResult).reason))).toMatchObject({
      code: "VALIDATION_ERROR",
      details: { name: "You have a stack of this name already" },
    });
    const others = await Promise.all([
      create(stranger, { name: "by-two" }),
      create(owner, { name: "by-two" }),
    ]);
    expect(new Set(others.map(({ stack }) => stack.stack_name)).size).toBe(2);
  });

  test("an agent does not get the name of a stack", async () => {
    const { stack } = await create(owner, { name: "taken-by-stack" });
    const rows = await stranger.do((t) =>
      t`select public.create_agent('{"name": "taken by stack"}') as answer`
    );
    expect(rows[0]!.answer.deployment.stack_name).not.toBe(stack.stack_name);
  });

  test("Kubernetes is refused in words", async () => {
    const [cluster] = await world.sql`
      insert into public.clusters (name, kind, url) values ('kube', 'kubernetes', 'https://kube.test') returning id`;
    expect(await refusal(create(owner, { cluster_id: cluster!.id }))).toMatchObject({
      code: "VALIDATION_ERROR",
      status: 400,
      details: { cluster_id: expect.stringContaining("Kubernetes") },
    });
  });

  test("where the default cluster is Kubernetes, one with Docker is taken", async () => {
    const [before] = await world.sql`select id from public.clusters where is_default`;
    const [cluster] = await world.sql`
      insert into public.clusters (name, kind, url) values ('kube-default', 'kubernetes', 'https://kube.test') returning id`;
    await world.sql`update public.clusters set is_default = false`;
    await world.sql`update public.clusters set is_default = true where id = ${cluster!.id}`;
    try {
      const { stack } = await create(owner);
      expect(stack.cluster_id).toBe(before!.id);
    } finally {
      await world.sql`update public.clusters set is_default = false`;
      await world.sql`update public.clusters set is_default = true where id = ${before!.id}`;
    }
  });

  test("Kubernetes behind Portainer is refused as well", async () => {
    const [cluster] = await world.sql`
      insert into public.clusters (name, kind, url, endpoint_id)
      values ('kube-behind', 'portainer', 'https://kube.test', 2) returning id`;
    await world.sql`
      insert into public.cluster_health (cluster_id, status, orchestrator)
      values (${cluster!.id}, 'healthy', 'portainer-kubernetes')`;
    expect(await refusal(create(owner, { cluster_id: cluster!.id }))).toMatchObject({
      code: "VALIDATION_ERROR",
      details: { cluster_id: expect.stringContaining("Kubernetes") },
    });
  });

  test("names that a Swarm would find too long are refused before anything is deployed", async () => {
    const { stack } = await create(owner, { name: "y".repeat(40) });
    await finish();
    const service = "a-service-whose-name-is-thirty";
    await owner.do((t) =>
      t`insert into public.stack_templates (name, definition)
        values ('long-names', ${t.json({ services: { [service]: { image: "nginx:1" } } })})`
    );
    const spec = { template: "long-names", environment: {} };
    expect(await refusal(create(owner, { ...spec, name: "x".repeat(24) }))).toMatchObject({
      code: "VALIDATION_ERROR",
      details: { [`services.${service}`]: expect.stringContaining("53 characters") },
    });
    expect((await create(owner, { ...spec, name: "x".repeat(23) })).stack.state).toBe("queued");
    expect(await refusal(update(owner, stack.id, { template: "long-names" }))).toMatchObject({
      code: "VALIDATION_ERROR",
    });
  });

  test("a version that is no whole number is refused by name", async () => {
    expect(await refusal(create(owner, { template_version: 1.5 }))).toMatchObject({
      code: "VALIDATION_ERROR",
      details: { template_version: expect.any(String) },
    });
  });

  test("labels of ours cannot be set", async () => {
    expect(await refusal(create(owner, { labels: { "agent-launchpad.agent": "x" } })))
      .toMatchObject(
        { code: "VALIDATION_ERROR", details: { labels: expect.any(String) } },
      );
  });
});

describe("owners", () => {
  test("a stranger neither sees nor changes nor deletes a stack, and reads as if there were none", async () => {
    const id = await running();
    expect(await stranger.do((t) => t`select id from public.stacks`)).toHaveLength(0);
    for (
      const attempt of [
        () => rpc(stranger, "public.stack_snapshot($1)", id),
        () => update(stranger, id, { labels: {} }),
        () => rpc(stranger, "public.delete_stack($1)", id),
      ]
    ) {
      expect(await refusal(attempt())).toMatchObject({ code: "NOT_FOUND", status: 404 });
    }
  });

  test("nobody writes the table past the commands", async () => {
    const id = await running();
    for (
      const statement of [
        `update public.stacks set state = 'failed' where id = '${id}'`,
        `delete from public.stacks where id = '${id}'`,
        `insert into public.stacks (user_id, name) values ('${owner.id}', 'x')`,
      ]
    ) {
      expect((await refusal(owner.do((t) => t.unsafe(statement)))).code).toBe("42501");
    }
  });

  test("an API key without containers:manage reads, but does not create", async () => {
    await running();
    const key = await world.withKey(owner, ["agents:read", "agents:write"]);
    expect(await key.do((t) => t`select id from public.stacks`)).toHaveLength(1);
    expect(await refusal(create(key))).toMatchObject({ code: "PERMISSION_DENIED", status: 403 });
  });

  test("an administrator sees all", async () => {
    const id = await running();
    const admin = await world.person("admin");
    expect((await rpc(admin, "public.stack_snapshot($1)", id)).stack.id).toBe(id);
  });
});

describe("templates", () => {
  const definition = {
    services: {
      web: { image: "nginx:${TAG}", replicas: 2, environment: { GREETING: "hello ${WHO}" } },
      cache: { image: "redis:7", pass_environment: false },
    },
  };
  const parameters = [
    { name: "TAG", default: "1", pattern: "[0-9.]+" },
    { name: "WHO", required: true, secret: true },
  ];
  const add = (person: Person, body: Record<string, unknown> = {}) =>
    person.do((t) =>
      t`insert into public.stack_templates ${
        t({ name: "mine", definition, parameters, ...body } as never)
      } returning version`
    );

  test("a user's own is versioned, used by the owner and hidden from others", async () => {
    expect((await add(owner))[0]!.version).toBe(1);
    expect((await add(owner))[0]!.version).toBe(2);
    const { stack } = await create(owner, { template: "mine", environment: { WHO: "you" } });
    expect(stack).toMatchObject({ template_version: 2, replicas: 3 });
    expect(
      (await create(owner, { template: "mine", template_version: 1, environment: { WHO: "you" } }))
        .stack.template_version,
    ).toBe(1);
    expect(await refusal(create(stranger, { template: "mine", environment: { WHO: "me" } })))
      .toMatchObject({ code: "VALIDATION_ERROR", details: { template: expect.any(String) } });
    expect(await stranger.do((t) => t`select 1 from public.stack_templates where name = 'mine'`))
      .toHaveLength(0);
  });

  test("a pattern is held against the whole value, an undeclared name is refused", async () => {
    await add(owner);
    const refused = await refusal(
      create(owner, { template: "mine", environment: { WHO: "x", TAG: "1; rm", OTHER: "y" } }),
    );
    expect(Object.keys(refused.details!).sort()).toEqual(["environment.OTHER", "environment.TAG"]);
  });

  test("another user's and the installation's cannot be added or changed", async () => {
    expect((await refusal(add(owner, { user_id: stranger.id }))).code).toBe("42501");
    expect((await refusal(add(owner, { user_id: null }))).code).toBe("42501");
    const update = owner.do((t) => t`update public.stack_templates set definition = '{}'`);
    expect((await refusal(update)).code).toBe("42501");
    const removed = await owner.do((t) =>
      t`delete from public.stack_templates where name = 'eliza-agent-template' returning id`
    );
    expect(removed).toHaveLength(0);
  });

  test.each([
    ["a path of the host", { volumes: ["/etc:/etc"] }],
    ["a privileged container", { privileged: true }],
    ["a secret in the image", { image: "nginx:${WHO}" }],
    ["a network that is not there", { networks: ["other"] }],
    ["a port that is none", { ports: [70000] }],
    ["no image", { image: "" }],
  ])("%s is refused", async (_, change) => {
    const refused = await refusal(
      add(owner, { definition: { services: { web: { image: "nginx:1", ...change } } } }),
    );
    expect(refused).toMatchObject({ code: "VALIDATION_ERROR", status: 400 });
  });

  test.each([
    ["com.docker.compose.project", "victim"],
    ["agent-launchpad.agent", "victim"],
    ["io.portainer.accesscontrol.public", ""],
    ["number", 5],
    ["long", "x".repeat(1025)],
  ])("its label %s is refused", async (name, value) => {
    expect(await refusal(add(owner, { labels: { [name]: value } }))).toMatchObject({
      code: "VALIDATION_ERROR",
      details: { labels: expect.any(String) },
    });
  });

  test("a user keeps so many, another's are not counted", async () => {
    const [one, other] = [await world.person(), await world.person()];
    await world.sql`update settings set value = '2' where key = 'max_templates_per_user'`;
    try {
      const rows = Array.from({ length: 3 }, (_, n) => ({ name: `t${n}`, definition, parameters }));
      const refused = await refusal(
        one.do((t) => t`insert into public.stack_templates ${t(rows as never)}`),
      );
      expect(refused).toMatchObject({
        code: "RESOURCE_LIMIT_EXCEEDED",
        status: 429,
        details: { limit: 2 },
      });
      for (const person of [one, one, other]) await add(person);
    } finally {
      await world.sql`update settings set value = '100' where key = 'max_templates_per_user'`;
    }
  });

  test("a stack stays what it is when its template is removed", async () => {
    await add(owner);
    const id = await running({ template: "mine", environment: { WHO: "you" } });
    await owner.do((t) => t`delete from public.stack_templates where name = 'mine'`);
    const { changes, operation } = await update(owner, id, { environment: { TAG: "2" } });
    expect(operation?.kind).toBe("update_stack");
    expect(changes.services).toMatchObject({
      changed: [{ name: "web", image: { from: "nginx:1", to: "nginx:2" } }],
    });
    await finish();
  });
});

describe("updating", () => {
  test("says what changes: replicas, names of variables, labels; no values", async () => {
    const id = await running({ labels: { team: "a" } });
    const answer = await update(owner, id, {
      environment: { REPLICAS: "3", DISCORD_TOKEN: "another-secret", EXTRA: "third-secret" },
      labels: { team: "b", tier: "1" },
    });
    expect(answer.changes).toMatchObject({
      template: null,
      services: {
        added: [],
        removed: [],
        changed: [{ name: "eliza-agent", replicas: { from: 1, to: 3 } }],
      },
      environment: { added: ["EXTRA"], removed: [], changed: ["DISCORD_TOKEN", "REPLICAS"] },
      labels: { added: ["tier"], removed: [], changed: ["team"] },
    });
    expect(JSON.stringify(answer)).not.toMatch(/another-secret|third-secret/);
    expect(answer.stack.state).toBe("updating");
    const { plan } = await finish();
    expect(plan.environment).toMatchObject({
      DISCORD_TOKEN: "another-secret",
      AGENT_NAME: "helper",
    });
    expect(await read(id)).toMatchObject({ state: "running", replicas: 3, error: null });
  });

  test("without a difference nothing is queued", async () => {
    const id = await running();
    const answer = await update(owner, id, { environment: { AGENT_NAME: "helper" } });
    expect(answer.operation).toBeNull();
    expect(answer.stack.state).toBe("running");
  });

  test("while another operation is active it is refused with its id", async () => {
    const { stack, operation } = await create(owner);
    expect(await refusal(update(owner, stack.id, { labels: { a: "b" } }))).toMatchObject({
      code: "OPERATION_IN_PROGRESS",
      status: 409,
      details: { operation_id: operation!.id },
    });
    await finish();
  });

  test("one that fails goes back to what ran before, secrets included, and says so", async () => {
    const id = await running();
    await update(owner, id, { environment: { DISCORD_TOKEN: "broken-token", REPLICAS: "9" } });
    expect((await finish(failure)).kind).toBe("update_stack");
    expect(await read(id)).toMatchObject({ state: "rolling_back", replicas: 1 });
    const back = await finish();
    expect(back.kind).toBe("rollback_stack");
    expect(back.plan.environment).toMatchObject({ DISCORD_TOKEN: "secret-token" });
    expect(back.plan.stack).toMatchObject({ generation: 3 });
    expect(await read(id)).toMatchObject({
      state: "running",
      error: { code: "CONTAINER_UNHEALTHY", rolled_back: true },
    });
    expect(await world.sql`select 1 from public.dead_letters where stack_id = ${id}`).toHaveLength(
      0,
    );
    // The next good update ends the matter.
    await update(owner, id, { environment: { REPLICAS: "2" } });
    await finish();
    expect((await read(id)).error).toBeNull();
  });

  test("a deployment that fails is a dead letter, and an administrator can try it again", async () => {
    const { stack } = await create(owner);
    await finish(failure);
    expect(await read(stack.id)).toMatchObject({ state: "failed", error: { code: failure.code } });
    const [letter] = await world
      .sql`select id, kind from public.dead_letters where stack_id = ${stack.id}`;
    expect(letter?.kind).toBe("deploy_stack");
    const admin = await world.person("admin");
    await admin.do((t) => t`select public.retry_dead_letter(${letter!.id})`);
    expect((await finish()).kind).toBe("deploy_stack");
    expect(await read(stack.id)).toMatchObject({ state: "running", error: null });
  });

  test("a rollback that fails leaves a failed stack and a dead letter", async () => {
    const id = await running();
    await update(owner, id, { environment: { REPLICAS: "2" } });
    await finish(failure);
    await finish(failure);
    expect((await read(id)).state).toBe("failed");
    expect(await world.sql`select kind from public.dead_letters where stack_id = ${id}`)
      .toMatchObject([{ kind: "rollback_stack" }]);
  });
});

describe("deleting", () => {
  test("secrets go at once, the row when the services are gone", async () => {
    const id = await running();
    const secrets = () => world.sql`select 1 from vault.secrets where name like ${"stack-%:" + id}`;
    expect(await secrets()).toHaveLength(2);
    const { stack, operation } = await rpc(owner, "public.delete_stack($1)", id);
    expect(stack.state).toBe("deleting");
    expect(operation?.kind).toBe("delete_stack");
    expect(await secrets()).toHaveLength(0);
    expect((await finish()).plan.deployment).toMatchObject({ stack_name: stack.stack_name });
    expect(await world.sql`select 1 from public.stacks where id = ${id}`).toHaveLength(0);
  });

  test("it cancels an operation that waits", async () => {
    const { stack, operation } = await create(owner);
    await rpc(owner, "public.delete_stack($1)", stack.id);
    const [row] = await world.sql`select state from public.operations where id = ${operation!.id}`;
    expect(row?.state).toBe("cancelled");
    expect((await finish()).kind).toBe("delete_stack");
  });

  test("a second deletion is refused with the first one's id", async () => {
    const id = await running();
    const { operation } = await rpc(owner, "public.delete_stack($1)", id);
    expect(await refusal(rpc(owner, "public.delete_stack($1)", id))).toMatchObject({
      code: "OPERATION_IN_PROGRESS",
      details: { operation_id: operation!.id },
    });
    await finish();
  });

  test("what a deleted user ran is torn down", async () => {
    const id = await running();
    await world.sql`delete from auth.users where id = ${owner.id}`;
    const [row] = await world
      .sql`select kind, state, user_id from public.operations where stack_id = ${id} and state = 'queued'`;
    expect(row).toMatchObject({ kind: "delete_stack", user_id: null });
    await finish();
  });
});
