import { beforeAll, expect, test } from "vitest";
import { createWorld, type Person, refusal, type World } from "./support.ts";

let world: World;
beforeAll(async () => {
  world = await createWorld();
});

interface Decision {
  decision: string;
  message?: string;
  should_logout_user?: boolean;
}

/** What Auth does with each password attempt. */
async function attempt(
  person: Person,
  valid: boolean,
  address: string | null = "192.0.2.1",
): Promise<Decision> {
  const event = {
    user_id: person.id,
    valid,
    ...(address === null ? {} : { metadata: { ip_address: address } }),
  };
  const [row] = await world.sql`
    select private.password_verification_hook(${world.sql.json(event)}) as decision`;
  return row?.decision as Decision;
}

async function fail(person: Person, times: number, address?: string | null): Promise<Decision> {
  let last: Decision = { decision: "none" };
  for (let count = 0; count < times; count++) last = await attempt(person, false, address);
  return last;
}

const eventsOf = (person: Person) =>
  person.do((t) => t`select * from security_events order by timestamp desc`);

test("four failures are forgiven, and the fifth locks out for fifteen minutes", async () => {
  const person = await world.person();
  expect(await fail(person, 4)).toEqual({ decision: "continue" });
  expect(await fail(person, 1)).toMatchObject({ decision: "reject", should_logout_user: false });
  expect(await attempt(person, true)).toMatchObject({
    decision: "reject",
    message: "Too many failed sign-ins. Try again in 15 minutes.",
  });
});

test("a lock-out is one event with every documented field", async () => {
  const person = await world.person();
  await fail(person, 20);
  const events = await eventsOf(person);
  expect(events).toHaveLength(1);
  expect(events[0]).toMatchObject({
    event_type: "AUTH_FAILURE",
    severity: "HIGH",
    user_id: person.id,
    agent_id: null,
    message: "Multiple authentication failures detected",
    ip_address: "192.0.2.1",
    user_agent: null,
    details: { failure_count: 5, time_window: "5 minutes", supabase_session_id: null },
    automated_response: { action_taken: "TEMPORARY_LOCKOUT", duration: "15 minutes" },
  });
});

test("a lock-out ends by itself, and attempts made meanwhile do not lengthen it", async () => {
  const person = await world.person();
  await fail(person, 8);
  await world.sql`
    update private.sign_in_failures set locked_until = locked_until - interval '15 minutes' where user_id = ${person.id}`;
  expect(await attempt(person, true)).toEqual({ decision: "continue" });
});

test("somebody else's failures do not lock the owner out of another address", async () => {
  const person = await world.person();
  await fail(person, 5, "192.0.2.66");
  expect(await attempt(person, true, "192.0.2.66")).toMatchObject({ decision: "reject" });
  expect(await attempt(person, true, "192.0.2.1")).toEqual({ decision: "continue" });
});

test("guessing from many addresses locks the account, critically", async () => {
  const person = await world.person();
  for (let host = 1; host <= 50; host++) await attempt(person, false, `198.51.100.${host}`);
  expect(await attempt(person, true)).toMatchObject({ decision: "reject" });
  expect(await eventsOf(person)).toMatchObject([{
    severity: "CRITICAL",
    details: { failure_count: 50, scope: "account" },
  }]);
});

test("guessing from elsewhere does not keep the owner out of where they are signed in", async () => {
  const person = await world.person();
  await world.sql`
    insert into auth.sessions (id, user_id, created_at, updated_at, ip)
    values (gen_random_uuid(), ${person.id}, now(), now(), '192.0.2.1')`;
  for (let host = 1; host <= 50; host++) await attempt(person, false, `198.51.100.${host}`);
  expect(await attempt(person, true, "203.0.113.1")).toMatchObject({ decision: "reject" });
  expect(await attempt(person, true, "192.0.2.1")).toEqual({ decision: "continue" });
  await fail(person, 5, "192.0.2.1");
  expect(await attempt(person, true, "192.0.2.1")).toMatchObject({ decision: "reject" });
  expect(await attempt(person, true, "203.0.113.1")).toMatchObject({ decision: "reject" });
});

test("an Auth that tells no address locks the account", async () => {
  const person = await world.person();
  await fail(person, 5, null);
  expect(await attempt(person, true, null)).toMatchObject({ decision: "reject" });
});

test("a sign-in makes good what failed before", async () => {
  const person = await world.person();
  await fail(person, 4);
  await attempt(person, true);
  expect(await fail(person, 4)).toEqual({ decision: "continue" });
});

