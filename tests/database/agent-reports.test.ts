/** What agents report of themselves: by whom, what is taken, what is refused, and what becomes of it. */
import { createHash } from "node:crypto";
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  claim,
  createAgent,
  createRunningAgent,
  createWorld,
  finishNext,
  type Person,
  refusal,
  type World,
} from "./support.ts";

let world: World;
let owner: Person;
let agentId: string;

beforeAll(async () => {
  world = await createWorld();
  owner = await world.person();
  await world
    .sql`update settings set value = '1000' where category = 'agents' and key like 'max%user'`;
});

beforeEach(async () => {
  agentId = await createRunningAgent(world, owner);
});

interface AgentKey {
  api_key: string;
  key_id: string;
}

async function makeKey(id = agentId, person = owner): Promise<AgentKey> {
  const rows = await person.do((t) => t`select create_agent_key(${id}, 'reports') as key`);
  return rows[0]?.key as AgentKey;
}

/** Someone who holds an agent's key, in the role in which the api function runs them. */
function holderOf({ key_id }: AgentKey): Person {
  return {
    ...owner,
    do: (run) =>
      world.sql.begin(async (t) => {
        await t`select set_config('request.jwt.claims', ${
          JSON.stringify({ sub: owner.id, role: "authenticated", api_key_id: key_id })
        }, true), set_config('role', 'agent_reporter', true)`;
        return await run(t);
      }) as never,
  };
}

type Words = Record<string, unknown>;

const report = async (
  by: Person,
  lines: unknown,
  { id = agentId, instance = null, batch = null }: {
    id?: string;
    instance?: string | null;
    batch?: string | null;
  } = {},
) => {
  const rows = await by.do((t) =>
    t`select report_logs(${id}, ${t.json(lines as never)}, ${instance}, ${batch}) as answer`
  );
  return rows[0]?.answer as { accepted: number; last_id: number; duplicate: boolean };
};

const measure = async (by: Person, metrics: Words, instance = "") => {
  const rows = await by.do((t) =>
    t`select report_metrics(${agentId}, ${t.json(metrics as never)}, ${instance}) as answer`
  );
  return rows[0]?.answer as { stored: boolean; reported: Words };
};

const say = async (by: Person, messages: unknown, batch: string | null = null) => {
  const rows = await by.do((t) =>
    t`select report_conversation(${agentId}, 'room-7', ${
      t.json(messages as never)
    }, 'discord', ${batch}) as answer`
  );
  return rows[0]?.answer as { accepted: number; already_known: number; duplicate: boolean };
};

const setStatus = (by: Person, status: string) =>
  by.do((t) => t`select report_status(${agentId}, ${status}) as answer`);

const logs = () => world.sql`select * from agent_logs where agent_id = ${agentId} order by id`;
const notFound = { code: "AGENT_NOT_FOUND", status: 404 };
const denied = { code: "PERMISSION_DENIED", status: 403 };
const seconds = (ago: number) => new Date(Date.now() - ago * 1000).toISOString();

