/**
 * What is left of an erased account: nothing but the pseudonym in the audit trail. The proof reads the catalog: every
 * column of every table is searched for each thing that was known of the person.
 */
import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  call,
  claim,
  createRunningAgent,
  createWorld,
  finishNext,
  type Person,
  refusal,
  type World,
} from "./support.ts";

let world: World;
/** Sees every table, also those of the platform. */
let superuser: postgres.Sql;
beforeAll(async () => {
  world = await createWorld();
  await world.sql`update public.settings set value = '0' where key = 'settle_seconds'`;
  const { host, port, database } = world.sql.options;
  superuser = postgres({
    host: host[0]!,
    port: port[0]!,
    database,
    username: "supabase_admin",
    password: "postgres",
    max: 1,
    onnotice: () => {},
  });
});
afterAll(() => superuser?.end());

/** Things that are only to be found where this person's data are. */
type Canaries = Record<string, string>;

/** A person of whom something stands in every table that can hold something of a person. */
async function createCanary(): Promise<{ person: Person; canaries: Canaries; agentId: string }> {
  const { sql } = world;
  const person = await world.person("admin");
  const mark = person.id.slice(0, 8);
  const word = (name: string) => `canary-${name}-${mark}`;
  const canaries: Canaries = {
    id: person.id,
    email: `Canary.${mark}@Example.org`.toLowerCase(),
    newEmail: word("new") + "@example.org",
    phone: `+49${parseInt(mark, 16)}`,
    // As the vocabulary of the search has it.
    spoken: "zq" + [...mark].map((digit) => "abcdefghijklmnop"[parseInt(digit, 16)]).join(""),
    ip: `2001:db8:${mark.slice(0, 4)}:${mark.slice(4)}::1`,
    ...Object.fromEntries(
      [
        "fullname",
        "username",
        "agent",
        "description",
        "prompt",
        "biography",
        "secret",
        "line",
        "container",
        "label",
        "stack",
        "template",
        "parameter",
        "agentstring",
        "answer",
        "finding",
        "file",
        "said",
        "speaker",
      ].map((name) => [name, word(name)]),
    ),
  };
  const { id } = person;
  const c = canaries as Record<string, string>;

  await sql`
    update auth.users
    set email = ${c.email!}, email_change = ${c.newEmail!}, phone = ${c.phone!},
      raw_user_meta_data = ${sql.json({ full_name: c.fullname! })}
    where id = ${id}`;
  await sql`
    insert into auth.identities (provider_id, user_id, identity_data, provider)
    values (${mark}, ${id}, ${sql.json({ sub: mark, email: c.email! })}, 'keycloak')`;
  await sql`
    with session as (
      insert into auth.sessions (id, user_id, ip, user_agent)
      values (gen_random_uuid(), ${id}, ${c.ip!}, ${c.agentstring!}) returning id
    )
    insert into auth.refresh_tokens (token, user_id, session_id) select ${mark}, ${id}, id from session`;
  await sql`
    insert into auth.flow_state (id, user_id, provider_type, authentication_method, provider_access_token)
    values (gen_random_uuid(), ${id}, 'keycloak', 'oauth', 'token'),
      (gen_random_uuid(), null, 'keycloak', 'oauth', null)`;
  await sql`
    update auth.flow_state set linking_target_id = ${id} where user_id is null and linking_target_id is null`;
  await sql`
    insert into auth.audit_log_entries (id, payload, created_at, ip_address)
    values (gen_random_uuid(), ${
    sql.json({
      actor_id: id,
      actor_username: c.email!,
      actor_name: c.fullname!,
      action: "login",
      traits: { provider: "email" },
    })
  }, now(), ${c.ip!}),
      (gen_random_uuid(), ${
    sql.json({
      actor_id: "00000000-0000-0000-0000-000000000000",
      action: "user_invited",
      traits: { user_id: id, user_email: c.email!.toUpperCase(), user_phone: c.phone! },
    })
  }, now(), '')`;
  await sql`update public.profiles set username = ${c.username!} where id = ${id}`;

  const agentId = await createRunningAgent(world, person, {
    name: c.agent,
    description: `${c.description} ${c.spoken}`,
    system_prompt: c.prompt,
    character: { bio: c.biography },
    environment: { API_TOKEN: c.secret },
    supabase_config: { storage: { bucket: `bucket-${mark}` } },
  });
  for (const [bucket, folder] of [[`bucket-${mark}`, `${id}/${agentId}`], ["avatars", id]]) {
    await superuser`insert into storage.buckets (id, name) values (${bucket!}, ${bucket!})
      on conflict do nothing`;
    await superuser`
      insert into storage.objects (bucket_id, name, owner, owner_id, user_metadata)
      values (${bucket!}, ${`${folder}/${c.file}.png`}, ${id}, ${id}, ${
      superuser.json({ title: c.file! })
    }),
        (${bucket!}, ${crypto.randomUUID()}, ${id}, ${id}, null)`;
  }
  // Kept back, as files are while a folder is looked at once more.
  await sql`select private.queue_storage_removal('avatars', ${id + "/old/"})`;
  const removed = await createRunningAgent(world, person, { name: c.agent });
  await call(person, "public.delete_agent($1)", removed);
  await finishNext(sql);
  canaries.agentId = agentId;
  await sql`select private.learn_words()`;
  await sql`insert into private.unlearned (agent_id) values (${agentId})`;
  const container = sql.json([{ id: "1", name: c.container!, status: "running" }]);
  for (const agent of [agentId, removed]) {
    await sql`
      insert into public.agent_logs (agent_id, user_id, timestamp, level, message, container_name)
      values (${agent}, ${id}, now(), 'INFO', ${c.line!}, ${c.container!})`;
    await sql`
      insert into public.agent_metrics (agent_id, user_id, timestamp, replicas, containers)
      values (${agent}, ${id}, now(), 1, ${container})`;
    await sql`
      insert into public.container_events (agent_id, user_id, event, container_id, container_name)
      values (${agent}, ${id}, 'start', '1', ${c.container!})`;
  }
  await sql`
    insert into public.agent_log_counts (agent_id, user_id, hour, level, container_id, container_name, lines)
    values (${agentId}, ${id}, date_trunc('hour', now()), 'INFO', '1', ${c.container!}, 1)
    on conflict do nothing`;
  for (const unit of ["minute", "hour"]) {
    await sql.unsafe(`
      insert into public.agent_metric_${unit}s (agent_id, user_id, starts, samples, cpu_percent_samples,
        memory_usage_samples, requests_per_minute_samples, error_rate_samples, response_time_ms_samples)
      values ('${agentId}', '${id}', date_trunc('${unit}', now()), 0, 0, 0, 0, 0, 0)`);
  }
  await sql`
    insert into private.channel_messages (message_id, agent_id, inserted_at)
    values (gen_random_uuid(), ${agentId}, now() at time zone 'UTC')`;
  await sql`
    insert into public.agent_metrics_latest (agent_id, user_id, timestamp, metrics)
    values (${agentId}, ${id}, now(), ${container})
    on conflict (agent_id) do update set metrics = excluded.metrics`;
  await call(person, "public.scan_agent($1)", agentId);
  await sql`
    update public.security_scans set findings = ${sql.json([{ title: c.finding! }])}
    where agent_id = ${agentId}`;
  await call(
    person,
    "public.create_batch('restart', array[$1]::uuid[], '{}')",
    agentId,
  );
  await world.withKey(person, ["agents:read"]);
  await sql`update public.api_keys set label = ${c.label!} where user_id = ${id}`;
  const [key] = await sql`select id from public.api_keys where user_id = ${id}`;
  canaries.keyId = key!.id;
  await call(
    person,
    "public.report_conversation($1, 'room', $2::text::jsonb, 'discord', 'batch')",
    agentId,
    JSON.stringify([{ role: "user", content: c.said, sender: c.speaker }]),
  );
  await call(
    person,
    "public.report_metrics($1, '{\"requests_total\": 1}', $2)",
    agentId,
    c.container,
  );

  await sql`
    insert into public.stack_templates (name, version, user_id, description, definition, parameters)
    select ${c.template!}, 1, ${id}, ${c.description!}, definition, parameters
    from public.stack_templates where name = 'eliza-agent-template' and user_id is null`;
  await call(
    person,
    "public.create_stack($1::text::jsonb)",
    JSON.stringify({
      name: c.stack,
      template: c.template,
      environment: { AGENT_NAME: c.parameter, TOKEN: c.secret },
    }),
  );
  await finishAll();
  const [stack] = await sql`select id from public.stacks where user_id = ${id}`;
  canaries.stackId = stack!.id;
  await sql`insert into private.stack_looks (stack_id, claimed_at) values (${stack!.id}, now())
    on conflict do nothing`;
  await sql`insert into private.autoscalings (agent_id, next_at) values (${agentId}, now())
    on conflict do nothing`;
  await sql`insert into private.error_windows (agent_id, started_at, sent, held_back)
    values (${agentId}, now(), 1, 0) on conflict do nothing`;
  await sql`
    with instance as (
      insert into private.ws_instances (id) values (gen_random_uuid()) returning id
    )
    insert into private.ws_connections (id, user_id, instance_id)
    select gen_random_uuid(), ${id}, id from instance`;
  await sql`
    insert into private.query_counts (user_id, lane, window_start, queries, queries_before)
    values (${id}, 1, now(), 1, 0)`;
  await sql`select private.count_auth_request(${id})`;

  await sql`
    insert into public.security_events (event_type, severity, user_id, message, ip_address, user_agent)
    values ('AUTH_FAILURE', 'LOW', ${id}, 'x', ${c.ip!}, ${c.agentstring!})`;
  await sql`
    insert into private.sign_in_failures (user_id, address, failures, since)
    values (${id}, ${c.ip!}, 1, now())`;
  await sql`
    insert into private.security_signals (event_type, subject, event_id, since)
    values ('PERMISSION_DENIED', ${"user:" + id}, gen_random_uuid(), now()),
      ('API_KEY_MISUSE', ${"key:" + key!.id}, gen_random_uuid(), now())`;
  await sql`select private.take_rate_limit(${"user:" + id}), private.take_rate_limit(${
    "key:" + key!.id
  })`;
  await sql`select private.count_requests(${
    sql.json([{
      minute: new Date().toISOString(),
      user_id: id,
      requests: 1,
      errors: 0,
      duration_ms: 1,
    }])
  })`;
  await sql`select private.begin_idempotent(${id}, 'key', 'POST', '/api/agents', 'x'::bytea)`;
  await sql`select private.finish_idempotent(${id}, 'key', 200, '{}', ${
    sql.json({ said: c.answer! })
  })`;

  // As an administrator: on what is somebody else's.
  const other = await world.person();
  const theirs = await createRunningAgent(world, other);
  await call(person, "public.restart_agent($1)", theirs);
  await finishNext(sql);
  await person.do((t) =>
    t`update public.settings set value = '21', updated_by = ${id} where key = 'burst_limit'`
  );
  await person.do((t) => t`update public.profiles set role = 'operator' where id = ${other.id}`);

  await sql`
    select realtime.send(${sql.json({ by: id, text: c.line! })}, 'said', ${
    "agent:" + agentId
  }, true)`;
  await superuser`
    insert into realtime.subscription (subscription_id, entity, claims)
    values (gen_random_uuid(), 'public.agents', ${
    superuser.json({ sub: id, role: "authenticated", email: c.email! })
  })`;
  await superuser`insert into net._http_response (id, status_code, content)
    values (${parseInt(mark.slice(0, 6), 16)}, 200, ${`{"user": "${id}"}`})`;
  // Last: a rollout without it would take the key away again.
  await sql`
    select private.environment_to_deploy(jsonb_populate_record(a, '{"supabase_config": {"reporting": true}}'))
    from public.agents a where a.id = ${agentId}`;
  return { person, canaries, agentId };
}

