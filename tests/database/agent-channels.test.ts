import { beforeAll, describe, expect, test } from "vitest";
import {
  call,
  createAgent,
  createRunningAgent,
  createWorld,
  type Person,
  refusal,
  type World,
} from "./support.ts";

let world: World;
let owner: Person;

beforeAll(async () => {
  world = await createWorld();
  owner = await world.person();
});

interface Sent {
  event: string;
  payload: Record<string, unknown>;
  private: boolean;
}

/** What was sent on a channel, oldest first. */
async function sent(agentId: string, channel: string): Promise<Sent[]> {
  return await world.sql`
    select event, payload, private from realtime.messages
    where topic = ${`agent:${agentId}:${channel}`} order by inserted_at, cmin::text::int` as unknown as Sent[];
}

const config = (...channels: string[]) => ({
  supabase_config: { real_time: { enabled: true, channels } },
});

/** What the policies let somebody do on a topic, asked as Realtime asks. */
async function may(person: Person, topic: string): Promise<string[]> {
  const allowed: string[] = [];
  for (const extension of ["broadcast", "presence"]) {
    const hears = await person.do(async (t) => {
      await t`select set_config('realtime.topic', ${topic}, true)`;
      await t`reset role`;
      const [probe] = await t`
        insert into realtime.messages (topic, extension) values (${topic}, ${extension}) returning id`;
      await t`set local role authenticated`;
      const rows = await t`select 1 from realtime.messages where id = ${probe!.id}`;
      return rows.length > 0;
    });
    if (hears) allowed.push(`hear ${extension}`);
    const sends = await refusal(person.do(async (t) => {
      await t`select set_config('realtime.topic', ${topic}, true)`;
      await t`insert into realtime.messages (topic, extension) values (${topic}, ${extension})`;
      throw Object.assign(new Error("undo"), { code: "undone" });
    }));
    if (sends.code === "undone") allowed.push(`send ${extension}`);
  }
  await world.sql`delete from realtime.messages where payload is null`;
  return allowed;
}

describe("a configuration", () => {
  test.each([
    [{ real_time: { enabled: true, channels: ["agent_status", "signals"] } }, [
      "agent_status",
      "signals",
    ]],
    [{ real_time: { channels: ["signals"] } }, ["signals"]],
    [{ real_time: { enabled: false, channels: ["signals"] } }, []],
    [{ real_time: { enabled: true, channels: [] } }, []],
    [{ real_time: {} }, []],
    [{}, []],
  ])("%j opens %j", async (given, channels) => {
    const [row] = await world.sql`select private.agent_channels(${world.sql.json(given)}) as open`;
    expect(row!.open).toEqual(channels);
  });

  test("that says enabled and names no channel opens those the system speaks on", async () => {
    const [row] = await world.sql`
      select private.agent_channels('{"real_time": {"enabled": true}}') @> array['agent_status', 'error_logs'] as open`;
    expect(row!.open).toBe(true);
  });

  test.each([
    ["project_ref", { project_ref: "Not A Ref" }],
    ["real_time", { real_time: "yes" }],
    ["real_time.enabled", { real_time: { enabled: "yes" } }],
    ["real_time.channels", { real_time: { channels: "agent_status" } }],
    ["real_time.channels", { real_time: { channels: ["with space"] } }],
    ["real_time.channels", { real_time: { channels: ["a:b"] } }],
    ["real_time.channels", { real_time: { channels: [1] } }],
    ["real_time.channels", { real_time: { channels: ["twice", "twice"] } }],
    ["real_time.channels", {
      real_time: { channels: Array.from({ length: 51 }, (_, n) => `c${n}`) },
    }],
  ])("with a bad %s is refused: %j", async (field, supabase_config) => {
    const refused = await refusal(createAgent(owner, { supabase_config }));
    expect(refused.code).toBe("VALIDATION_ERROR");
    expect(Object.keys(refused.details ?? {})).toEqual([`supabase_config.${field}`]);
  });
});