describe("the key of an agent", () => {
  test("is shown once, listed without its secret, and ends when it is revoked", async () => {
    const key = await makeKey();
    expect(key.api_key).toMatch(/^alk_[0-9a-f]{48}$/);
    const digest = createHash("sha256").update(key.api_key).digest();
    const [known] = await world.sql`select private.authenticate_api_key(${digest}) as key`;
    expect(known?.key).toMatchObject({ key_id: key.key_id, agent_id: agentId });
    const [listed] = await owner.do((t) => t`select * from api_keys where id = ${key.key_id}`);
    expect(listed).toMatchObject({ agent_id: agentId, permissions: ["reports:write"] });
    expect(JSON.stringify(listed)).not.toContain(key.api_key);

    expect((await report(holderOf(key), [{ message: "x" }])).accepted).toBe(1);
    await owner.do((t) => t`select revoke_api_key(${key.key_id})`);
    expect(await refusal(report(holderOf(key), [{ message: "x" }]))).toMatchObject(denied);
  });

  test("is worth nothing after its expiry", async () => {
    const key = await makeKey();
    await world.sql`update api_keys set expires_at = now() where id = ${key.key_id}`;
    expect(await refusal(report(holderOf(key), [{ message: "x" }]))).toMatchObject(denied);
  });

  test("emits events of its agent, and of no other", async () => {
    const spec = { supabase_config: { real_time: { enabled: true, channels: ["signals"] } } };
    agentId = (await createAgent(owner, spec)).agent.id;
    const other = (await createAgent(owner, spec)).agent.id;
    const holder = holderOf(await makeKey());
    const emit = (id: string) =>
      holder.do((t) => t`select emit_agent_event(${id}, 'signals', 'buy', '{}') as answer`);
    expect((await emit(agentId))[0]?.answer).toMatchObject({ agent_id: agentId, event: "buy" });
    expect(await refusal(emit(other))).toMatchObject(notFound);
  });

  test("reports for its own agent and for no other, its owner's neither", async () => {
    const holder = holderOf(await makeKey());
    const other = await createRunningAgent(world, owner);
    expect(await refusal(report(holder, [{ message: "x" }], { id: other }))).toMatchObject(
      notFound,
    );
  });

  test("reaches no table, and no function but the reports", async () => {
    const tables = await world.sql`
      select c.oid::regclass::text as name from pg_class c
      where c.relnamespace in ('public'::regnamespace, 'private'::regnamespace) and c.relkind in ('r', 'p', 'v', 'm', 'S')
        and has_any_column_privilege('agent_reporter', c.oid, 'select, insert, update, references')`;
    expect(tables.map((row) => row.name)).toEqual([]);
    const functions = await world.sql`
      select p.proname as name from pg_proc p
      where p.pronamespace in ('public'::regnamespace, 'private'::regnamespace)
        and p.prorettype <> 'trigger'::regtype and has_function_privilege('agent_reporter', p.oid, 'execute')`;
    expect([...new Set(functions.map((row) => row.name))].sort()).toEqual([
      "emit_agent_event",
      "report_conversation",
      "report_logs",
      "report_metrics",
      "report_status",
    ]);
    const holder = holderOf(await makeKey());
    for (const table of ["agents", "agent_logs", "api_keys", "profiles", "settings"]) {
      expect(await refusal(holder.do((t) => t`select 1 from ${t(table)}`))).toMatchObject({
        code: "42501",
      });
    }
  });

  test("reaches no row even in the role of its owner", async () => {
    const { key_id } = await makeKey();
    const keyed = {
      ...owner,
      do: (run: Parameters<Person["do"]>[0]) =>
        world.sql.begin(async (t) => {
          await t`select set_config('request.jwt.claims', ${
            JSON.stringify({ sub: owner.id, role: "authenticated", api_key_id: key_id })
          }, true), set_config('role', 'authenticated', true)`;
          return await run(t);
        }),
    };
    for (const table of ["agents", "agent_logs", "operations", "agent_conversations"]) {
      expect(await keyed.do((t) => t`select 1 from ${t(table)}`)).toHaveLength(0);
    }
    expect(await refusal(keyed.do((t) => t`select scale_agent(${agentId}, 2)`)))
      .toMatchObject(denied);
  });

  test("is made by who may change the agent", async () => {
    expect(await refusal(makeKey(agentId, await world.person()))).toMatchObject(notFound);
    expect(await refusal(makeKey(agentId, await world.person("operator")))).toMatchObject(notFound);
    expect(await refusal(makeKey(agentId, await world.withKey(owner, ["agents:read"]))))
      .toMatchObject(denied);
    expect(await makeKey(agentId, await world.person("admin"))).toMatchObject({
      user_id: owner.id,
      agent_id: agentId,
    });
  });

  test("is counted per agent, and not among the keys of its owner", async () => {
    const person = await world.person();
    const { agent } = await createAgent(person);
    for (let made = 0; made < 10; made++) await makeKey(agent.id, person);
    expect(await refusal(makeKey(agent.id, person))).toMatchObject({
      code: "RESOURCE_LIMIT_EXCEEDED",
      status: 429,
    });
    await world
      .sql`update settings set value = '1' where category = 'api_keys' and key = 'max_per_user'`;
    await person.do((t) => t`select generate_api_key('mine')`);
    await world
      .sql`update settings set value = '25' where category = 'api_keys' and key = 'max_per_user'`;
  });

  test("is gone with the agent, and with it what was reported", async () => {
    const key = await makeKey();
    const holder = holderOf(key);
    await report(holder, [{ message: "personal" }], { batch: "1" });
    await say(holder, [{ role: "user", content: "personal" }]);
    await measure(holder, { requests_total: 1 });
    await owner.do((t) => t`select delete_agent(${agentId})`);
    expect(await refusal(report(holder, [{ message: "x" }]))).toMatchObject(denied);
    for (
      const table of [
        "public.api_keys",
        "public.agent_logs",
        "public.agent_log_counts",
        "public.agent_conversations",
        "public.agent_reports",
        "private.report_batches",
      ]
    ) {
      expect([
        table,
        ...await world.sql`select 1 from ${world.sql(table)} where agent_id = ${agentId}`,
      ])
        .toEqual([table]);
    }
    expect(await refusal(report(owner, [{ message: "x" }]))).toMatchObject(notFound);
  });

  test("works while the agent is stopped, but may not set its status", async () => {
    const holder = holderOf(await makeKey());
    await owner.do((t) => t`select stop_agent(${agentId})`);
    expect(await refusal(setStatus(holder, "idle"))).toMatchObject({
      code: "INVALID_STATE",
      status: 409,
      details: { status: "stopping" },
    });
    await finishNext(world.sql);
    expect((await report(holder, [{ message: "last words" }])).accepted).toBe(1);
    expect(await refusal(setStatus(holder, "idle"))).toMatchObject({
      code: "INVALID_STATE",
      details: { status: "stopped" },
    });
  });
});

