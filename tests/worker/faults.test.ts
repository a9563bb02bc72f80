import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { NOTHING_OBSERVED } from "../../shared/worker/observation.ts";
import { createQueue } from "../../shared/worker/queue.ts";
import type { Fault } from "./support/scripted-orchestrator.ts";
import { createWorkerBed, UNTIL_IDLE, type WorkerBed } from "./support/bed.ts";
import { upstreamErrors } from "./support/scripted-orchestrator.ts";
import { eventually } from "./support/eventually.ts";

let bed: WorkerBed;
beforeAll(async () => {
  bed = await createWorkerBed();
  await bed.set("operations", "settle_seconds", 0.001);
  await bed.set("operations", "removal_settle_seconds", 0.001);
});
beforeEach(async () => {
  bed.cluster.workloads.clear();
  bed.cluster.calls.length = 0;
  bed.cluster.created = 0;
  bed.cluster.ready = true;
  await bed.sql`delete from private.operation_queue`;
  await bed.sql`delete from public.circuit_breakers`;
});

/** Runs and lets time pass until the newest operation of the agent is over. */
async function settle(id: string) {
  for (let turn = 0; turn < 30; turn++) {
    await bed.run();
    const operation = await bed.operation(id);
    if (!["queued", "running"].includes(operation.state)) return operation;
    await bed.passTime();
  }
  throw new Error(`still under way: ${JSON.stringify(await bed.operation(id))}`);
}

/** A call that hangs, and the means to let it end. */
function hanging(rest: Fault = {}): { fault: Fault; release: () => void } {
  let release!: () => void;
  const until = new Promise<void>((resolve) => release = resolve);
  return { fault: { ...rest, until }, release };
}

describe("when the cluster fails", () => {
  it("a time-out after the stack was made ends with that one stack", async () => {
    bed.cluster.fail("deploy", { works: true, error: upstreamErrors.timedOut() });
    const id = await bed.createAgent();
    expect(await settle(id)).toMatchObject({ state: "succeeded", attempts: 1 });
    expect(bed.cluster.created).toBe(1);
    expect(bed.cluster.calls.filter((call) => call === "deploy")).toHaveLength(1);
  });

  it("an attempt that failed is made again, later each time", async () => {
    await bed.set("operations", "backoff_base_seconds", 100);
    bed.cluster.fail("inspect", { error: upstreamErrors.down() }, { error: upstreamErrors.down() });
    const id = await bed.createAgent();
    await bed.run();
    const pauseAfter = async () => {
      const [row] = await bed.sql<{ seconds: number }[]>`
        select extract(epoch from q.run_after - now())::float8 as seconds
        from private.operation_queue q join public.operations o on o.id = q.operation_id
        where o.agent_id = ${id}
      `;
      return row!.seconds;
    };
    const first = await pauseAfter();
    await bed.passTime();
    await bed.run();
    const second = await pauseAfter();
    await bed.set("operations", "backoff_base_seconds", 2);
    // At least half of the base and of its double, less what has gone by until it was looked at.
    expect(first).toBeGreaterThan(40);
    expect(second).toBeGreaterThan(90);
    expect(await settle(id)).toMatchObject({ state: "succeeded", attempts: 2, error: null });
  });

  it("what waits for its containers is looked at again within a second", async () => {
    bed.cluster.ready = false;
    const id = await bed.createAgent();
    await bed.run();
    const [row] = await bed.sql<{ seconds: number }[]>`
      select extract(epoch from q.run_after - now())::float8 as seconds
      from private.operation_queue q join public.operations o on o.id = q.operation_id
      where o.agent_id = ${id}
    `;
    expect(row!.seconds).toBeLessThanOrEqual(1);
  });

  it("a refusal is told at once, in the documented code, and goes to the dead letters", async () => {
    bed.cluster.fail("deploy", { error: upstreamErrors.refused() });
    const id = await bed.createAgent();
    const operation = await settle(id);
    expect(operation).toMatchObject({
      state: "failed",
      attempts: 1,
      error: {
        code: "DEPLOYMENT_FAILED",
        message: "The image does not exist",
        details: { component: "portainer", reason: "image_not_found" },
      },
    });
    expect(operation.steps.find((step) => step.name === "deploy_to_portainer")!.status).toBe(
      "failed",
    );
    const letters = await bed.sql`select * from public.dead_letters where agent_id = ${id}`;
    expect(letters).toHaveLength(1);
    expect(await bed.deployment(id)).toMatchObject({ state: "failed" });
  });

  it("gives up after the last attempt", async () => {
    await bed.set("breakers", "failure_threshold", 100);
    bed.cluster.fail(
      "inspect",
      ...Array.from({ length: 5 }, () => ({ error: upstreamErrors.down() })),
    );
    const id = await bed.createAgent();
    expect(await settle(id)).toMatchObject({
      state: "failed",
      attempts: 5,
      error: { code: "UPSTREAM_UNAVAILABLE" },
    });
    await bed.set("breakers", "failure_threshold", 5);
  });

  it("a bug of ours is told without its words", async () => {
    bed.cluster.fail(
      "inspect",
      ...Array.from({ length: 5 }, () => ({ error: new TypeError("x of undefined") })),
    );
    const id = await bed.createAgent();
    const operation = await settle(id);
    expect(operation).toMatchObject({ state: "failed", error: { code: "INTERNAL_ERROR" } });
    expect(JSON.stringify(operation)).not.toContain("undefined");
  });

  it("containers that never become ready fail the operation at its deadline", async () => {
    bed.cluster.ready = false;
    const id = await bed.createAgent({ replicas: 2 });
    await bed.run();
    await bed
      .sql`update public.operations set started_at = now() - interval '1 day' where agent_id = ${id}`;
    const operation = await settle(id);
    expect(operation).toMatchObject({
      state: "failed",
      error: {
        code: "DEPLOYMENT_FAILED",
        details: { component: "portainer", replicas_ready: 0, replicas_desired: 2 },
      },
    });
  });

  it("no secret of the environment gets into an error", async () => {
    const secret = "canary-8f2e1c7d5b";
    const error = upstreamErrors.refused();
    error.message = `cannot parse ${secret}`;
    error.details.line = `TOKEN=${secret}`;
    bed.cluster.fail("deploy", { error });
    const id = await bed.createAgent({ environment: { TOKEN: secret } });
    await settle(id);
    const [trace] = await bed.sql<{ text: string }[]>`
      select concat(
        (select json_agg(o) from public.operations o where agent_id = ${id}),
        (select json_agg(d) from public.deployments d where agent_id = ${id}),
        (select json_agg(l) from public.dead_letters l where agent_id = ${id}),
        (select json_agg(e) from public.agent_events e where agent_id = ${id})
      ) as text
    `;
    expect(trace!.text).toContain("[redacted]");
    expect(trace!.text).not.toContain(secret);
    expect(bed.log.join("\n")).not.toContain(secret);
  });
});

