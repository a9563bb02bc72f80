import { beforeAll, expect, test } from "vitest";
import { createRunningAgent, createWorld, type Person, type World } from "./support.ts";

let world: World;
let owner: Person;
let agentId: string;

beforeAll(async () => {
  world = await createWorld();
  owner = await world.person();
  agentId = await createRunningAgent(world, owner, { environment: { TOKEN: "canary-value" } });
  await world
    .sql`select private.observe_deployment(${agentId}, '{"containers": [{"id": "c", "name": "n", "status": "running"}]}')`;
  await world
    .sql`insert into agent_metrics (agent_id, user_id, replicas) values (${agentId}, ${owner.id}, 1)`;
});

test.each(["agents", "operations", "container_events", "agent_metrics"])(
  "a change of %s goes to the topics of the agent and of its owner, and is private",
  async (table) => {
    const sent = await world.sql`
      select distinct topic, private from realtime.messages where payload ->> 'table' = ${table} order by topic`;
    expect(sent).toEqual([
      { topic: `agent:${agentId}`, private: true },
      { topic: `user:${owner.id}`, private: true },
    ]);
  },
);

test("no message holds what describes an agent", async () => {
  await owner.do((t) =>
    t`update agents set status = 'thinking', system_prompt = 'personal' where id = ${agentId}`
  );
  const [found] = await world
    .sql`select count(*)::int as n from realtime.messages m where m::text like '%personal%'`;
  expect(found?.n).toBe(0);
});

test("no message holds a value of the environment", async () => {
  const [found] = await world
    .sql`select count(*)::int as n from realtime.messages m where m::text like '%canary-value%'`;
  expect(found?.n).toBe(0);
});

test.each(["agent", "user"])(
  "the owner may hear the topic of the %s, a stranger may not",
  async (kind) => {
    const topic = kind === "agent" ? `agent:${agentId}` : `user:${owner.id}`;
    const heard = (person: Person) =>
      person.do(async (t) => {
        await t`select set_config('realtime.topic', ${topic}, true)`;
        return await t`select 1 from realtime.messages where topic = ${topic} limit 1`;
      });
    expect(await heard(owner)).toHaveLength(1);
    expect(await heard(await world.person())).toHaveLength(0);
  },
);