describe("who may report without such a key", () => {
  test.each(
    [
      ["the owner", () => owner, null],
      ["an administrator", () => world.person("admin"), null],
      ["the owner's key with agents:write", () => world.withKey(owner, ["agents:write"]), null],
      ["the owner's key without", () => world.withKey(owner, ["monitoring:read"]), denied],
      ["an operator", () => world.person("operator"), notFound],
      ["a stranger", () => world.person(), notFound],
    ] as const,
  )("%s", async (_who, person, fault) => {
    const by = await person();
    const attempts = [
      () => report(by, [{ message: "x" }]),
      () => measure(by, { requests_per_minute: 1 }),
      () => say(by, [{ role: "user", content: "hi" }]),
      () => setStatus(by, "thinking"),
    ];
    for (const attempt of attempts) {
      if (fault === null) await attempt();
      else expect(await refusal(attempt())).toMatchObject(fault);
    }
  });

  test("anonymous callers may not", async () => {
    const attempt = world.anonymous((t) => t`select report_logs(${agentId}, '[{"message": "x"}]')`);
    expect(await refusal(attempt)).toMatchObject({ code: "42501" });
  });
});

describe("log lines", () => {
  test("are stored in order, in our words, and counted", async () => {
    const at = seconds(90);
    const { accepted, last_id } = await report(owner, [
      { message: "one", level: "warning", timestamp: at, source: "core", metadata: { a: 1 } },
      { message: "two" },
      { message: "three", level: "FATAL" },
    ], { instance: "agent-1" });
    expect(accepted).toBe(3);
    expect(await logs()).toMatchObject([
      {
        message: "one",
        level: "WARN",
        source: "core",
        timestamp: new Date(at),
        metadata: { a: 1 },
      },
      { message: "two", level: "INFO", source: null, container_name: "agent-1" },
      { message: "three", level: "ERROR", container_id: null, id: String(last_id) },
    ]);
    const [read] = await owner.do((t) =>
      t`select agent_log_lines(${agentId}, 1, null, null, 'agent-1') as answer`
    );
    expect(read?.answer).toMatchObject({ total_lines: 3, returned_lines: 1 });
  });

  test("are all refused when one is bad, every bad one named, to a bound", async () => {
    const fault = await refusal(report(owner, [
      { message: "fine" },
      "words",
      { message: "", level: "loud" },
      { message: "old", timestamp: seconds(25 * 3600) },
      { message: "ahead", timestamp: seconds(-600) },
      { message: "when", timestamp: "2026-02-30T00:00:00Z" },
      { message: "zone", timestamp: "2026-01-01T00:00:00" },
      { message: "x", source: 5, metadata: [], pod: "y" },
      { level: "INFO" },
      { message: "x", metadata: { big: "x".repeat(5000) } },
    ]));
    expect(fault).toMatchObject({ code: "VALIDATION_ERROR", status: 400 });
    expect(Object.keys(fault.details!).sort()).toEqual([
      "lines.1",
      "lines.1.message",
      "lines.2.level",
      "lines.2.message",
      "lines.3.timestamp",
      "lines.4.timestamp",
      "lines.5.timestamp",
      "lines.6.timestamp",
      "lines.7.metadata",
      "lines.7.pod",
      "lines.7.source",
      "lines.8.message",
      "lines.9.metadata",
    ]);
    expect(await logs()).toHaveLength(0);
    const many = await refusal(report(owner, Array.from({ length: 900 }, () => ({}))));
    expect(Object.keys(many.details!)).toHaveLength(50);
  });

  test.each([
    ["none", []],
    ["an object", {}],
    ["too many", Array.from({ length: 1001 }, () => ({ message: "x" }))],
  ])("are refused when they are %s", async (_what, lines) => {
    expect(await refusal(report(owner, lines))).toMatchObject({
      code: "VALIDATION_ERROR",
      details: { lines: "must be a list of 1 to 1000" },
    });
  });

  test("are refused when they are more than any request of /api holds", async () => {
    expect(
      await refusal(
        report(owner, [{ message: "x".repeat(900_000) }, { message: "x".repeat(900_000) }, {
          message: "x".repeat(400_000),
        }]),
      ),
    )
      .toMatchObject({ code: "VALIDATION_ERROR", details: { lines: "must be at most 2 MiB" } });
    expect(await logs()).toHaveLength(0);
  });

  test("that are long are cut and say so", async () => {
    await report(owner, [{ message: "x".repeat(20_000) }]);
    const [line] = await logs();
    expect(line?.message).toBe(`${"x".repeat(16_384)}… [3616 more characters]`);
  });

  test("of a batch that was stored are not stored again, at once neither", async () => {
    const lines = [{ message: "once" }];
    const answers = await Promise.all(
      Array.from({ length: 6 }, () => report(owner, lines, { batch: "b-1" })),
    );
    expect(answers.filter((answer) => !answer.duplicate)).toHaveLength(1);
    expect(new Set(answers.map((answer) => answer.last_id)).size).toBe(1);
    expect(await logs()).toHaveLength(1);
    await report(owner, lines, { batch: "b-2" });
    expect(await logs()).toHaveLength(2);
  });

  test("of a refused batch can be corrected under the same id", async () => {
    await refusal(report(owner, [{ message: "" }], { batch: "again" }));
    expect(await report(owner, [{ message: "right" }], { batch: "again" })).toMatchObject({
      accepted: 1,
      duplicate: false,
    });
  });

  test("become visible in the order of their ids, for those who follow", async () => {
    let second: Promise<unknown> | undefined;
    let settled = false;
    await owner.do(async (open) => {
      await open`select report_logs(${agentId}, '[{"message": "first"}]')`;
      second = report(owner, [{ message: "second" }]).then(() => settled = true);
      await expect.poll(async () =>
        (await world.sql`
          select 1 from pg_locks where locktype = 'advisory' and not granted
            and database = (select oid from pg_database where datname = current_database())`).length
      ).toBe(1);
      expect(settled).toBe(false);
    });
    await second;
    expect((await logs()).map((line) => line.message)).toEqual(["first", "second"]);
  });
});

