import { beforeAll, expect, test } from "vitest";
import { createAgent, createWorld, type Person, refusal, type World } from "./support.ts";

let world: World;
let owner: Person;

beforeAll(async () => {
  world = await createWorld();
  owner = await world.person();
});

const insert = (columns: Record<string, unknown>) =>
  owner.do((t) => t`insert into agents ${t(columns)}`);

test("all bad fields are named at once", async () => {
  expect(await refusal(insert({ name: "", framework: "x" }))).toMatchObject({
    code: "VALIDATION_ERROR",
    status: 400,
    message: "Invalid request body",
    details: {
      name: "Name is required",
      framework: "Framework must be one of: openai, anthropic, google",
    },
  });
});

test("a wrong framework alone is INVALID_FRAMEWORK", async () => {
  expect(await refusal(insert({ name: "a", framework: "x" }))).toMatchObject({
    code: "INVALID_FRAMEWORK",
    status: 400,
  });
});

test("a model of another framework is INVALID_MODEL", async () => {
  expect(await refusal(insert({ name: "a", framework: "anthropic", model: "gpt-4o" })))
    .toMatchObject({ code: "INVALID_MODEL", status: 400 });
});

test.each(["6Mi", "6144Ki", "6.3M", "6291456", "1Gi", "0.5Gi"])(
  "an agent may ask for %s of memory",
  async (memory) => {
    await insert({ name: "a", resources: { memory } });
  },
);

test.each([
  ["settings.temperature", { settings: { temperature: 2.1 } }],
  ["settings.top_p", { settings: { top_p: "high" } }],
  ["settings.stop", { settings: { stop: "x" } }],
  ["resources.memory", { resources: { memory: "lots" } }],
  ["resources.memory", { resources: { memory: "512" } }],
  ["resources.memory", { resources: { memory: "6143Ki" } }],
  // No unit of Kubernetes: an engine would be given no limit at all.
  ["resources.memory", { resources: { memory: "512000K" } }],
  ["resources.cpu", { resources: { cpu: "0" } }],
  ["replicas", { replicas: 51 }],
  ["scaling.targetCPU", { scaling: { targetCPU: 101 } }],
  ["scaling.maxReplicas", { scaling: { minReplicas: 3, maxReplicas: 2 } }],
  ["name", { name: "x".repeat(101) }],
  ["settings", { settings: { other: "x".repeat(65_536) } }],
  ["resources", { resources: { memory: "1Gi", other: "x".repeat(65_536) } }],
  ["scaling", { scaling: { maxReplicas: 3, other: "x".repeat(65_536) } }],
  ["enabled_tools", { enabled_tools: ["x".repeat(201)] }],
  ["enabled_tools", { enabled_tools: Array.from({ length: 201 }, (_, n) => `tool-${n}`) }],
  ["supabase_config.database_url", { supabase_config: { database_url: "postgres://u:p@h/d" } }],
  ["portainer.template", { portainer: { template: "not-there" } }],
  ["portainer.template", { portainer: { template: 7 } }],
  ["portainer.deployment_strategy", { portainer: { deployment_strategy: "canary" } }],
  ["portainer.deployment_strategy", { portainer: { deployment_strategy: ["rolling"] } }],
  ["portainer.health_checks", { portainer: { health_checks: "on" } }],
  ["portainer.health_checks.enabled", { portainer: { health_checks: { enabled: "yes" } } }],
  ["portainer.health_checks.interval", { portainer: { health_checks: { interval: "500ms" } } }],
  ["portainer.health_checks.interval", { portainer: { health_checks: { interval: "0s" } } }],
  ["portainer.health_checks.interval", { portainer: { health_checks: { interval: "2h" } } }],
  ["portainer.health_checks.interval", { portainer: { health_checks: { interval: 30 } } }],
  ["portainer.health_checks.timeout", { portainer: { health_checks: { timeout: "31s" } } }],
  ["portainer.health_checks.timeout", {
    portainer: { health_checks: { interval: "5s", timeout: "6s" } },
  }],
  ["portainer.health_checks.retries", { portainer: { health_checks: { retries: 0 } } }],
  ["portainer.health_checks.retries", { portainer: { health_checks: { retries: 1.5 } } }],
  ["portainer.health_checks.intervall", { portainer: { health_checks: { intervall: "5s" } } }],
])("a bad %s is named", async (field, columns) => {
  const refused = await refusal(insert({ name: "a", ...columns }));
  expect(refused.code).toBe("VALIDATION_ERROR");
  expect(Object.keys(refused.details ?? {})).toEqual([field]);
});

test.each([
  ["nickname", { nickname: "x" }],
  ["plugins", { plugins: "x" }],
  ["plugins", { plugins: [1] }],
  ["character", { character: "x" }],
  ["replicas", { replicas: 1.5 }],
  ["cluster_id", { cluster_id: "x" }],
  ["environment.1A", { environment: { "1A": "x" } }],
  ["environment.A", { environment: { A: {} } }],
])("create_agent names a bad %s", async (field, spec) => {
  const refused = await refusal(createAgent(owner, spec));
  expect(refused).toMatchObject({ code: "VALIDATION_ERROR", status: 400 });
  expect(Object.keys(refused.details ?? {})).toEqual([field]);
});

test.each([
  {},
  { deployment_strategy: "blue-green", health_checks: null },
  { health_checks: { enabled: false } },
  { health_checks: { enabled: null, interval: "1h", timeout: "60m", retries: 100 } },
])("portainer may be %j", async (portainer) => {
  await insert({ name: "a", portainer });
});

test("blue-green is no way to scale, and the answer says where it belongs", async () => {
  const { agent } = await createAgent(owner);
  const refused = await refusal(
    owner.do((t) => t`select scale_agent(${agent.id}, 2, 'blue-green')`),
  );
  expect(refused.details?.strategy).toContain("portainer.deployment_strategy");
});

test("a refused creation leaves nothing behind", async () => {
  const before = await world.sql`select count(*) from agents`;
  await refusal(createAgent(owner, { environment: { "1A": "x" } }));
  expect(await world.sql`select count(*) from agents`).toEqual(before);
});

test("a template of one's own is for stacks, none for an agent", async () => {
  await owner.do((t) =>
    t`insert into stack_templates (name, version, definition)
      values ('of-mine', 1, ${t.json({ services: { web: { image: "nginx:1" } } })})`
  );
  expect(await refusal(insert({ name: "a", portainer: { template: "of-mine" } }))).toMatchObject({
    code: "VALIDATION_ERROR",
    details: { "portainer.template": "There is no such template for agents" },
  });
});

test("an agent whose template was removed can still be changed", async () => {
  await world
    .sql`insert into stack_templates (user_id, name, version, image) values (null, 'passing', 1, 'x')`;
  const { agent: { id } } = await createAgent(owner, { portainer: { template: "passing" } });
  await world.sql`delete from stack_templates where name = 'passing'`;
  await owner.do((t) => t`update agents set replicas = 2 where id = ${id}`);
  expect(
    await refusal(
      owner.do((t) => t`update agents set portainer = '{"template": "passed"}' where id = ${id}`),
    ),
  ).toMatchObject({ code: "VALIDATION_ERROR" });
});