describe("agent_status", () => {
  test("tells each change of status and deployment, without what describes the agent", async () => {
    const id = await createRunningAgent(world, owner, {
      name: "Personal Name",
      ...config("agent_status"),
    });
    await owner.do((t) => t`update agents set status = 'thinking' where id = ${id}`);
    const messages = await sent(id, "agent_status");
    expect(messages.at(-1)).toMatchObject({
      event: "agent_status_update",
      private: true,
      payload: { agent_id: id, status: "thinking", deployment: { state: "running" } },
    });
    expect(messages.map(({ payload }) => payload.status)).toContain("deployed");
    expect(JSON.stringify(messages)).not.toMatch(/personal/i);
  });

  test("tells the deletion to those who joined while the channel was open", async () => {
    const id = await createRunningAgent(world, owner, config("agent_status"));
    await call(owner, "public.delete_agent($1)", id);
    expect((await sent(id, "agent_status")).at(-1)?.payload.status).toBe("deleting");
  });

  test.each([
    ["is not opened", config("signals")],
    ["is switched off", {
      supabase_config: { real_time: { enabled: false, channels: ["agent_status"] } },
    }],
  ])("sends nothing when it %s", async (_, spec) => {
    const id = await createRunningAgent(world, owner, spec);
    expect(await sent(id, "agent_status")).toEqual([]);
  });
});

test("performance_metrics carries each measurement", async () => {
  const { agent: { id } } = await createAgent(owner, config("performance_metrics"));
  await world.sql`
    insert into agent_metrics (agent_id, user_id, replicas, cpu_usage, containers)
    values (${id}, ${owner.id}, 2, 0.5, '[{"name": "x"}]')`;
  const [message] = await sent(id, "performance_metrics");
  expect(message).toMatchObject({
    event: "metric_update",
    payload: { agent_id: id, replicas: 2, cpu_usage: 0.5 },
  });
  expect(Object.keys(message!.payload)).not.toEqual(expect.arrayContaining(["containers"]));
});

test("container_events carries what happens to containers, without their names", async () => {
  const id = await createRunningAgent(world, owner, config("container_events"));
  await world.sql`select private.observe_deployment(${id},
    '{"containers": [{"id": "c1", "name": "personal-name", "status": "running", "image": "personal-image"}]}')`;
  const messages = await sent(id, "container_events");
  expect(messages.map(({ payload }) => payload.event)).toEqual(["create", "start"]);
  expect(JSON.stringify(messages)).not.toContain("personal");
});

/** Writes lines as the worker and report_logs do: counted in the same transaction. */
async function writeLines(id: string, userId: string, count: number, level: string, text = "line") {
  await world.sql.begin(async (sql) => {
    await sql`
      insert into agent_logs (agent_id, user_id, timestamp, level, message)
      select ${id}, ${userId}, date_trunc('hour', now()) + n * interval '1 ms', ${level}, ${text}::text || ' ' || n
      from generate_series(1, ${count}) n`;
    await sql`
      select private.add_log_counts(${id}, ${userId},
        jsonb_build_array(jsonb_build_object('hour', now(), 'level', ${level}::text, 'lines', ${count}::int)))`;
  });
}