interface Place {
  relation: string;
  /** Which of the things. */
  canary: string;
}

/** Every table that holds one of these texts, in whichever column and form. */
async function placesOf(canaries: Canaries): Promise<Place[]> {
  const tables = await superuser<{ relation: string; text: string }[]>`
    select c.oid::regclass::text as relation,
      -- Text in bytes is to be read as well.
      'concat_ws('' '', ' || string_agg(
        case a.atttypid when 'bytea'::regtype then format('encode(t.%I, ''escape'')', a.attname)
          else format('t.%I::text', a.attname) end, ', ') || ')' as text
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
    where n.nspname not in ('pg_catalog', 'information_schema') and n.nspname not like 'pg\\_%'
      and (c.relkind in ('r', 'm', 'f') or c.oid = 'vault.decrypted_secrets'::regclass)
    group by c.oid`;
  const found: Place[] = [];
  for (const { relation, text } of tables) {
    const rows = await superuser.unsafe<{ canary: string }[]>(
      `select distinct c.key as canary from ${relation} t
       join jsonb_each_text($1::text::jsonb) c on ${text} ilike '%' || c.value || '%'`,
      [JSON.stringify(canaries)],
    );
    for (const { canary } of rows) {
      found.push({ relation: relation.replace(/_\d{4}_?\d{2}_?\d{2}$/, ""), canary });
    }
  }
  return found;
}

