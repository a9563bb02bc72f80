/** The worker on a whole stack: a Portainer that fails, an agent that floods, a process that dies, a secret that stays one. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { residentMegabytes } from "../support/processes.ts";
import { eventually } from "./support/eventually.ts";
import { startWorkerRig, type WorkerRig } from "./support/rig.ts";

let rig: WorkerRig;
let id = "";
beforeAll(async () => {
  rig = await startWorkerRig();
  await rig.set("operations", "lease_seconds", 2);
  await rig.set("operations", "settle_seconds", 1);
  await rig.set("operations", "backoff_base_seconds", 1);
  await rig.set("breakers", "failure_threshold", 100);
  await rig.set("breakers", "open_seconds", 2);
});
afterEach(async () => {
  await rig?.clearFaults();
  await rig?.discard(id);
});
afterAll(() => rig?.stop());

const create = "^/api/stacks/create/";

describe("a deployment during which Portainer's create", () => {
  // Those that are tried again soonest come last: a second call would take the next one's fault.
  const faults: [string, { kind: string; [option: string]: unknown }][] = [
    ["times out after having worked", { kind: "mute" }],
    ["breaks the connection after having worked", { kind: "drop", after: true }],
    ["answers a proxy's HTML", { kind: "html", status: 502 }],
    ["answers 100 MB of rubbish", { kind: "huge", bytes: 104_857_600 }],
    ["says nothing", { kind: "hang", seconds: 60 }],
    ["answers 500", { kind: "status", status: 500 }],
    ["breaks the connection", { kind: "drop" }],
  ];
  const agents = new Map<string, string>();

  // Side by side: a create that may still be at work is waited for half a minute.
  beforeAll(async () => {
    for (const [name, fault] of faults) {
      await rig.order({ method: "POST", path: create, fault });
      const before = await rig.hits();
      agents.set(name, await rig.createAgent("compose"));
      await eventually(async () => await rig.hits() > before, { what: "the call" });
    }
  });
  afterAll(() => Promise.all([...agents.values()].map((each) => rig.discard(each))));

  it.each(faults.map(([name]) => name))("%s comes to exactly one stack", async (name) => {
    const agent = agents.get(name)!;
    expect(await rig.finished(agent, "deploy")).toMatchObject({
      state: "succeeded",
      error: null,
    });
    expect(await rig.stacksOf(agent)).toHaveLength(1);
    expect(await rig.runningContainers(agent)).toHaveLength(1);
  });

  it.each([
    ["500", { kind: "status", status: 500 }, "DEPLOYMENT_FAILED"],
    ["HTML", { kind: "html", status: 502 }, "UPSTREAM_UNAVAILABLE"],
    ["a collision of names", { kind: "status", status: 409 }, "DEPLOYMENT_FAILED"],
    ["a refusal", { kind: "status", status: 400 }, "DEPLOYMENT_FAILED"],
  ])(
    "always answers %s fails with the documented error and leaves no stack",
    async (_, fault, code) => {
      await rig.set("operations", "max_attempts", 2);
      await rig.order({ method: "POST", path: create, times: 0, fault });
      id = await rig.createAgent("compose");
      const operation = await rig.finished(id, "deploy");
      await rig.set("operations", "max_attempts", 5);
      expect(operation).toMatchObject({
        state: "failed",
        error: { code, details: { component: "portainer" } },
      });
      expect(JSON.stringify(operation.error)).not.toContain("fault");
      expect(await rig.stacksOf(id)).toHaveLength(0);
      const { data } = await rig.user.from("deployments").select("state, error").eq("agent_id", id)
        .single();
      expect(data).toMatchObject({ state: "failed", error: { code } });
    },
  );
});

describe("the breaker of a cluster", () => {
  const breaker = async () => {
    const [row] = await rig.sql<{ state: string }[]>`
      select state from public.circuit_breakers where name = ${`cluster:${rig.clusters.compose}`}
    `;
    return row?.state;
  };

  it("opens while Portainer is away, and the operation is done when it is back", async () => {
    await rig.set("breakers", "failure_threshold", 2);
    await rig.order({ path: ".", fault: { kind: "gone" } });
    id = await rig.createAgent("compose");
    await eventually(async () => await breaker() === "open", {
      what: "an open breaker",
    });
    await rig.clearFaults();
    expect(await rig.finished(id, "deploy")).toMatchObject({ state: "succeeded", error: null });
    expect(await breaker()).toBe("closed");
    expect(await rig.stacksOf(id)).toHaveLength(1);
    await rig.set("breakers", "failure_threshold", 100);
  });
});

describe("two commands at once", () => {
  it("one is carried out, the other is told which", async () => {
    id = await rig.createAgent("compose");
    await rig.finished(id, "deploy");
    const answers = await Promise.all(
      [2, 3].map((replicas) => rig.user.rpc("scale_agent", { agent_id: id, replicas })),
    );
    const [refused] = answers.filter((answer) => answer.error !== null);
    const [accepted] = answers.filter((answer) => answer.error === null);
    expect(refused!.error!.code).toBe("OPERATION_IN_PROGRESS");
    expect(refused!.error!.details).toContain(accepted!.data.operation.id);
    expect(await rig.finished(id, "scale")).toMatchObject({ state: "succeeded", error: null });
    const wanted = accepted!.data.operation.request.to_replicas;
    expect(await rig.runningContainers(id)).toHaveLength(wanted);
  });
});

describe("what happens to a running agent", () => {
  it("is seen: a container that is killed from outside dies and is started again", async () => {
    id = await rig.createAgent("compose");
    await rig.finished(id, "deploy");
    const [container] = await eventually(async () => {
      const { data } = await rig.user.from("deployments").select("containers").eq("agent_id", id)
        .single();
      return data!.containers.length > 0 ? data!.containers : null;
    });
    const answer = await rig.portainer(`/api/endpoints/2/docker/containers/${container.id}/json`);
    process.kill((await answer.json()).State.Pid, "SIGKILL");
    const restart = await eventually(async () => {
      const { data } = await rig.user.from("container_events").select("*").eq("agent_id", id)
        .eq("event", "restart");
      return data?.[0];
    }, { what: "an event of the restart" });
    expect(restart).toMatchObject({
      container_id: container.id,
      details: { restart_count: 1 },
    });
  });

  it("is measured, with figures of the operating system", async () => {
    id = await rig.createAgent("compose", { environment: { MEMORY_MB: "40" } });
    await rig.finished(id, "deploy");
    const row = await eventually(async () => {
      const { data } = await rig.user.from("agent_metrics").select("*").eq("agent_id", id)
        .not("cpu_usage", "is", null).limit(1);
      return data?.[0];
    }, { what: "a measurement" });
    expect(row.memory_usage).toBeGreaterThan(40 * 1024 * 1024);
    expect(row.memory_limit).toBe(128 * 1024 * 1024);
    expect(row.cpu_usage).toBeGreaterThanOrEqual(0);
  });
});

describe("an agent that writes ten thousand lines a second", () => {
  it("has them stored in order, by a worker whose memory stays bounded", async () => {
    id = await rig.createAgent("compose", { environment: { LOG_RATE: "10000" } });
    await rig.finished(id, "deploy");
    await eventually(async () => {
      const [row] = await rig.sql<{ number: number }[]>`
        select count(*)::int as number from public.agent_logs where agent_id = ${id}
      `;
      return row!.number > 100_000;
    }, { what: "100,000 stored lines" });
    const [row] = await rig.sql<
      { disorder: number; gaps: number; skipped: number }[]
    >`
      with numbered as (
        select id, timestamp, source, (regexp_match(message, '^#(\d+) '))[1]::int as number,
          level = 'WARN' as to_stderr
        from public.agent_logs where agent_id = ${id}
      ), stdout as (
        select id, number, lag(number) over (order by id) as before from numbered
        where number is not null and not to_stderr
      )
      select
        (select count(*)::int from stdout where number <= before) as disorder,
        (select count(*)::int from stdout where number > before + 2) as gaps,
        (select count(*)::int from numbered where source = 'agent-launchpad') as skipped
    `;
    expect(row).toMatchObject({ disorder: 0, gaps: row!.skipped });
    const pid = await rig.workerPid();
    expect(residentMegabytes(pid!)).toBeLessThan(400);
  });
});

describe("a secret of an agent's environment", () => {
  it(
    "is in nothing that a client reads and in no stack file, though the agent logs it",
    async () => {
      const secret = `canary-${crypto.randomUUID()}`;
      id = await rig.createAgent("compose", {
        environment: { SPECIAL: secret, API_TOKEN: secret },
      });
      await rig.finished(id, "deploy");
      await rig.rpc("update_agent", {
        agent_id: id,
        changes: { environment: { OTHER: `${secret}-2` } },
      });
      await rig.finished(id, "update");
      await rig.rpc("scale_agent", { agent_id: id, replicas: 2 });
      await rig.finished(id, "scale");
      await eventually(async () => {
        const { data } = await rig.user.from("agent_logs").select("message").eq("agent_id", id)
          .like("message", "%[redacted]%");
        return data!.length > 0;
      }, { what: "a redacted line" });
      const read: Record<string, unknown> = {};
      for (
        const table of [
          "deployments",
          "operations",
          "agent_events",
          "container_events",
          "agent_logs",
          "agent_metrics",
        ]
      ) {
        const { data, error } = await rig.user.from(table).select("*").eq("agent_id", id);
        expect(error).toBeNull();
        read[table] = data;
      }
      read.agents = (await rig.user.from("agents").select("*").eq("id", id)).data;
      read.snapshot = await rig.rpc("agent_snapshot", { agent_id: id });
      for (const { Id } of await rig.stacksOf(id)) {
        read.file = await (await rig.portainer(`/api/stacks/${Id}/file`)).json();
      }
      expect(read.file).toBeDefined();
      for (const [where, content] of Object.entries(read)) {
        expect(JSON.stringify(content).includes(secret), where).toBe(false);
      }
      expect(rig.stack.output()).not.toContain(secret);
    },
  );
});