describe("error_logs", () => {
  const log = (id: string, count: number, level = "ERROR") =>
    writeLines(id, owner.id, count, level);
  const open = async () => (await createAgent(owner, config("error_logs"))).agent.id;
  const endWindow = (id: string) =>
    world
      .sql`update private.error_windows set started_at = started_at - interval '1 minute' where agent_id = ${id}`;

  test("carries what an agent reports", async () => {
    const id = await open();
    await owner.do((t) =>
      t`select public.report_logs(${id}, '[{"level": "INFO", "message": "fine"}, {"level": "ERROR", "message": "broken"}]')`
    );
    expect(await sent(id, "error_logs")).toMatchObject([
      { event: "error_log", payload: { agent_id: id, message: "broken" } },
    ]);
  });

  test("carries ERROR lines and no others", async () => {
    const id = await open();
    await log(id, 1, "WARN");
    await log(id, 2);
    expect(await sent(id, "error_logs")).toMatchObject([
      { event: "error_log", payload: { agent_id: id, level: "ERROR", message: "line 1" } },
      { event: "error_log", payload: { message: "line 2" } },
    ]);
  });

  test("sums a burst up instead of sending a message for each line", async () => {
    const id = await open();
    await log(id, 5_000);
    await log(id, 5_000);
    expect(await sent(id, "error_logs")).toHaveLength(10);
    await world.sql`select private.tell_held_back_errors()`;
    expect(await sent(id, "error_logs")).toHaveLength(10);
    await endWindow(id);
    await world.sql`select private.tell_held_back_errors()`;
    await world.sql`select private.tell_held_back_errors()`;
    const messages = await sent(id, "error_logs");
    expect(messages).toHaveLength(11);
    expect(messages.at(-1)).toMatchObject({
      event: "error_summary",
      payload: { agent_id: id, count: 9_990 },
    });
  });

  test("sends lines again in the next window, after the sum of the last one", async () => {
    const id = await open();
    await log(id, 12);
    await endWindow(id);
    await log(id, 1);
    expect((await sent(id, "error_logs")).slice(10)).toMatchObject([
      { event: "error_summary", payload: { count: 2 } },
      { event: "error_log", payload: { message: "line 1" } },
    ]);
  });

  test("keeps a line of another agent's out of it", async () => {
    const [mine, other] = [await open(), await open()];
    await writeLines(mine, owner.id, 1, "ERROR", "mine");
    await writeLines(other, owner.id, 1, "ERROR", "other");
    expect((await sent(mine, "error_logs")).map(({ payload }) => payload.message)).toEqual([
      "mine 1",
    ]);
    expect((await sent(other, "error_logs")).map(({ payload }) => payload.message)).toEqual([
      "other 1",
    ]);
  });
});

describe("emit_agent_event", () => {
  const emit = (person: Person, id: string, channel: string, event: string, payload: unknown) =>
    person.do((t) =>
      t`select public.emit_agent_event(${id}, ${channel}, ${event}, ${
        JSON.stringify(payload)
      }::text::jsonb) as result`
    ).then(([row]) => row!.result);

  test("sends on a channel of the agent's own and gives the id of the message", async () => {
    const { agent: { id } } = await createAgent(owner, config("signals"));
    const answer = await emit(owner, id, "signals", "buy", { symbol: "ETH" });
    expect(answer).toEqual({
      id: expect.any(String),
      agent_id: id,
      channel: "signals",
      event: "buy",
      topic: `agent:${id}:signals`,
    });
    expect(await sent(id, "signals")).toEqual([
      { event: "buy", payload: { symbol: "ETH", id: answer.id }, private: true },
    ]);
  });

  test.each(
    [
      ["a channel that is not open", ["orders", "e", {}], "NOT_FOUND", 404],
      ["a channel the system speaks on", ["agent_status", "e", {}], "VALIDATION_ERROR", 400],
      ["a name that is none", ["a b", "e", {}], "VALIDATION_ERROR", 400],
      ["an event without a name", ["signals", "", {}], "VALIDATION_ERROR", 400],
      ["a payload that is no object", ["signals", "e", []], "VALIDATION_ERROR", 400],
      [
        "a payload of more than 64 KiB",
        ["signals", "e", { x: "x".repeat(65_536) }],
        "VALIDATION_ERROR",
        400,
      ],
    ] as const,
  )("refuses %s", async (_, [channel, event, payload], code, status) => {
    const { agent: { id } } = await createAgent(owner, config("signals", "agent_status"));
    expect(await refusal(emit(owner, id, channel, event, payload))).toMatchObject({ code, status });
    expect(await sent(id, channel)).not.toContainEqual(expect.objectContaining({ event: "e" }));
  });

  test("says that real time is off", async () => {
    const { agent: { id } } = await createAgent(owner, {
      supabase_config: { real_time: { enabled: false, channels: ["signals"] } },
    });
    expect(await refusal(emit(owner, id, "signals", "e", {}))).toMatchObject({
      code: "INVALID_STATE",
      status: 409,
    });
  });

  test("knows no agent of somebody else", async () => {
    const { agent: { id } } = await createAgent(owner, config("signals"));
    const stranger = await world.person();
    expect(await refusal(emit(stranger, id, "signals", "e", {}))).toMatchObject({
      code: "AGENT_NOT_FOUND",
      status: 404,
    });
  });

  test("is for keys that may write agents only", async () => {
    const { agent: { id } } = await createAgent(owner, config("signals"));
    const reader = await world.withKey(owner, ["agents:read"]);
    expect(await refusal(emit(reader, id, "signals", "e", {}))).toMatchObject({
      code: "PERMISSION_DENIED",
    });
  });

  test("takes so many events a minute and no more, at once neither", async () => {
    const { agent: { id } } = await createAgent(owner, config("signals"));
    await world.sql`update settings set value = '2' where key = 'events_per_minute'`;
    await Promise.allSettled(
      Array.from({ length: 6 }, () => emit(owner, id, "signals", "e", {})),
    );
    const refused = await refusal(emit(owner, id, "signals", "e", {}));
    await world.sql`update settings set value = '600' where key = 'events_per_minute'`;
    expect(refused).toMatchObject({ code: "RATE_LIMIT_EXCEEDED", status: 429 });
    expect(await sent(id, "signals")).toHaveLength(2);
  });
});

