import { beforeAll, expect, test } from "vitest";
import { createWorld, type Person, refusal, type World } from "./support.ts";

let world: World;
let owner: Person;

beforeAll(async () => {
  world = await createWorld();
  owner = await world.person();
});

test("an agent made with a name alone gets the documented defaults", async () => {
  const [agent] = await owner.do((t) => t`insert into agents (name) values ('plain') returning *`);
  expect(agent).toMatchObject({
    user_id: owner.id,
    framework: "openai",
    model: "gpt-4o",
    status: "idle",
    settings: {},
    avatar: null,
  });
});

test("the owner reads, changes and deletes the agent", async () => {
  const [made] = await owner.do((t) =>
    t`insert into agents (name, framework) values ('mine', 'anthropic') returning id`
  );
  const [changed] = await owner.do((t) =>
    t`update agents set name = 'Senior', settings = '{"temperature": 0.6}' where id = ${made?.id} returning name, settings`
  );
  expect(changed).toEqual({ name: "Senior", settings: { temperature: 0.6 } });
  await owner.do((t) => t`delete from agents where id = ${made?.id}`);
  expect(await owner.do((t) => t`select id from agents where id = ${made?.id}`)).toHaveLength(0);
});

test.each(["idle", "thinking", "responding", "error", "offline", "updated"])(
  "a client may set the status %s",
  async (status) => {
    const [agent] = await owner.do((t) =>
      t`insert into agents (name, status) values ('a', ${status}) returning status`
    );
    expect(agent?.status).toBe(status);
  },
);

test.each(["queued", "deployed", "stopped", "deleting"])(
  "a client may not set the status %s",
  async (status) => {
    const refused = await refusal(
      owner.do((t) => t`insert into agents (name, status) values ('a', ${status})`),
    );
    expect(refused).toMatchObject({ code: "VALIDATION_ERROR", status: 400 });
    expect(refused.details).toHaveProperty("status");
  },
);

test("updated_at is the time of the change, whatever the client sent", async () => {
  const [agent] = await owner.do((t) =>
    t`with made as (insert into agents (name) values ('a') returning id) select id from made`
  );
  const [changed] = await owner.do((t) =>
    t`update agents set name = 'b', updated_at = '2001-01-01' where id = ${agent?.id} returning updated_at = now() as is_now`
  );
  expect(changed?.is_now).toBe(true);
});

test.each(["generation", "deleted_at", "environment_keys", "purge_after", "created_at"])(
  "the column %s is not the client's to write",
  async (column) => {
    const refused = await refusal(
      owner.do((t) => t.unsafe(`update agents set ${column} = ${column}`)),
    );
    expect(refused.code).toBe("42501");
  },
);

test.each([
  "deployments",
  "operations",
  "agent_events",
  "agent_logs",
  "agent_metrics",
  "container_events",
  "audit_log",
])(
  "clients write nothing into %s",
  async (table) => {
    const refused = await refusal(owner.do((t) => t.unsafe(`insert into ${table} default values`)));
    expect(refused.code).toBe("42501");
  },
);

test("one agent more than allowed is AGENT_LIMIT_REACHED", async () => {
  const person = await world.person();
  await world
    .sql`update settings set value = '2' where category = 'agents' and key = 'max_per_user'`;
  try {
    await person.do((t) => t`insert into agents (name) values ('one'), ('two')`);
    const refused = await refusal(person.do((t) => t`insert into agents (name) values ('three')`));
    expect(refused).toMatchObject({
      code: "AGENT_LIMIT_REACHED",
      status: 403,
      details: { limit: 2 },
    });
  } finally {
    await world
      .sql`update settings set value = '100' where category = 'agents' and key = 'max_per_user'`;
  }
});

test("users change their own preferences, not their role", async () => {
  await owner.do((t) =>
    t`update profiles set notification_preferences = '{"email": false}' where id = ${owner.id}`
  );
  const refused = await refusal(
    owner.do((t) => t`update profiles set role = 'admin' where id = ${owner.id}`),
  );
  expect(refused).toMatchObject({ code: "PERMISSION_DENIED", status: 403 });
});

test.each([
  ["notification_preferences.email", { email: "yes" }],
  ["notification_preferences.other", { other: true }],
  ["notification_preferences", ["email"]],
])("preferences are switches that are known: %s", async (field, preferences) => {
  const refused = await refusal(
    owner.do((t) =>
      t`update profiles set notification_preferences = ${
        JSON.stringify(preferences)
      }::text::jsonb where id = ${owner.id}`
    ),
  );
  expect(refused).toMatchObject({
    code: "VALIDATION_ERROR",
    status: 400,
    details: { [field]: expect.any(String) },
  });
});
