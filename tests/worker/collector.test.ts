import { beforeEach, describe, expect, it } from "vitest";
import { createWorkerBed, type WorkerBed } from "./support/bed.ts";
import { eventually } from "./support/eventually.ts";
import { createScriptedOrchestrator, upstreamErrors } from "./support/scripted-orchestrator.ts";

let bed: WorkerBed;
beforeEach(async () => {
  bed = await createWorkerBed();
});

/** A deployed agent whose deployment is looked at from now on. */
async function watchedAgent(spec: Record<string, unknown> = {}) {
  const id = await bed.createAgent(spec);
  await bed.run();
  const { stack_name: name } = await bed.deployment(id);
  await bed.set("collection", "concurrency", 32);
  return {
    id,
    workload: (bed.clusters.get(String(spec.cluster_id)) ?? bed.cluster).workloads.get(
      String(name),
    )!,
  };
}

/** Lets everything be due and looks once. */
async function look() {
  await bed.sql`
    update private.collections set next_at = now() - interval '1 ms', state_at = null, logs_at = null, metrics_at = null
  `;
  return await bed.run();
}

const timeOf = (n: number) => {
  const nanoseconds = BigInt(start) * 1_000_000n + BigInt(n) * 1000n;
  return `${new Date(Number(nanoseconds / 1_000_000n)).toISOString().slice(0, 19)}.${
    String(nanoseconds % 1_000_000_000n).padStart(9, "0")
  }Z`;
};
const start = Date.now() - 60_000;
const line = (n: number, message: string, stream: "stdout" | "stderr" = "stdout") => ({
  timestamp: timeOf(n),
  stream,
  message,
});

const stored = (id: string) =>
  bed.sql<
    {
      level: string;
      message: string;
      source: string;
      container_id: string;
      timestamp: Date;
      metadata: unknown;
    }[]
  >`
    select * from public.agent_logs where agent_id = ${id} order by id
  `;

describe("an agent that Kubernetes scales", () => {
  it("has the replicas that its autoscaler set, which is told and rolls nothing out", async () => {
    const { id, workload } = await watchedAgent({
      scaling: { maxReplicas: 8, targetCPU: 50 },
      replicas: 2,
    });
    await bed.sql`update public.deployments set orchestrator = 'kubernetes' where agent_id = ${id}`;
    workload.autoscaler = {
      desired: 5,
      replicas: 5,
      metrics: [{ metric: "cpu", valuePercent: 120, targetPercent: 50 }],
      limitedBy: null,
    };
    await look();
    await look();
    const [agent] = await bed.sql`select replicas, generation from public.agents where id = ${id}`;
    expect(agent).toMatchObject({ replicas: 5 });
    expect(await bed.deployment(id)).toMatchObject({
      replicas_desired: 5,
      observed_generation: agent!.generation,
      state: "running",
    });
    expect(
      await bed.sql`select message, data from public.agent_events
        where agent_id = ${id} and event_type = 'AUTOSCALED'`,
    ).toMatchObject([{
      message: "Kubernetes scaled from 2 to 5 replicas: CPU at 120 % of its limit, target 50 %",
      data: { by: "kubernetes", reason: "above_target", from_replicas: 2, to_replicas: 5 },
    }]);
  });
});