describe("the circuit breaker of a cluster", () => {
  it("opens after failures in a row, holds operations without costing attempts, and closes", async () => {
    bed.cluster.fail(
      "inspect",
      ...Array.from({ length: 5 }, () => ({ error: upstreamErrors.down() })),
    );
    const ids = await Promise.all(Array.from({ length: 5 }, () => bed.createAgent()));
    await bed.run();
    const breaker = async () =>
      (await bed
        .sql`select state from public.circuit_breakers where name = ${`cluster:${bed.clusterId}`}`)[
          0
        ]!
        .state;
    expect(await breaker()).toBe("open");

    const calls = bed.cluster.calls.length;
    const late = await bed.createAgent();
    await bed.run();
    expect(bed.cluster.calls.length).toBe(calls);
    expect(await bed.operation(late)).toMatchObject({ state: "running", attempts: 0 });

    for (const id of [...ids, late]) expect((await settle(id)).state).toBe("succeeded");
    expect(await breaker()).toBe("closed");
    expect(bed.cluster.created).toBe(6);
  });

  it("is not opened by requests that the cluster refuses", async () => {
    bed.cluster.fail(
      "deploy",
      ...Array.from({ length: 6 }, () => ({ error: upstreamErrors.refused() })),
    );
    await Promise.all(Array.from({ length: 6 }, () => bed.createAgent()));
    await bed.run();
    expect(await bed.sql`select 1 from public.circuit_breakers where state <> 'closed'`)
      .toHaveLength(0);
  });
});

describe("leases", () => {
  it("a worker whose lease was taken breaks off its call and writes nothing more", async () => {
    await bed.set("operations", "lease_seconds", 0.3);
    const { fault, release } = hanging({ works: true });
    bed.cluster.fail("deploy", fault);
    const id = await bed.createAgent();
    const slow = bed.createWorker();
    const slowRun = slow.run(UNTIL_IDLE);
    await eventually(() => bed.cluster.calls.includes("deploy"));
    // Another worker takes over, as after a pause longer than the lease.
    await bed.sql`
      update private.operation_queue set lease_token = gen_random_uuid(), leased_by = 'other', run_after = now() + interval '1 hour'
    `;
    const before = JSON.stringify(await bed.operation(id));
    const summary = await slowRun;
    release();
    expect(summary.passes.lost).toBe(1);
    expect(JSON.stringify(await bed.operation(id))).toBe(before);
    await bed.set("operations", "lease_seconds", 15);
  });

  it("what a dead worker left is taken up from the real state", async () => {
    const { fault, release } = hanging({ works: true });
    bed.cluster.fail("deploy", fault);
    const id = await bed.createAgent();
    const dead = bed.createWorker();
    const deadRun = dead.run({ ...UNTIL_IDLE, graceMs: 600_000 });
    await eventually(() => bed.cluster.calls.includes("deploy"));
    dead.stop();
    expect(await settle(id)).toMatchObject({ state: "succeeded", attempts: 0 });
    expect(bed.cluster.created).toBe(1);
    release();
    await deadRun;
    expect(await bed.operation(id)).toMatchObject({ state: "succeeded" });
  });

  it("a run that has to end leaves its operation for the next", async () => {
    bed.cluster.fail("deploy", hanging({ works: true }).fault);
    const id = await bed.createAgent();
    const worker = bed.createWorker();
    const run = worker.run(UNTIL_IDLE);
    await eventually(() => bed.cluster.calls.includes("deploy"));
    worker.stop();
    expect((await run).passes.waiting).toBe(1);
    expect(await settle(id)).toMatchObject({ state: "succeeded", attempts: 0 });
    expect(bed.cluster.created).toBe(1);
  });

  it("two workers at once carry out each operation once", async () => {
    const ids = await Promise.all(Array.from({ length: 20 }, () => bed.createAgent()));
    await Promise.all([bed.run(), bed.run(), bed.run()]);
    for (const id of ids) expect((await settle(id)).state).toBe("succeeded");
    expect(bed.cluster.calls.filter((call) => call === "deploy")).toHaveLength(20);
  });
});

