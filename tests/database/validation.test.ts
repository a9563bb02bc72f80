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

test.each([
  ["settings.temperature", { settings: { temperature: 2.1 } }],
  ["settings.top_p", { settings: { top_p: "high" } }],
  ["settings.stop", { settings: { stop: "x" } }],
  ["resources.memory", { resources: { memory: "lots" } }],
  ["resources.cpu", { resources: { cpu: "0" } }],
  ["replicas", { replicas: 51 }],
  ["scaling.targetCPU", { scaling: { targetCPU: 101 } }],
  ["scaling.maxReplicas", { scaling: { minReplicas: 3, maxReplicas: 2 } }],
  ["name", { name: "x".repeat(101) }],
  ["supabase_config.database_url", { supabase_config: { database_url: "postgres://u:p@h/d" } }],
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

test("a refused creation leaves nothing behind", async () => {
  const before = await world.sql`select count(*) from agents`;
  await refusal(createAgent(owner, { environment: { "1A": "x" } }));
  expect(await world.sql`select count(*) from agents`).toEqual(before);
});