/**
 * The audit log goes on telling to what a pseudonym did something: to an agent, a stack, a key of this random id, of which
 * nothing else is left. It is the one place, and these are the only things.
 */
function isTrail({ relation, canary }: Place): boolean {
  return relation === "audit_log" && ["agentId", "stackId", "keyId"].includes(canary);
}

/** As a worker that is done with all that is due. */
async function finishAll(): Promise<void> {
  for (let due = await claim(world.sql); due.length > 0; due = await claim(world.sql)) {
    for (const { operation: { id }, lease_token: token } of due) {
      await world.sql`select private.operation_plan(${id}, ${token})`;
      await world.sql`
        select private.record_placement(${id}, ${token}, '{"stack_id": "7", "orchestrator": "portainer-swarm"}')`;
      await world.sql`select private.complete_operation(${id}, ${token}, '{}')`;
    }
  }
}

/** As worker and cron, three hours later. */
async function letItBeDone(): Promise<void> {
  await finishAll();
  await world.sql`update private.storage_removals set settles_at = now()`;
  const removals = await world.sql<{ removal: Record<string, string> }[]>`
    select private.claim_storage_removals(100, 30) as removal`;
  for (const { removal: { id, lease_token, bucket_id, prefix } } of removals) {
    await superuser.begin(async (sql) => {
      // What the Storage API does; SQL alone is refused.
      await sql`select set_config('storage.allow_delete_query', 'true', true)`;
      await sql`delete from storage.objects where bucket_id = ${bucket_id!} and name like ${
        prefix! + "%"
      }`;
    });
    await world.sql`select private.end_storage_removal(${id!}, ${lease_token!}, 'empty')`;
  }
  await world.sql`update private.erasure_jobs set next_at = now()`;
  await world.sql`select private.continue_erasures()`;
}