describe("secrets of the agent's environment", () => {
  const secret = 'pä55"word/with+signs';
  const pem = `-----BEGIN KEY-----\n${"MIIEvQIBADANBgkq".repeat(2)}\n${
    "hkiG9w0BAQEFAASC".repeat(2)
  }`;
  const forms = [
    secret,
    JSON.stringify({ key: secret }),
    `https://x/?key=${encodeURIComponent(secret)}`,
    Buffer.from(secret).toString("base64"),
    "hkiG9w0BAQEFAASC".repeat(2),
  ];

  beforeEach(async () => {
    agentId = await createRunningAgent(world, owner, {
      environment: { TOKEN: secret, PEM: pem, PORT: "3000" },
    });
  });

  const clean = (stored: unknown) => {
    const text = JSON.stringify(stored);
    expect(text).toContain("[redacted]");
    for (const form of forms) expect(text).not.toContain(form);
    for (const part of ["word/with", "with%2Bsigns", "cMOkNTU", "hkiG9w0BAQEFAASC"]) {
      expect(text).not.toContain(part);
    }
  };

  test.each(forms.map((form, index) => [index, form]))(
    "are taken out of logs: form %i",
    async (_n, form) => {
      await report(owner, [{
        message: `got ${form} here, port 3000`,
        metadata: { deep: [{ form }] },
      }]);
      const [line] = await logs();
      clean(line);
      expect(line?.message).toContain("port 3000");
      expect(JSON.stringify(line?.metadata)).toContain("[redacted]");
    },
  );

  test("are taken out of conversations, names of checks and events too", async () => {
    await say(owner, [{ role: "tool", content: `it is ${secret}`, metadata: { [secret]: 1 } }]);
    clean(
      await world
        .sql`select content, metadata from agent_conversations where agent_id = ${agentId}`,
    );
    await measure(owner, { checks: [{ name: secret, status: "passing" }] });
    clean(await world.sql`select checks from agent_reports where agent_id = ${agentId}`);
  });
});