describe("logs", () => {
  it("are stored once each and in order, with level and source", async () => {
    const { id, workload } = await watchedAgent();
    const container = workload.containers[0]!.id;
    const log = [
      line(1, "[2026-01-01T00:00:00Z] INFO (eliza-core): one"),
      line(2, "plain words", "stderr"),
    ];
    bed.cluster.logsOf.set(container, log);
    await look();
    await look();
    log.push(
      line(2, "same time, later"),
      line(3, '{"level":"warn","msg":"four","logger":"api","shard":7}'),
    );
    await look();
    expect(
      (await stored(id)).map((
        { level, source, message, metadata },
      ) => [level, source, message, metadata]),
    )
      .toEqual([
        ["INFO", "eliza-core", "one", {}],
        ["ERROR", null, "plain words", {}],
        ["INFO", null, "same time, later", {}],
        ["WARN", "api", "four", { shard: 7 }],
      ]);
  });

  it("keep every character that Postgres can hold", async () => {
    const { id, workload } = await watchedAgent();
    const odd = 'tab\there, back\\slash, "quotes", new\\n, ünïcödé 🙂, \\N, \u0007 bell';
    bed.cluster.logsOf.set(workload.containers[0]!.id, [
      line(1, odd),
      line(2, "nul\u0000 and half \ud83d pair"),
      line(3, JSON.stringify({ msg: "meta", bad: "\u0000" })),
      line(4, ""),
    ]);
    await look();
    expect((await stored(id)).map((row) => [row.message, row.timestamp.toISOString()])).toEqual([
      [odd, new Date(timeOf(1)).toISOString()],
      ["nul and half \ufffd pair", new Date(timeOf(2)).toISOString()],
      ["meta", new Date(timeOf(3)).toISOString()],
      ["", new Date(timeOf(4)).toISOString()],
    ]);
  });

  it("keep the microseconds of the engine", async () => {
    const { id, workload } = await watchedAgent();
    bed.cluster.logsOf.set(workload.containers[0]!.id, [
      {
        timestamp: new Date(start).toISOString().slice(0, 19) + ".123456789Z",
        stream: "stdout",
        message: "x",
      },
    ]);
    await look();
    const [row] = await bed.sql`
      select to_char(timestamp, 'US') as micros from public.agent_logs where agent_id = ${id}
    `;
    expect(row!.micros).toBe("123456");
  });

  it("hold no secret of the agent's environment", async () => {
    const secret = "canary-5b1f9a27c3";
    const { id, workload } = await watchedAgent({ environment: { TOKEN: secret } });
    bed.cluster.logsOf.set(workload.containers[0]!.id, [line(1, `login with ${secret} failed`)]);
    workload.containers[0]!.healthOutput = {
      checks: [{ name: `as ${secret}`, status: "failing" }],
    };
    workload.containers[0]!.healthCheckedAt = new Date().toISOString();
    await look();
    expect((await stored(id))[0]!.message).toBe("login with [redacted] failed");
    expect(JSON.stringify(await bed.deployment(id))).toContain("[redacted]");
    expect(JSON.stringify(await bed.deployment(id))).not.toContain(secret);
  });

  it("of many thousand lines are read page by page, none lost and none twice", async () => {
    const { id, workload } = await watchedAgent();
    await bed.set("collection", "log_lag_seconds", 3600);
    bed.cluster.logsOf.set(
      workload.containers[0]!.id,
      Array.from(
        { length: 30_000 },
        (_, n) => line(Math.floor(n / 3), `line ${n} ${"x".repeat(100)}`),
      ),
    );
    await look();
    const rows = await stored(id);
    expect(rows).toHaveLength(30_000);
    expect(rows.every((row, n) => row.message.startsWith(`line ${n} `))).toBe(true);
  });

  it("that are too far behind are skipped, and one line says how much", async () => {
    const { id, workload } = await watchedAgent();
    await bed.set("collection", "log_lag_seconds", 1);
    bed.cluster.logsOf.set(
      workload.containers[0]!.id,
      Array.from({ length: 30_000 }, (_, n) => line(n * 1000, `line ${n} ${"x".repeat(100)}`)),
    );
    await look();
    await look();
    const rows = await stored(id);
    const notices = rows.filter((row) => row.source === "agent-launchpad");
    expect(notices).toHaveLength(1);
    expect(notices[0]).toMatchObject({ level: "WARN" });
    expect(notices[0]!.metadata).toMatchObject({ skipped_seconds: expect.any(Number) });
    expect(rows.length).toBeLessThan(10_000);
    expect(rows.at(-1)!.message).toMatch(/^line 29999 /);
  });

  it("are not written any more once the agent is deleted", async () => {
    const { id, workload } = await watchedAgent();
    let release!: () => void;
    bed.cluster.fail("logs", { until: new Promise((resolve) => release = resolve) });
    bed.cluster.logsOf.set(workload.containers[0]!.id, [line(1, "late")]);
    const looking = look();
    await eventually(() => bed.cluster.calls.includes("logs"), { what: "the look at the logs" });
    await bed.rpc("delete_agent", { agent_id: id });
    release();
    await looking;
    expect(await stored(id)).toHaveLength(0);
  });
});

describe("containers", () => {
  it("that died and came back are told as events", async () => {
    const { id, workload } = await watchedAgent();
    await look();
    Object.assign(workload.containers[0]!, {
      restartCount: 1,
      exitCode: 137,
      startedAt: new Date(Date.now() + 1000).toISOString(),
    });
    await look();
    const events = await bed.sql<{ event: string; details: Record<string, unknown> }[]>`
      select event, details from public.container_events where agent_id = ${id} order by timestamp
    `;
    expect(events.map((event) => event.event)).toEqual([
      "create",
      "start",
      "health_status",
      "restart",
      "start",
    ]);
    expect(events[3]!.details).toMatchObject({ restart_count: 1, exit_code: 137 });
  });

  it("that fall again and again make an agent unhealthy, also while none is there to be probed", async () => {
    const { id, workload } = await watchedAgent();
    Object.assign(workload.containers[0]!, {
      status: "created",
      health: null,
      startedAt: null,
      restartCount: 3,
    });
    await look();
    expect(await bed.deployment(id)).toMatchObject({ health: { status: "unhealthy" } });
  });

  it("that run without a health check are neither well nor not", async () => {
    const { id, workload } = await watchedAgent();
    workload.containers[0]!.health = null;
    await look();
    expect(await bed.deployment(id)).toMatchObject({ health: { status: "unknown" } });
  });

  it("that somebody else removed are no longer shown", async () => {
    const { id } = await watchedAgent();
    bed.cluster.workloads.clear();
    await look();
    expect(await bed.deployment(id)).toMatchObject({ replicas_ready: 0, containers: [] });
  });
});