function erase(person: Person, confirm: string | null = null) {
  return call(person, "public.erase_my_account($1)", confirm) as unknown as Promise<{
    id: string;
    state: string;
    agents: number;
    stacks: number;
    pending: Record<string, unknown>;
  }>;
}

/**
 * Tables that hold nothing of a person, and why. Any other of public and private must hold something of the canary, so
 * that a table that comes later is in the proof.
 */
const IMPERSONAL: Record<string, string> = {
  "circuit_breakers": "about clusters",
  "cluster_health": "about clusters",
  "clusters": "administrators' machines",
  "erasures": "how far erasures are, of nobody in particular",
  "models": "what providers offer",
  "dead_letters": "goes with its operation",
  "private.agent_bucket_names": "names that agents of several people share; who made it is cleared",
  "private.counts": "sums over everybody",
  "private.count_changes": "sums over everybody",
  "private.ws_instances": "running functions",
  "private.usage": "sums over everybody",
  "private.revision_environments": "ids of secrets; goes with its revision",
  "private.batch_waiting": "goes with its operation",
  "private.cluster_credentials": "about clusters",
  "private.erasure_jobs": "what to look for, while an erasure is pending",
  "private.erasure_receipts": "a digest of a random id, for a day",
  "private.health_rounds": "about clusters and services",
  "private.image_scans": "about images",
  "private.operation_queue": "goes with its operation",
  "private.rollout_remains": "the id of an agent, until its cluster has answered",
  "private.partitioned_tables": "names of tables",
  "private.roles": "names of roles",
  "private.security_scan_queue": "goes with its scan",
  "private.service_health": "about services",
};

describe("an erased account", () => {
  test("is nowhere any more, by the catalog, but for a pseudonym in the audit log", async () => {
    const { person, canaries } = await createCanary();
    const before = await placesOf(canaries);
    // A thing that was not found before proves nothing by not being found after.
    expect([...new Set(before.map(({ canary }) => canary))].sort()).toEqual(
      Object.keys(canaries).sort(),
    );
    const [{ actions }] = await world.sql`
      select count(*)::integer as actions from public.audit_log where actor_id = ${person.id}` as unknown as [
      { actions: number },
    ];

    // By this the log lines of the functions, which name the user, could be found.
    await world.sql`update public.audit_log set request_id = 'req-1' where actor_id = ${person.id}`;

    const erasure = await erase(person, canaries.email);
    expect(erasure).toMatchObject({ state: "pending", agents: 1, stacks: 1 });
    await letItBeDone();
    await letItBeDone();

    expect((await placesOf(canaries)).filter((place) => !isTrail(place))).toEqual([]);
    const [record] = await world.sql`select * from public.erasures where id = ${erasure.id}`;
    expect(record).toMatchObject({ state: "finished", pending: {}, refused: [] });
    const trail = await world.sql`
      select distinct actor_id, request_id from public.audit_log
      where actor_id = (
        select actor_id from public.audit_log where action = 'account.erase'
          and created_at = (select max(created_at) from public.audit_log where action = 'account.erase')
      )`;
    expect(trail).toEqual([{ actor_id: expect.any(String), request_id: null }]);
    const kept = await world.sql`
      select count(*)::integer as actions from public.audit_log where actor_id = ${
      trail[0]!.actor_id
    }`;
    expect(kept[0]!.actions).toBeGreaterThan(actions);
  });

  test("every table of ours is in the proof, or holds nothing of a person", async () => {
    const { canaries, person } = await createCanary();
    const found = new Set((await placesOf(canaries)).map(({ relation }) => relation));
    const tables = await world.sql<{ name: string }[]>`
      select c.oid::regclass::text as name from pg_class c
      join pg_namespace n on n.oid = c.relnamespace
      where n.nspname in ('public', 'private') and c.relkind in ('r', 'p') and not c.relispartition`;
    const missing = tables.map(({ name }) => name).filter((name) =>
      // Partitions are in private.
      !found.has(name) && !found.has(`private.${name}`) && IMPERSONAL[name] === undefined
    );
    expect(missing).toEqual([]);
    await erase(person, canaries.email);
    await letItBeDone();
  });
});