describe("figures", () => {
  const latest = async () => {
    const [row] = await owner.do((t) =>
      t`select metrics from agent_metrics_latest where agent_id = ${agentId}`
    );
    return row?.metrics as Words;
  };
  /** What the worker does. */
  const collect = (row: Words = {}) =>
    world.sql`insert into agent_metrics ${
      world.sql({
        agent_id: agentId,
        user_id: owner.id,
        replicas: 1,
        cpu_usage: 0.5,
        cpu_limit: 1,
        memory_usage: 1000,
        ...row,
      })
    }`;

  test("as they are reported, where nothing else measures the agent", async () => {
    await measure(owner, {
      requests_total: 1250,
      requests_failed: 50,
      requests_per_minute: 10.5,
      error_rate: 0.04,
      response_time_ms: 45.5,
    });
    expect(await latest()).toMatchObject({
      requests_total: 1250,
      requests_failed: 50,
      requests_per_minute: 10.5,
      error_rate: 0.04,
      response_time_ms: 45.5,
      cpu_usage: null,
    });
    const [read] = await owner.do((t) =>
      t`select agent_metric_series(${agentId}, now() - interval '1 hour', '5 minutes') as series`
    );
    expect(read?.series.requests_per_minute).toMatchObject({ current: 10.5, max: 10.5 });
  });

  test("go before what the health endpoint said, in the next measurement and at once", async () => {
    await collect({ requests_total: 7, requests_failed: 7, requests_per_minute: 7, error_rate: 1 });
    await measure(owner, { requests_total: 100, requests_failed: 1, requests_per_minute: 20 });
    const expected = {
      requests_total: 100,
      requests_failed: 1,
      requests_per_minute: 20,
      error_rate: 1,
      memory_usage: 1000,
    };
    expect(await latest()).toMatchObject(expected);
    expect(await world.sql`select 1 from agent_metrics where agent_id = ${agentId}`).toHaveLength(
      1,
    );
    await collect({ requests_total: 8, requests_failed: 8, requests_per_minute: 8, error_rate: 1 });
    expect(await latest()).toMatchObject(expected);
  });

  test("that are no longer fresh give way to the health endpoint's, or to null", async () => {
    await measure(owner, { requests_total: 100, requests_per_minute: 20, response_time_ms: 5 });
    await world
      .sql`update agent_reports set received_at = now() - interval '3 minutes' where agent_id = ${agentId}`;
    await collect({ requests_total: 8, requests_per_minute: 8 });
    expect(await latest()).toMatchObject({
      requests_total: 8,
      requests_per_minute: 8,
      response_time_ms: null,
    });
    const [read] = await owner.do((t) => t`select agent_snapshot(${agentId}) as snapshot`);
    expect(read?.snapshot.reported).toBeNull();
  });

  test("of a rate follow from two counters, and not across a restart", async () => {
    const [first, second] = [seconds(60), seconds(60 - 30)];
    await measure(owner, { requests_total: 100, requests_failed: 10, timestamp: first });
    const { reported } = await measure(owner, {
      requests_total: 160,
      requests_failed: 25,
      timestamp: second,
    });
    expect(reported.requests_per_minute).toBeCloseTo(120, 0);
    expect(reported.error_rate).toBeCloseTo(0.25, 9);
    const restarted = await measure(owner, { requests_total: 3, requests_failed: 0 });
    expect(restarted.reported).toMatchObject({
      requests_total: 3,
      requests_per_minute: null,
      error_rate: null,
    });
  });

  test("of a rate are of the last one to two minutes, whatever the pace of the reports", async () => {
    const now = Date.now();
    const at = async (ago: number, requests_total: number, requests_failed: number) => {
      const timestamp = new Date(now - ago * 1000).toISOString();
      return (await measure(owner, { requests_total, requests_failed, timestamp })).reported;
    };
    await at(200, 0, 0);
    await at(170, 600, 300);
    expect(await at(140, 600, 300)).toMatchObject({ requests_per_minute: 600, error_rate: 0.5 });
    expect(await at(110, 600, 300)).toMatchObject({ requests_per_minute: 400, error_rate: 0.5 });
    expect(await at(80, 600, 300)).toMatchObject({ requests_per_minute: 0, error_rate: null });
    expect((await at(20, 660, 300)).requests_per_minute).toBe(60);
    // Without the failed ones nothing is known of errors.
    await measure(owner, { requests_total: 1, timestamp: seconds(30) }, "quiet");
    const quiet = await measure(owner, { requests_total: 61, timestamp: seconds(10) }, "quiet");
    const [row] = await world.sql`
      select error_rate from agent_reports where agent_id = ${agentId} and instance = 'quiet'`;
    expect([row?.error_rate, quiet.stored]).toEqual([null, true]);
  });

  test("of several instances are put together", async () => {
    await measure(owner, {
      requests_total: 100,
      requests_failed: 2,
      requests_per_minute: 30,
      error_rate: 0.1,
      response_time_ms: 10,
      checks: [{ name: "db", status: "passing", response_time_ms: 3 }],
    }, "one");
    const { reported } = await measure(owner, {
      requests_total: 50,
      requests_failed: 0,
      requests_per_minute: 10,
      error_rate: 0.5,
      response_time_ms: 50,
      checks: [{ name: "db", status: "failing" }],
    }, "two");
    expect(reported).toMatchObject({
      instances: 2,
      requests_total: 150,
      requests_failed: 2,
      requests_per_minute: 40,
      error_rate: 0.2,
      response_time_ms: 20,
      checks: [{ name: "db", status: "failing", response_time_ms: null }],
    });
  });

  test("that are older than the last, or the same again, are not stored", async () => {
    const timestamp = seconds(10);
    const metrics = { requests_total: 5, timestamp };
    expect((await measure(owner, metrics)).stored).toBe(true);
    expect((await measure(owner, metrics)).stored).toBe(false);
    const older = { requests_total: 4, timestamp: seconds(20) };
    expect((await measure(owner, older)).stored).toBe(false);
  });

  test("that cannot be are refused by name", async () => {
    const fault = await refusal(measure(owner, {
      requests_total: 1,
      requests_failed: 2,
      requests_per_minute: -1,
      error_rate: 1.5,
      response_time_ms: "fast",
      cpu: 1,
      checks: [{ name: "", status: "good" }],
      timestamp: "now",
    }));
    expect(fault).toMatchObject({ code: "VALIDATION_ERROR", status: 400 });
    expect(Object.keys(fault.details!).sort()).toEqual([
      "checks.0.name",
      "checks.0.status",
      "cpu",
      "error_rate",
      "requests_failed",
      "requests_per_minute",
      "response_time_ms",
      "timestamp",
    ]);
  });

  test("of more instances than allowed are refused, those known go on", async () => {
    await world
      .sql`update settings set value = '1' where category = 'reports' and key = 'max_instances'`;
    await measure(owner, { requests_total: 1 }, "one");
    expect(await refusal(measure(owner, { requests_total: 1 }, "two"))).toMatchObject({
      code: "RESOURCE_LIMIT_EXCEEDED",
      status: 429,
    });
    await measure(owner, { requests_total: 2 }, "one");
    await world
      .sql`update settings set value = '200' where category = 'reports' and key = 'max_instances'`;
  });

  test("are read by their owner and not by strangers", async () => {
    await measure(owner, { requests_total: 1 });
    const snapshot = async (person: Person) => {
      const [row] = await person.do((t) => t`select agent_snapshot(${agentId}) as snapshot`);
      return row?.snapshot.reported;
    };
    expect(await snapshot(owner)).toMatchObject({ requests_total: 1 });
    expect(await snapshot(await world.withKey(owner, ["agents:read"]))).toBeNull();
    const stranger = await world.person();
    expect(await owner.do((t) => t`select 1 from agent_reports where agent_id = ${agentId}`))
      .toHaveLength(1);
    expect(await stranger.do((t) => t`select 1 from agent_reports`)).toHaveLength(0);
    expect(await refusal(owner.do((t) => t`delete from agent_reports`))).toMatchObject({
      code: "42501",
    });
  });
});