it("what a worker saw waits for the agent before it holds the deployment", async () => {
  bed.cluster.ready = false;
  const id = await bed.createAgent();
  await bed.run();
  await bed.passTime();
  const queue = createQueue(bed.sql);
  const [operation] = await queue.claim("worker", 30, 1);
  let written: Promise<unknown> = Promise.resolve();
  await bed.sql.begin(async (t) => {
    // As a command does, which goes on to the deployment.
    await t`select from public.agents where id = ${id} for no key update`;
    written = queue.write(operation!, bed.clusterId, [
      { is: "observation", observation: NOTHING_OBSERVED },
      { is: "postpone", milliseconds: 0 },
    ]);
    await eventually(async () =>
      (await bed.sql`select 1 from pg_stat_activity
        where wait_event_type = 'Lock' and datname = current_database()`).length > 0
    );
    await t`select from public.deployments where agent_id = ${id} for update`;
  });
  await written;
});

describe("deleting an agent while something is under way", () => {
  it("breaks the operation off at once and removes what it made", async () => {
    const { fault } = hanging({ works: true });
    bed.cluster.fail("deploy", fault);
    const id = await bed.createAgent();
    const worker = bed.createWorker();
    const run = worker.run(UNTIL_IDLE);
    await eventually(() => bed.cluster.calls.includes("deploy"));
    await bed.rpc("delete_agent", { agent_id: id });
    worker.wake();
    const summary = await run;
    expect(summary.passes.cancelled).toBe(1);
    await settle(id);
    expect(await bed.operation(id)).toMatchObject({ kind: "delete", state: "succeeded" });
    expect(bed.cluster.workloads.size).toBe(0);
    const [deploy] = await bed
      .sql`select state from public.operations where agent_id = ${id} and kind = 'deploy'`;
    expect(deploy!.state).toBe("cancelled");
  });

  it("waits for a creation that comes through late", async () => {
    await bed.set("operations", "removal_settle_seconds", 3600);
    bed.cluster.fail("deploy", hanging().fault);
    const id = await bed.createAgent();
    const worker = bed.createWorker();
    const run = worker.run(UNTIL_IDLE);
    await eventually(() => bed.cluster.calls.includes("deploy"));
    const { stack_name: name } = await bed.deployment(id);
    await bed.rpc("delete_agent", { agent_id: id });
    worker.wake();
    await run;
    await bed.passTime();
    await bed.run();
    expect(await bed.operation(id)).toMatchObject({
      kind: "delete",
      state: "running",
      attempts: 0,
    });

    await bed.cluster.deploy(
      { agentId: id, name, replicas: 1, revision: 1, image: "x" } as never,
      new AbortController().signal,
    );
    await bed.passTime();
    await bed.run();
    expect(bed.cluster.workloads.size).toBe(0);
    await bed.set("operations", "removal_settle_seconds", 0.001);
    await bed.passTime();
    await bed.run();
    expect(await bed.operation(id)).toMatchObject({ kind: "delete", state: "succeeded" });
  });

  it("asks for the removal also where no workload is to be seen", async () => {
    await bed.set("operations", "removal_settle_seconds", 0.001);
    bed.cluster.fail("deploy", hanging().fault);
    const id = await bed.createAgent();
    const worker = bed.createWorker();
    const run = worker.run({ wallMs: 20_000, graceMs: 100, idleMs: 0 });
    await eventually(() => bed.cluster.calls.includes("deploy"));
    await bed.rpc("delete_agent", { agent_id: id });
    worker.wake();
    await run;
    expect(await settle(id)).toMatchObject({ kind: "delete", state: "succeeded" });
    expect(bed.cluster.calls).toContain("remove");
  });

  it("an agent whose row is gone has its stack removed all the same", async () => {
    const id = await bed.createAgent();
    await bed.run();
    await bed.sql`delete from public.agents where id = ${id}`;
    expect(await settle(id)).toMatchObject({ kind: "delete", state: "succeeded" });
    expect(bed.cluster.workloads.size).toBe(0);
  });
});