/** A finished erasure of somebody with an agent and a log line, begun in the given way. */
async function erased(begin: (person: Person) => Promise<unknown>) {
  const person = await world.person();
  const agentId = await createRunningAgent(world, person, { name: "mine" });
  await world.sql`
    insert into public.agent_logs (agent_id, user_id, timestamp, level, message)
    values (${agentId}, ${person.id}, now(), 'INFO', 'x')`;
  await begin(person);
  await letItBeDone();
  return person;
}

describe("an erasure", () => {
  test("leaves everybody else alone", async () => {
    const { canaries, person: bystander } = await createCanary();
    const count = async () => {
      const sizes = await superuser.unsafe(`
        select (select count(*) from public.agents where user_id = '${bystander.id}') as agents,
          (select count(*) from public.agent_logs where user_id = '${bystander.id}') as logs,
          (select count(*) from public.audit_log where actor_id = '${bystander.id}') as actions,
          (select count(*) from public.operations where user_id = '${bystander.id}') as operations,
          (select count(*) from auth.sessions where user_id = '${bystander.id}') as sessions,
          (select count(*) from auth.audit_log_entries where payload::text like '%${bystander.id}%') as entries,
          (select count(*) from realtime.messages where payload::text like '%${bystander.id}%') as messages`);
      return sizes[0];
    };
    const before = await count();
    const { person, canaries: own } = await createCanary();
    await erase(person, own.email);
    await letItBeDone();
    expect(await count()).toEqual(before);
    expect((await placesOf({ id: canaries.id! })).length).toBeGreaterThan(10);
  });

  test("of an administrator leaves what they did to another's agent with its owner", async () => {
    const admin = await world.person("admin");
    const owner = await world.person();
    const agentId = await createRunningAgent(world, owner);
    await call(admin, "public.restart_agent($1)", agentId);
    await finishAll();
    const count = async () => {
      const [row] = await world.sql`
        select (select count(*) from public.operations where agent_id = ${agentId}) as operations,
          (select count(*) from public.agent_events where agent_id = ${agentId}) as events`;
      return row;
    };
    const before = await count();
    await erase(admin, admin.email);
    await letItBeDone();
    expect(await count()).toEqual(before);
    expect(await placesOf({ id: admin.id })).toEqual([]);
  });

  test("leaves addresses alone that hold the erased one", async () => {
    const person = await world.person();
    const email = `s${person.id.slice(0, 8)}@example.co`;
    await world.sql`update auth.users set email = ${email} where id = ${person.id}`;
    const longer = `x.${email}m`;
    await world.sql`
      insert into auth.audit_log_entries (id, payload)
      values (gen_random_uuid(), ${world.sql.json({ actor_username: longer })})`;
    await world.sql`select realtime.send(${world.sql.json({ to: longer })}, 'x', 'other', true)`;
    await erase(person, email);
    await letItBeDone();
    const places = (await placesOf({ longer })).map(({ relation }) => relation);
    expect(places).toEqual(expect.arrayContaining(["audit_log_entries", "realtime.messages"]));
  });

  test.each<[string, (person: Person) => Promise<unknown>, string]>([
    ["by the person", (person) => erase(person, person.email), "user"],
    [
      "by an administrator",
      async (person) => call(await world.person("admin"), "public.erase_user($1)", person.id),
      "administrator",
    ],
    ["by Supabase Auth", (person) =>
      superuser.begin(async (sql) => {
        await sql`set local role supabase_auth_admin`;
        await sql`delete from auth.users where id = ${person.id}`;
      }), "auth"],
    ["by SQL", (person) => world.sql`delete from auth.users where id = ${person.id}`, "auth"],
  ])("%s ends in the same state", async (_case, begin, requestedBy) => {
    const person = await erased(begin);
    expect(await placesOf({ id: person.id, email: person.email })).toEqual([]);
    const [last] = await world.sql`
      select * from public.erasures order by requested_at desc limit 1`;
    expect(last).toMatchObject({ state: "finished", requested_by: requestedBy, agents: 1 });
  });

  test("asked for twice is one, also at once and when it is finished", async () => {
    const person = await world.person();
    await createRunningAgent(world, person);
    const [first, second] = await Promise.all([1, 2].map(() => erase(person, person.email)));
    expect(second!.id).toBe(first!.id);
    await letItBeDone();
    expect(await erase(person)).toMatchObject({ id: first!.id, state: "finished", pending: {} });
  });

  test("leaves a token that can only be told to sign in again", async () => {
    const person = await world.person();
    await erase(person, person.email);
    expect(await refusal(call(person, "public.list_agents()"))).toMatchObject({
      code: "AUTHENTICATION_FAILED",
      status: 401,
    });
  });

  test("of somebody with nothing is finished at once", async () => {
    const person = await world.person();
    expect(await erase(person, person.email)).toMatchObject({ state: "finished", agents: 0 });
  });

  test("ends sessions and keys with its request", async () => {
    const person = await world.person();
    const { keyId } = await world.withKey(person, ["agents:read"]);
    await world.sql`
      insert into auth.sessions (id, user_id) values (gen_random_uuid(), ${person.id})`;
    await createRunningAgent(world, person);
    expect((await erase(person, person.email)).state).toBe("pending");
    expect(await world.sql`select from private.api_key_digests where key_id = ${keyId}`).toEqual(
      [],
    );
    expect(await world.sql`select from auth.sessions where user_id = ${person.id}`).toEqual([]);
    expect(await person.do((t) => t`select public.my_permissions() as held`)).toEqual([
      { held: null },
    ]);
    await letItBeDone();
  });

  test("stays pending until the containers are gone", async () => {
    const person = await world.person();
    await createRunningAgent(world, person);
    const { id } = await erase(person, person.email);
    await world.sql`update private.erasure_jobs set next_at = now()`;
    await world.sql`select private.continue_erasures()`;
    const [pending] = await world.sql`select * from public.erasures where id = ${id}`;
    expect(pending).toMatchObject({ state: "pending", pending: { operations: 1, failed: 0 } });
    await letItBeDone();
    const [finished] = await world.sql`select * from public.erasures where id = ${id}`;
    expect(finished).toMatchObject({ state: "finished" });
  });

  test("shows a removal that was given up, and ends with its retry", async () => {
    const person = await world.person();
    await createRunningAgent(world, person);
    const { id } = await erase(person, person.email);
    await world.sql`update public.operations set max_attempts = 1 where state = 'queued'`;
    const [claimed] = await claim(world.sql);
    await world.sql`
      select private.fail_operation(${claimed!.operation.id}, ${
      claimed!.lease_token
    }, '{"code": "UPSTREAM_UNAVAILABLE", "message": "down"}', true)`;
    await letItBeDone();
    const [stuck] = await world.sql`select * from public.erasures where id = ${id}`;
    expect(stuck).toMatchObject({ state: "pending", pending: { operations: 0, failed: 1 } });
    const [letter] = await world.sql`
      select id from public.dead_letters where operation_id = ${claimed!.operation.id}`;
    await call(await world.person("admin"), "public.retry_dead_letter($1)", letter!.id);
    await letItBeDone();
    const [finished] = await world.sql`select * from public.erasures where id = ${id}`;
    expect(finished).toMatchObject({ state: "finished" });
  });

  test("finds what was written after it, until it has settled", async () => {
    const person = await world.person();
    const agentId = await createRunningAgent(world, person);
    await world.sql`update public.settings set value = '3600' where key = 'settle_seconds'`;
    const { id } = await erase(person, person.email);
    await world.sql`update public.settings set value = '0' where key = 'settle_seconds'`;
    await letItBeDone();
    const [waiting] = await world.sql`select * from public.erasures where id = ${id}`;
    expect(waiting).toMatchObject({ state: "pending", pending: { operations: 0, records: true } });
    await world.sql`
      insert into public.agent_logs (agent_id, user_id, timestamp, level, message)
      values (${agentId}, ${person.id}, now(), 'INFO', 'late')`;
    await world.sql`
      insert into auth.audit_log_entries (id, payload, created_at)
      values (gen_random_uuid(), ${
      world.sql.json({ action: "user_deleted", traits: { user_email: person.email } })
    }, now())`;
    await world.sql`update private.erasure_jobs set settled_at = now()`;
    await letItBeDone();
    expect(await placesOf({ id: person.id, email: person.email })).toEqual([]);
  });

  test("tells where the platform does not let it look", async () => {
    await superuser`revoke update on auth.audit_log_entries from postgres`;
    const person = await world.person();
    const { id } = await erase(person, person.email);
    await superuser`grant update on auth.audit_log_entries to postgres`;
    const [record] = await world.sql`select state, refused from public.erasures where id = ${id}`;
    expect(record).toEqual({ state: "finished", refused: ["auth.audit_log_entries"] });
  });

  test("goes on step by step when there is much", async () => {
    const person = await world.person();
    const agentId = await createRunningAgent(world, person);
    await world.sql`
      insert into public.agent_logs (agent_id, user_id, timestamp, level, message)
      select ${agentId}::uuid, ${person.id}::uuid, now() - n * interval '1 ms', 'INFO', 'x'
      from generate_series(1, 6000) n`;
    const { id } = await erase(person, person.email);
    const left = async () => {
      const [row] = await world.sql`
        select count(*)::integer as left from public.agent_logs where agent_id = ${agentId}`;
      return row!.left as number;
    };
    expect(await left()).toBeGreaterThan(0);
    await world.sql`select private.continue_erasure(${id}, 10)`;
    expect(await left()).toBeGreaterThan(0);
    await letItBeDone();
    expect(await left()).toBe(0);
  });

  test("loses nothing when it is stopped half-way", async () => {
    const person = await world.person();
    await createRunningAgent(world, person);
    const { id } = await erase(person, person.email);
    await finishAll();
    const killed = world.sql.begin(async (t) => {
      await t`select private.continue_erasure(${id})`;
      throw new Error("killed");
    });
    await expect(killed).rejects.toThrow("killed");
    await letItBeDone();
    expect(await placesOf({ id: person.id, email: person.email })).toEqual([]);
  });

  test("of many at once, while workers end operations, waits for nobody for ever", async () => {
    const people = await Promise.all(Array.from({ length: 6 }, () => world.person()));
    for (const person of people) {
      await createRunningAgent(world, person);
      const busy = await createRunningAgent(world, person);
      await call(person, "public.restart_agent($1)", busy);
    }
    await Promise.all([
      ...people.map((person) => erase(person, person.email)),
      finishAll(),
      finishAll(),
    ]);
    // What a worker held is free when its lease has ended.
    await world.sql`update private.operation_queue set run_after = now()`;
    await letItBeDone();
    for (const { id, email } of people) expect(await placesOf({ id, email })).toEqual([]);
  });

  test("goes away with its time", async () => {
    const person = await world.person();
    const { id } = await erase(person, person.email);
    await world.sql`update public.erasures set requested_at = now() - interval '2 years',
      finished_at = now() - interval '2 years' where id = ${id}`;
    await world.sql`select private.remove_expired_records()`;
    expect(await world.sql`select from public.erasures where id = ${id}`).toEqual([]);
  });
});