describe("a deleted agent's messages", () => {
  async function agentThatSpoke(): Promise<string> {
    const { agent: { id } } = await createAgent(owner, config("signals", "error_logs"));
    await owner.do((t) =>
      t`select public.emit_agent_event(${id}, 'signals', 'said', '{"text": "personal words"}')`
    );
    await writeLines(id, owner.id, 1, "ERROR", "personal words");
    expect(await holding(id)).toBe(2);
    return id;
  }
  const holding = async (id: string) => {
    const [row] = await world.sql`
      select count(*)::int as n from realtime.messages m
      where m.topic like ${`agent:${id}:%`} and m::text like '%personal words%'`;
    return row!.n;
  };

  test("hold nothing of what was written after delete_agent", async () => {
    const id = await agentThatSpoke();
    await call(owner, "public.delete_agent($1)", id);
    expect(await holding(id)).toBe(0);
  });

  test("hold nothing of what was written after the row is deleted", async () => {
    const id = await agentThatSpoke();
    await owner.do((t) => t`delete from agents where id = ${id}`);
    expect(await holding(id)).toBe(0);
  });

  test("hold nothing of what was written after the user is gone", async () => {
    const leaving = await world.person();
    const { agent: { id } } = await createAgent(leaving, config("signals"));
    await leaving.do((t) =>
      t`select public.emit_agent_event(${id}, 'signals', 'said', '{"text": "personal words"}')`
    );
    await world.sql`delete from auth.users where id = ${leaving.id}`;
    expect(await holding(id)).toBe(0);
  });
});