test("failures that lie further apart than the window do not add up", async () => {
  const person = await world.person();
  await fail(person, 4);
  await world.sql`
    update private.sign_in_failures set since = since - interval '5 minutes' where user_id = ${person.id}`;
  expect(await fail(person, 4)).toEqual({ decision: "continue" });
});

test("attempts at the same time are no way around the count", async () => {
  const person = await world.person();
  await Promise.all(Array.from({ length: 12 }, () => attempt(person, false)));
  expect(await attempt(person, true)).toMatchObject({ decision: "reject" });
  expect(await eventsOf(person)).toHaveLength(1);
});

test("the numbers are settings, and a broken one locks nobody out", async () => {
  const person = await world.person();
  const set = (value: string) =>
    world
      .sql`update settings set value = ${value}::text::jsonb where category = 'security' and key = 'lockout_failures'`;
  try {
    await set("2");
    expect(await fail(person, 2)).toMatchObject({ decision: "reject" });
    await set('"many"');
    expect(await fail(await world.person(), 4)).toEqual({ decision: "continue" });
    await set("0");
    expect(await fail(await world.person(), 10)).toEqual({ decision: "continue" });
  } finally {
    await set("5");
  }
});

test("signals of one key within a minute are one event that counts", async () => {
  const person = await world.person();
  const signal = {
    event_type: "API_KEY_MISUSE",
    severity: "HIGH",
    subject: "key:1",
    user_id: person.id,
    message: "A revoked API key was presented",
    count: 3,
    details: { reason: "revoked" },
    ip_address: "not an address",
  };
  const record = () =>
    world.sql`select private.record_security_signals(${world.sql.json([signal])})`;
  await Promise.all([record(), record(), record()]);
  expect(await eventsOf(person)).toMatchObject([{ details: { count: 9 }, ip_address: null }]);
  await world.sql`update private.security_signals set since = since - interval '1 minute'`;
  await record();
  expect(await eventsOf(person)).toHaveLength(2);
});

test("a change of role is told to whom it concerns", async () => {
  const person = await world.person();
  const admin = await world.person("admin");
  await admin.do((t) => t`update profiles set role = 'operator' where id = ${person.id}`);
  expect(await eventsOf(person)).toMatchObject([{
    event_type: "POLICY_CHANGE",
    severity: "HIGH",
    user_id: person.id,
    message: "The role changed from user to operator",
    details: { change: "role", from: "user", to: "operator", actor_id: admin.id },
  }]);
});

const changeOf = async (person: Person, change: string) =>
  await person.do((t) =>
    t`select * from security_events where event_type = 'POLICY_CHANGE' and details ->> 'change' = ${change} order by timestamp desc limit 1`
  );

test("a change of a setting is told without its value", async () => {
  const admin = await world.person("admin");
  await admin.do((t) =>
    t`update settings set value = '901' where category = 'security' and key = 'lockout_seconds'`
  );
  const [event] = await changeOf(admin, "setting");
  expect(event).toMatchObject({
    severity: "HIGH",
    user_id: admin.id,
    details: { category: "security", key: "lockout_seconds" },
  });
  expect(JSON.stringify(event)).not.toContain("901");
});

test("a new credential of a cluster is told, and the same one again is none", async () => {
  const admin = await world.person("admin");
  const set = (credential: string) =>
    admin.do((t) => t`select set_cluster_credential(${world.clusterId}, ${credential})`);
  await set("ptr_canary");
  const [event] = await changeOf(admin, "cluster_credential");
  expect(event).toMatchObject({ details: { cluster_id: world.clusterId, actor_id: admin.id } });
  expect(JSON.stringify(event)).not.toContain("ptr_canary");
  await set("ptr_canary");
  expect((await changeOf(admin, "cluster_credential"))[0]!.id).toBe(event!.id);
});

test("a change of address is told to whose account it is, without the addresses", async () => {
  const person = await world.person();
  const address = `moved-${person.id}@example.com`;
  await world.sql`update auth.users set email = ${address} where id = ${person.id}`;
  await world
    .sql`update auth.users set email = ${address}, updated_at = now() where id = ${person.id}`;
  const events = await eventsOf(person);
  expect(events).toMatchObject([
    { event_type: "POLICY_CHANGE", severity: "MEDIUM", details: { change: "email" } },
  ]);
  expect(JSON.stringify(events)).not.toContain(address);
});