describe("the right to erase", () => {
  test("needs the address, or a fresh sign-in", async () => {
    const person = await world.person();
    const refused = {
      code: "VALIDATION_ERROR",
      status: 400,
      details: { confirm: expect.stringContaining("must be the email") },
    };
    expect(await refusal(erase(person))).toMatchObject(refused);
    expect(await refusal(erase(person, "somebody@example.com"))).toMatchObject(refused);
    const withSignIn = (secondsAgo: number, confirm: string | null = null) =>
      world.sql.begin(async (t) => {
        const timestamp = Math.floor(Date.now() / 1000) - secondsAgo;
        const claims = { sub: person.id, role: "authenticated", amr: [{ method: "x", timestamp }] };
        await t`select set_config('request.jwt.claims', ${JSON.stringify(claims)}, true)`;
        await t`set local role authenticated`;
        return await t`select public.erase_my_account(${confirm}) as erasure`;
      });
    expect(await refusal(withSignIn(3600))).toMatchObject(refused);
    expect(await refusal(withSignIn(60, "somebody@example.com"))).toMatchObject(refused);
    expect((await withSignIn(60))[0]!.erasure).toMatchObject({ state: "finished" });
  });

  test("is not an API key's", async () => {
    const admin = await world.person("admin");
    const other = await world.person();
    const key = await world.withKey(admin, ["users:*"]);
    const refused = { code: "PERMISSION_DENIED", status: 403 };
    expect(await refusal(erase(key, admin.email))).toMatchObject(refused);
    expect(await refusal(call(key, "public.erase_user($1)", other.id))).toMatchObject(refused);
  });

  test("of others is an administrator's", async () => {
    const other = await world.person();
    for (const role of ["user", "operator"] as const) {
      const someone = await world.person(role);
      expect(await refusal(call(someone, "public.erase_user($1)", other.id))).toMatchObject({
        code: "PERMISSION_DENIED",
        status: 403,
      });
    }
    const admin = await world.person("admin");
    const nobody = crypto.randomUUID();
    expect(await refusal(call(admin, "public.erase_user($1)", nobody))).toMatchObject({
      code: "NOT_FOUND",
      status: 404,
    });
  });

  test("is nobody's whose account is gone", async () => {
    const ghost = { ...await world.person(), id: crypto.randomUUID() };
    const asGhost = world.sql.begin(async (t) => {
      const claims = { sub: ghost.id, role: "authenticated" };
      await t`select set_config('request.jwt.claims', ${JSON.stringify(claims)}, true)`;
      await t`set local role authenticated`;
      await t`select public.erase_my_account('x')`;
    });
    expect(await refusal(asGhost)).toMatchObject({ code: "AUTHENTICATION_FAILED", status: 401 });
  });

  test("shows administrators how far erasures are, and nobody else", async () => {
    const person = await world.person();
    await erase(person, person.email);
    const read = (reader: Person) => reader.do((t) => t`select state from public.erasures`);
    expect((await read(await world.person("admin"))).length).toBeGreaterThan(0);
    expect(await read(await world.person())).toEqual([]);
  });
});