describe("the policies", () => {
  const all = ["hear broadcast", "send broadcast", "hear presence", "send presence"];
  const hear = ["hear broadcast", "hear presence", "send presence"];
  let id: string;
  beforeAll(async () => {
    id = (await createAgent(owner, config("signals", "agent_status", "error_logs"))).agent.id;
  });

  test.each([
    ["its own topic", () => `user:${owner.id}`, hear],
    ["its agent's topic", () => `agent:${id}`, hear],
    ["a channel of the system", () => `agent:${id}:agent_status`, hear],
    ["a channel of its own", () => `agent:${id}:signals`, all],
    ["a channel that is not open", () => `agent:${id}:orders`, []],
    ["no known topic", () => "agent:x:signals", []],
    ["a channel under its own topic", () => `user:${owner.id}:signals`, []],
  ])("let an owner on %s", async (_, topic, allowed) => {
    expect(await may(owner, topic())).toEqual(allowed);
  });

  test("let a stranger nowhere", async () => {
    const stranger = await world.person();
    for (const topic of [`user:${owner.id}`, `agent:${id}`, `agent:${id}:signals`]) {
      expect(await may(stranger, topic)).toEqual([]);
    }
  });

  test("let nobody on the channels of an agent whose real time is off", async () => {
    const { agent } = await createAgent(owner, {
      supabase_config: { real_time: { enabled: false, channels: ["signals"] } },
    });
    expect(await may(owner, `agent:${agent.id}:signals`)).toEqual([]);
  });

  test("show logs to those who may monitor only", async () => {
    const reader = await world.withKey(owner, ["agents:read"]);
    expect(await may(reader, `agent:${id}:agent_status`)).toContain("hear broadcast");
    expect(await may(reader, `agent:${id}:error_logs`)).toEqual([]);
  });
});

describe("announcements", () => {
  const announce = (person: Person, event: string, payload: unknown) =>
    person.do((t) =>
      t`select public.announce(${event}, ${JSON.stringify(payload)}::text::jsonb) as result`
    ).then(([row]) => row!.result);

  test("are sent to everybody by administrators, and leave a trace", async () => {
    const admin = await world.person("admin");
    const answer = await announce(admin, "maintenance", { text: "at noon" });
    const [message] = await world.sql`
      select topic, event, payload, private from realtime.messages where id = ${answer.id}`;
    expect(message).toEqual({
      topic: "system",
      event: "maintenance",
      payload: { id: answer.id, text: "at noon" },
      private: true,
    });
    const [trace] = await world.sql`select actor_id from audit_log where target_id = ${answer.id}`;
    expect(trace!.actor_id).toBe(admin.id);
  });

  test("are not for users to send, nor with a bad payload", async () => {
    expect(await refusal(announce(owner, "maintenance", {}))).toMatchObject({
      code: "PERMISSION_DENIED",
      status: 403,
    });
    const admin = await world.person("admin");
    expect(Object.keys((await refusal(announce(admin, "", []))).details ?? {})).toEqual([
      "event",
      "payload",
    ]);
  });

  test("are heard by everybody signed in, who do not see each other there", async () => {
    expect(await may(owner, "system")).toEqual(["hear broadcast"]);
    expect(await may(await world.person("admin"), "system")).toEqual([
      "hear broadcast",
      "send broadcast",
    ]);
  });
});

test("what cannot be sent is not said to be: Realtime has made no room for today's messages", async () => {
  const empty = await createWorld();
  const speaker = await empty.person();
  const { agent: { id } } = await createAgent(
    speaker,
    config("signals", "error_logs", "agent_status"),
  );
  await empty.sql`truncate realtime.messages`;
  await empty.sql.unsafe(`do $$ declare partition regclass; begin
    for partition in select inhrelid::regclass from pg_inherits where inhparent = 'realtime.messages'::regclass loop
      execute format('drop table %s', partition);
    end loop; end $$`);
  expect(
    await refusal(
      speaker.do((t) => t`select public.emit_agent_event(${id}, 'signals', 'said', '{}')`),
    ),
  ).toMatchObject({ code: "SUPABASE_CONNECTION_ERROR", status: 503 });
  // What the system does is done all the same.
  await speaker.do((t) => t`update agents set status = 'thinking' where id = ${id}`);
  await speaker.do((t) =>
    t`select public.report_logs(${id}, '[{"level": "ERROR", "message": "broken"}]')`
  );
  const [row] = await empty.sql`select count(*)::int as n from agent_logs where agent_id = ${id}`;
  expect(row!.n).toBe(1);
});
