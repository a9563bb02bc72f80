import { beforeAll, expect, test } from "vitest";
import {
  createAgent,
  createRunningAgent,
  createWorld,
  type Person,
  refusal,
  type World,
} from "./support.ts";

let world: World;
let owner: Person;
let stranger: Person;
let agentId: string;

const tables = [
  "agents",
  "agent_buckets",
  "deployments",
  "operations",
  "agent_events",
  "agent_logs",
  "agent_metrics",
  "agent_metrics_latest",
  "container_events",
  "api_keys",
  "security_events",
  "security_scans",
];

beforeAll(async () => {
  world = await createWorld();
  owner = await world.person();
  stranger = await world.person();
  agentId = await createRunningAgent(world, owner, {
    environment: { TOKEN: "canary-value" },
    supabase_config: { storage: { bucket: "strangers" } },
  });
  await owner.do((t) => t`select generate_api_key('mine')`);
  await world
    .sql`insert into agent_logs (agent_id, user_id, timestamp, level, message) values (${agentId}, ${owner.id}, now(), 'INFO', 'x')`;
  await world
    .sql`insert into agent_metrics (agent_id, user_id, replicas) values (${agentId}, ${owner.id}, 1)`;
  await world.sql`select private.write_security_event('AUTH_FAILURE', 'HIGH', ${owner.id}, 'x')`;
  await owner.do((t) => t`select scan_agent(${agentId})`);
  await world
    .sql`select private.observe_deployment(${agentId}, '{"containers": [{"id": "c", "name": "n", "status": "running"}]}')`;
});

test.each(tables)("the owner sees rows of %s", async (table) => {
  expect(await owner.do((t) => t.unsafe(`select * from ${table}`))).not.toHaveLength(0);
});

test.each(tables)("a stranger sees no row of %s", async (table) => {
  expect(await stranger.do((t) => t.unsafe(`select * from ${table}`))).toHaveLength(0);
});

test.each(tables)("anonymous callers may not read %s", async (table) => {
  expect(await refusal(world.anonymous((t) => t.unsafe(`select * from ${table}`)))).toMatchObject({
    code: "42501",
  });
});

test("an operator sees the agents of all users", async () => {
  const operator = await world.person("operator");
  expect(await operator.do((t) => t`select id from agents where id = ${agentId}`)).toHaveLength(1);
});

test("a demoted operator sees them no more, at once", async () => {
  const operator = await world.person("operator");
  await world.sql`update profiles set role = 'user' where id = ${operator.id}`;
  expect(await operator.do((t) => t`select id from agents`)).toHaveLength(0);
});

test.each([
  ["agent_snapshot($1)"],
  ["scale_agent($1, 2)"],
  ["restart_agent($1)"],
  ["stop_agent($1)"],
  ["start_agent($1)"],
  ["delete_agent($1)"],
  ["update_agent($1, '{}')"],
  ["agent_log_lines($1)"],
  ["agent_metric_series($1, now() - interval '1 hour', interval '5 minutes')"],
])("another user's agent does not exist for %s", async (text) => {
  const refused = await refusal(stranger.do((t) => t.unsafe(`select ${text}`, [agentId])));
  expect(refused).toMatchObject({ code: "AGENT_NOT_FOUND", status: 404 });
});

test("a stranger changes and deletes nothing over PostgREST", async () => {
  expect(
    await stranger.do((t) =>
      t`update agents set name = 'stolen' where id = ${agentId} returning id`
    ),
  ).toHaveLength(0);
  expect(await stranger.do((t) => t`delete from agents where id = ${agentId} returning id`))
    .toHaveLength(0);
});

test("nobody makes an agent for somebody else", async () => {
  const refused = await refusal(
    stranger.do((t) => t`insert into agents (name, user_id) values ('x', ${owner.id})`),
  );
  expect(refused.code).toBe("42501");
});

test("nobody takes the id of an agent that is gone, with what Realtime keeps of it", async () => {
  const gone = await createRunningAgent(world, owner);
  await world.sql`delete from agents where id = ${gone}`;
  const refused = await refusal(
    stranger.do((t) => t`insert into agents (id, name) values (${gone}, 'heir')`),
  );
  expect(refused.code).toBe("42501");
});

test.each([
  "vault.secrets",
  "vault.decrypted_secrets",
  "private.agent_environments",
  "private.api_key_digests",
  "private.operation_queue",
  "private.rate_limits",
  "private.idempotency_keys",
])("no user reads %s", async (table) => {
  for (const person of [owner, await world.person("admin")]) {
    expect(await refusal(person.do((t) => t.unsafe(`select * from ${table}`)))).toMatchObject({
      code: "42501",
    });
  }
});

test("no table that a client reads holds a value of an agent's environment", async () => {
  const readable = await world.sql`
    select c.oid::regclass::text as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v') and n.nspname in ('public', 'realtime')
      and has_table_privilege('authenticated', c.oid, 'select')`;
  expect(readable.length).toBeGreaterThan(10);
  for (const { name } of readable) {
    const [found] = await world.sql.unsafe(
      `select count(*)::int as n from ${name} r where r::text like '%canary-value%'`,
    );
    expect(found?.n, name).toBe(0);
  }
});

test("the stack name of another user is not given away", async () => {
  const first = await createAgent(owner, { portainer: { stack_name: "shared-name" } });
  const second = await createAgent(stranger, { portainer: { stack_name: "shared-name" } });
  expect(first.deployment.stack_name).toBe("shared-name");
  expect(second.deployment.stack_name).toBe(`shared-name-${second.agent.id.slice(0, 8)}`);
});