describe("an export", () => {
  interface Export {
    complete: boolean;
    data: Record<string, { complete: boolean; rows: Record<string, unknown>[] }>;
  }
  const exportOf = async (person: Person) =>
    await call(person, "public.export_my_data()") as unknown as Export;

  test("holds everything that is known of the person, but no secret", async () => {
    const { person, canaries } = await createCanary();
    const text = JSON.stringify(await exportOf(person));
    const inIt = Object.keys(canaries).filter((name) =>
      text.toLowerCase().includes(canaries[name]!.toLowerCase())
    );
    // Answers are kept for replay only; values of variables are in Vault.
    const notInIt = ["answer", "secret", "parameter"];
    expect(inIt.sort()).toEqual(
      Object.keys(canaries).filter((name) => !notInIt.includes(name)).sort(),
    );
    expect(text).toContain("API_TOKEN");
  });

  test("has every table with rows of users in it", async () => {
    const { person, canaries } = await createCanary();
    const { data } = await exportOf(person);
    const held = (await placesOf({ id: canaries.id! })).map(({ relation }) => relation);
    const exposed = await world.sql<{ name: string }[]>`
      select relname as name from pg_class where relnamespace = 'public'::regnamespace
        and relkind in ('r', 'p') and not relispartition`;
    const missing = exposed.map(({ name }) => name).filter((name) =>
      held.includes(name) && data[name] === undefined &&
      // Their own actions are there; settings are the installation's.
      !["audit_log", "settings"].includes(name)
    );
    expect(missing).toEqual([]);
    expect(data.actions!.rows.length).toBeGreaterThan(3);
  });

  test("holds nothing of anybody else, not even an administrator's", async () => {
    const { canaries } = await createCanary();
    const { person: admin } = await createCanary();
    const text = JSON.stringify(await exportOf(admin));
    for (const canary of [canaries.email!, canaries.agent!, canaries.line!]) {
      expect(text).not.toContain(canary);
    }
  });

  test("says where it is cut, and the rows go on", async () => {
    const person = await world.person();
    const agentId = await createRunningAgent(world, person);
    await world.sql`
      insert into public.agent_logs (agent_id, user_id, timestamp, level, message)
      select ${agentId}, ${person.id}, now() - n * interval '1 s', 'INFO', 'line ' || n
      from generate_series(1, 20) n`;
    await world.sql`update public.settings set value = '5' where key = 'export_rows'`;
    const { complete, data } = await exportOf(person);
    await world.sql`update public.settings set value = '1000' where key = 'export_rows'`;
    expect(complete).toBe(false);
    expect(data.agents!.complete).toBe(true);
    expect(data.agent_logs).toMatchObject({ complete: false });
    expect(data.agent_logs!.rows.map(({ message }) => message)).toEqual(
      [1, 2, 3, 4, 5].map((n) => `line ${n}`),
    );
    const all = await person.do((t) =>
      t`select count(*)::integer as lines from public.export_rows() where source = 'agent_logs'`
    );
    expect(all[0]!.lines).toBe(20);
  });

  test("is not for an API key", async () => {
    const key = await world.withKey(await world.person(), ["agents:read"]);
    expect(await refusal(exportOf(key))).toMatchObject({ code: "PERMISSION_DENIED", status: 403 });
  });
});