test("a key with the role admin is told, any other is not", async () => {
  const admin = await world.person("admin");
  await admin.do((t) => t`select generate_api_key('k', 'user')`);
  const made = await admin.do((t) => t`select generate_api_key('k', 'admin') as key`);
  const events = await admin.do((t) =>
    t`select * from security_events where details ->> 'change' = 'admin_key' and user_id = ${admin.id}`
  );
  expect(events).toMatchObject([{ details: { key_id: made[0]!.key.key_id } }]);
  expect(JSON.stringify(events)).not.toContain(made[0]!.key.api_key);
});

test("users see their own events, operators too, administrators all, also nobody's", async () => {
  const [person, operator] = [await world.person(), await world.person("operator")];
  await fail(person, 5);
  await world.sql`select private.write_security_event('POLICY_CHANGE', 'HIGH', null, 'of nobody')`;
  expect(new Set((await eventsOf(person)).map((row) => row.user_id))).toEqual(new Set([person.id]));
  expect(new Set((await eventsOf(operator)).map((row) => row.user_id))).toEqual(
    new Set([operator.id]),
  );
  const all = new Set(
    (await eventsOf(await world.person("admin"))).map((row) => row.user_id),
  );
  expect([...all]).toEqual(expect.arrayContaining([person.id, operator.id, null]));
});

test("a stranger and an anonymous caller see none, and nobody writes them", async () => {
  const person = await world.person();
  await fail(person, 5);
  expect(await eventsOf(await world.person())).toHaveLength(0);
  const read = world.anonymous((t) => t`select * from security_events`);
  expect(await refusal(read)).toMatchObject({ code: "42501" });
  const forge = person.do((t) =>
    t`insert into security_events (event_type, severity, message) values ('X', 'LOW', 'x')`
  );
  expect(await refusal(forge)).toMatchObject({ code: "42501" });
  expect(await refusal(person.do((t) => t`delete from security_events`))).toMatchObject({
    code: "42501",
  });
});

test("a key without monitoring:read reads no events", async () => {
  const person = await world.person();
  await fail(person, 5);
  const narrow = await world.withKey(person, ["agents:read"]);
  expect(await eventsOf(narrow)).toHaveLength(0);
  expect(await refusal(narrow.do((t) => t`select list_security_events()`))).toMatchObject({
    code: "PERMISSION_DENIED",
    status: 403,
  });
});

test("an administrator's key without system:read reads the administrator's events only", async () => {
  const admin = await world.person("admin");
  await fail(await world.person(), 5);
  const narrow = await world.withKey(admin, ["monitoring:read"]);
  expect(new Set((await eventsOf(narrow)).map((row) => row.user_id))).toEqual(new Set([admin.id]));
});

test("the list filters, counts all that fit and gives the last ones first", async () => {
  const person = await world.person();
  for (const severity of ["LOW", "HIGH", "HIGH"]) {
    await world
      .sql`select private.write_security_event('AUTH_FAILURE', ${severity}, ${person.id}, 'x')`;
  }
  await world.sql`
    update security_events set timestamp = timestamp - interval '2 days' where user_id = ${person.id} and severity = 'LOW'`;
  const list = async (who: Person, args: string) =>
    (await who.do((t) => t.unsafe(`select list_security_events(${args}) as list`)))[0]!.list;
  expect(await list(person, "row_limit => 1")).toMatchObject({
    total: 3,
    events: [{ severity: "HIGH" }],
  });
  expect(await list(person, "severity => 'LOW'")).toMatchObject({ total: 1 });
  expect(await list(person, "since => now() - interval '1 day'")).toMatchObject({ total: 2 });
  expect(await list(person, "event_type => 'POLICY_CHANGE'")).toEqual({ total: 0, events: [] });
  const admin = await world.person("admin");
  const { events } = await list(admin, "since => now() - interval '1 day', row_limit => 500");
  const times = events.map((event: { timestamp: string }) => Date.parse(event.timestamp));
  expect(times).toEqual([...times].sort((a: number, b: number) => b - a));
  expect(events.length).toBeGreaterThan(2);
});

test("the events of a user go with the user", async () => {
  const person = await world.person();
  await fail(person, 5);
  await world.sql`delete from auth.users where id = ${person.id}`;
  expect(await world.sql`select from security_events where user_id = ${person.id}`).toHaveLength(0);
  expect(await world.sql`select from private.sign_in_failures where user_id = ${person.id}`)
    .toHaveLength(0);
});

test("Realtime follows the table", async () => {
  expect(
    await world
      .sql`select from pg_publication_tables where pubname = 'supabase_realtime' and tablename = 'security_events'`,
  ).toHaveLength(1);
});