describe("status", () => {
  test("is what the agent says, over deployed too, and moves its last activity", async () => {
    await world
      .sql`update agents set last_activity_at = now() - interval '1 hour' where id = ${agentId}`;
    await setStatus(owner, "thinking");
    const [agent] = await world.sql`select * from agents where id = ${agentId}`;
    expect(agent?.status).toBe("thinking");
    expect(Date.now() - agent?.last_activity_at.getTime()).toBeLessThan(60_000);
  });

  test.each(["deployed", "stopped", "updated", "", "busy"])("is not %j", async (status) => {
    expect(await refusal(setStatus(owner, status))).toMatchObject({
      code: "VALIDATION_ERROR",
      details: { status: expect.stringContaining("idle") },
    });
  });

  test("last activity moves with every kind of report, but not each time", async () => {
    const activity = async () => {
      const [agent] = await world.sql`select last_activity_at from agents where id = ${agentId}`;
      return agent?.last_activity_at.getTime() as number;
    };
    for (
      const work of [
        () => report(owner, [{ message: "x" }]),
        () => measure(owner, { requests_total: 1 }),
        () => say(owner, [{ role: "user", content: "x" }]),
      ]
    ) {
      await world
        .sql`update agents set last_activity_at = now() - interval '1 hour' where id = ${agentId}`;
      await work();
      expect(Date.now() - await activity()).toBeLessThan(60_000);
    }
    const before = await activity();
    await report(owner, [{ message: "x" }]);
    expect(await activity()).toBe(before);
  });
});