describe("measurements", () => {
  const latest = async (id: string) =>
    (await bed
      .sql`select * from public.agent_metrics where agent_id = ${id} order by timestamp desc limit 1`)[
        0
      ]!;

  const present = (id: string) =>
    bed.sql`select metrics from public.agent_metrics_latest where agent_id = ${id}`;

  it("are the past where nothing runs any more", async () => {
    const { id } = await watchedAgent();
    await look();
    expect(await present(id)).toHaveLength(1);
    bed.cluster.workloads.clear();
    await look();
    expect(await present(id)).toHaveLength(0);
    const series = await bed.rpc<{ cpu: Record<string, unknown> }>("agent_metric_series", {
      agent_id: id,
      since: new Date(Date.now() - 3_600_000).toISOString(),
      bin: "5 minutes",
    });
    expect(series.cpu).toMatchObject({ current: null, average: expect.any(Number) });
  });

  it("that come in while the agent stops are not what it uses at present", async () => {
    const { id, workload } = await watchedAgent();
    let release!: () => void;
    bed.cluster.fail("logs", { until: new Promise((resolve) => release = resolve) });
    bed.cluster.logsOf.set(workload.containers[0]!.id, [line(1, "late")]);
    bed.cluster.calls.length = 0;
    await bed.sql`delete from public.agent_metrics_latest where agent_id = ${id}`;
    const looking = look();
    await expect.poll(() => bed.cluster.calls).toContain("logs");
    await bed.sql`update public.deployments set state = 'stopping' where agent_id = ${id}`;
    release();
    await looking;
    expect(await present(id)).toHaveLength(0);
  });

  it("are the sums over the containers; what nobody measured is null", async () => {
    const { id } = await watchedAgent({ replicas: 2 });
    await look();
    expect(await latest(id)).toMatchObject({
      replicas: 2,
      cpu_usage: 0.5,
      cpu_limit: 1,
      memory_usage: "200",
      memory_limit: "2000",
      requests_total: null,
      requests_per_minute: null,
      error_rate: null,
      response_time_ms: null,
    });
  });

  it("take requests from the agent's own report", async () => {
    const { id, workload } = await watchedAgent();
    const report = (total: number, failed: number, at: string) =>
      Object.assign(workload.containers[0]!, {
        healthOutput: { requests: { total, failed, average_response_time_ms: 12 } },
        healthCheckedAt: at,
      });
    report(100, 1, "2026-01-01T00:00:00Z");
    await look();
    expect(await latest(id)).toMatchObject({ requests_total: "100", requests_per_minute: null });
    report(160, 7, "2026-01-01T00:00:30Z");
    await look();
    expect(await latest(id)).toMatchObject({
      requests_total: "160",
      requests_failed: "7",
      requests_per_minute: 120,
      error_rate: 0.1,
      response_time_ms: 12,
    });
  });
});

describe("clusters", () => {
  it("that do not answer are left alone while their breaker is open", async () => {
    const { id } = await watchedAgent();
    bed.cluster.fail(
      "inspect",
      ...Array.from({ length: 5 }, () => ({ error: upstreamErrors.down() })),
    );
    for (let n = 0; n < 5; n++) await look();
    const calls = bed.cluster.calls.length;
    await look();
    expect(bed.cluster.calls.length).toBe(calls);
    await bed.passTime();
    await look();
    expect(bed.cluster.calls.length).toBeGreaterThan(calls);
    expect(await bed.deployment(id)).toMatchObject({ replicas_ready: 1 });
  });

  it("that are slow hold up no other", async () => {
    const slow = createScriptedOrchestrator();
    const [row] = await bed.sql<{ id: string }[]>`
      select private.register_default_cluster('portainer', 'slow', 'http://slow.test', 1, null, 'ptr_other') as id
    `;
    bed.clusters.set(row!.id, slow);
    for (let n = 0; n < 12; n++) await watchedAgent({ cluster_id: row!.id });
    await bed.set("collection", "concurrency", 0);
    const { id, workload } = await watchedAgent();
    bed.cluster.logsOf.set(workload.containers[0]!.id, [line(1, "quick")]);
    let release!: () => void;
    const until = new Promise<void>((resolve) => release = resolve);
    slow.calls.length = 0;
    slow.fail("inspect", ...Array.from({ length: 12 }, () => ({ until })));
    const looking = look();
    await eventually(async () => (await stored(id)).length > 0, { what: "the quick one's line" });
    expect(slow.calls.length).toBeLessThanOrEqual(8);
    release();
    await looking;
  });
});