describe("conversations", () => {
  const stored = () =>
    world.sql`select * from agent_conversations where agent_id = ${agentId} order by timestamp, id`;

  test("are kept in order, readable by their owner alone", async () => {
    await say(owner, [
      { role: "user", content: "How are you?", sender: "ann#1", metadata: { guild: "g" } },
      { role: "assistant", content: "Well." },
    ]);
    expect(await stored()).toMatchObject([
      { role: "user", content: "How are you?", sender: "ann#1", conversation_id: "room-7" },
      { role: "assistant", content: "Well.", platform: "discord", user_id: owner.id },
    ]);
    const read = (person: Person) =>
      person.do((t) => t`select 1 from agent_conversations where agent_id = ${agentId}`);
    expect(await read(owner)).toHaveLength(2);
    expect(await read(await world.person("admin"))).toHaveLength(2);
    expect(await read(await world.person("operator"))).toHaveLength(0);
    expect(await read(await world.person())).toHaveLength(0);
    expect(await refusal(owner.do((t) => t`update agent_conversations set content = ''`)))
      .toMatchObject({ code: "42501" });
  });

  test("are deleted by their owner, and by no stranger", async () => {
    await say(owner, [{ role: "user", content: "x" }]);
    const remove = (person: Person) =>
      person.do((t) =>
        t`delete from agent_conversations where agent_id = ${agentId} and conversation_id = 'room-7' returning 1`
      );
    expect(await remove(await world.person())).toHaveLength(0);
    expect(await remove(owner)).toHaveLength(1);
  });

  test("do not double: by batch, or by the ids of messages", async () => {
    const message = {
      id: "3f7e7c9e-7a53-4a3e-9d52-6b9f5b2f9a11",
      timestamp: seconds(5),
      role: "user",
      content: "hi",
    };
    expect(await say(owner, [message], "b1")).toMatchObject({ accepted: 1, duplicate: false });
    expect(await say(owner, [message], "b1")).toMatchObject({ accepted: 1, duplicate: true });
    expect(await say(owner, [message, { role: "assistant", content: "ho" }])).toMatchObject({
      accepted: 1,
      already_known: 1,
    });
    expect(await stored()).toHaveLength(2);
  });

  test("are refused whole, every bad message named", async () => {
    const fault = await refusal(say(owner, [
      { role: "user", content: "fine" },
      { role: "bot", content: "", id: "x" },
      { role: "user", content: "x", id: "3f7e7c9e-7a53-4a3e-9d52-6b9f5b2f9a11", text: "y" },
    ]));
    expect(Object.keys(fault.details!).sort()).toEqual([
      "messages.1.content",
      "messages.1.id",
      "messages.1.role",
      "messages.2.id",
      "messages.2.text",
    ]);
    expect(await stored()).toHaveLength(0);
  });

  test("tell of themselves on the channel, without what was said", async () => {
    agentId = await createRunningAgent(world, owner, {
      supabase_config: { real_time: { enabled: true, channels: ["user_interactions"] } },
    });
    await say(owner, [{ role: "user", content: "between us", sender: "ann" }]);
    const sent = await world.sql`
      select event, payload from realtime.messages where topic = ${`agent:${agentId}:user_interactions`}`;
    expect(sent).toMatchObject([{ event: "user_interaction", payload: { role: "user" } }]);
    expect(JSON.stringify(sent)).not.toMatch(/between us|ann|room-7/);
  });
});

describe("supabase_config.reporting", () => {
  const planned = async () => {
    const [claimed] = await claim(world.sql);
    const { operation: { id }, lease_token: token } = claimed!;
    const [plan] = await world.sql`select private.operation_plan(${id}, ${token}) as plan`;
    const again = await world.sql`select private.operation_plan(${id}, ${token}) as plan`;
    expect(again[0]?.plan.environment).toEqual(plan?.plan.environment);
    await world
      .sql`select private.record_placement(${id}, ${token}, '{"stack_id": "7", "orchestrator": "portainer-swarm"}')`;
    await world.sql`select private.complete_operation(${id}, ${token}, '{}')`;
    return plan?.plan.environment as Record<string, string>;
  };
  const update = (changes: Words) =>
    owner.do((t) => t`select update_agent(${agentId}, ${t.json(changes as never)})`);
  const keys = () => world.sql`select * from api_keys where agent_id = ${agentId}`;

  beforeAll(async () => {
    await world
      .sql`update settings set value = '"https://launchpad.test"' where category = 'reports' and key = 'url'`;
  });

  test("gives the containers a key that reports, the same at every attempt and rollout", async () => {
    agentId = (await createAgent(owner, {
      supabase_config: { reporting: true },
      environment: { TOKEN: "abcdefgh" },
    })).agent.id;
    const environment = await planned();
    expect(environment).toMatchObject({
      TOKEN: "abcdefgh",
      AGENT_LAUNCHPAD_URL: "https://launchpad.test",
      AGENT_LAUNCHPAD_AGENT_ID: agentId,
      AGENT_LAUNCHPAD_KEY: expect.stringMatching(/^alk_/),
    });
    const [key] = await keys();
    await report(holderOf({ api_key: "", key_id: key?.id }), [
      { message: `my key is ${environment.AGENT_LAUNCHPAD_KEY}, I am ${agentId}` },
    ]);
    expect((await logs())[0]?.message).toBe(`my key is [redacted], I am ${agentId}`);
    const collections = await world.sql`
      select c as claimed from private.claim_collections('test', 1000, interval '1 second') c`;
    const { claimed } = collections.find((row) => row.claimed.agent_id === agentId)!;
    expect(claimed.environment).toEqual({
      TOKEN: "abcdefgh",
      AGENT_LAUNCHPAD_KEY: environment.AGENT_LAUNCHPAD_KEY,
    });
    await update({ description: "other", replicas: 2 });
    expect(await planned()).toEqual(environment);
    expect(await keys()).toHaveLength(1);
  });

  test("gives another one after the key was revoked, and takes it away when switched off", async () => {
    agentId = (await createAgent(owner, { supabase_config: { reporting: true } })).agent.id;
    const first = await planned();
    const [key] = await keys();
    await owner.do((t) => t`select revoke_api_key(${key?.id})`);
    await update({ replicas: 2 });
    const second = await planned();
    expect(second.AGENT_LAUNCHPAD_KEY).not.toBe(first.AGENT_LAUNCHPAD_KEY);
    await update({ supabase_config: { reporting: false } });
    expect(await planned()).toEqual({});
    expect(await keys()).toHaveLength(0);
    expect(
      await world.sql`select 1 from vault.secrets where name like ${`reporting-key:%${key?.id}`}`,
    )
      .toHaveLength(0);
  });

  test("does not go over what the owner set", async () => {
    agentId = (await createAgent(owner, {
      supabase_config: { reporting: true },
      environment: { AGENT_LAUNCHPAD_URL: "http://elsewhere" },
    })).agent.id;
    expect((await planned()).AGENT_LAUNCHPAD_URL).toBe("http://elsewhere");
  });

  test("must be true or false", async () => {
    expect(await refusal(createAgent(owner, { supabase_config: { reporting: "yes" } })))
      .toMatchObject({ details: { "supabase_config.reporting": expect.any(String) } });
  });
});

test("what reports leave behind goes with time", async () => {
  await report(owner, [{ message: "x" }], { batch: "old" });
  await measure(owner, { requests_total: 1 }, "old");
  await world
    .sql`update private.report_batches set received_at = now() - interval '3 days' where agent_id = ${agentId}`;
  await world
    .sql`update agent_reports set received_at = now() - interval '2 days' where agent_id = ${agentId}`;
  await world.sql`select private.forget_reports()`;
  expect(await world.sql`select 1 from private.report_batches where agent_id = ${agentId}`)
    .toHaveLength(0);
  expect(await world.sql`select 1 from agent_reports where agent_id = ${agentId}`).toHaveLength(0);
});
