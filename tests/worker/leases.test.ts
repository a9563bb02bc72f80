/** Leases, clocks, and operations that end their worker. */
import { beforeAll, beforeEach, expect, it } from "vitest";
import { systemClock } from "../../shared/worker/clock.ts";
import { createQueue } from "../../shared/worker/queue.ts";
import { createWorker } from "../../shared/worker/worker.ts";
import { createWorkerBed, type WorkerBed } from "./support/bed.ts";

let bed: WorkerBed;
beforeAll(async () => {
  bed = await createWorkerBed();
});
beforeEach(() => {
  bed.cluster.workloads.clear();
  bed.cluster.calls.length = 0;
  bed.cluster.ready = true;
});

/** Another machine's worker. */
const workerBy = (now: () => number) =>
  createWorker({
    sql: bed.sql,
    orchestratorFor: () => bed.cluster,
    log: () => {},
    clock: { ...systemClock, now },
  });

it.each([["ahead", 20 * 60_000], ["behind", -20 * 60_000]])(
  "a worker whose clock is far %s gives an operation neither less nor more time",
  async (_, skew) => {
    bed.cluster.ready = false;
    const id = await bed.createAgent();
    const worker = workerBy(() => Date.now() + skew);
    await bed.run(worker);
    expect(await bed.operation(id)).toMatchObject({ state: "running", error: null });
    await bed.sql`
      update public.operations set started_at = now() - interval '16 minutes' where agent_id = ${id}`;
    await bed.passTime();
    await bed.run(worker);
    expect(await bed.operation(id)).toMatchObject({
      state: "failed",
      error: { details: { reason: "deadline exceeded" } },
    });
  },
);

it("a worker that was stopped for longer than its lease makes no call with lasting effects", async () => {
  let stoppedMs = 0;
  const { inspect } = bed.cluster;
  const id = await bed.createAgent();
  bed.cluster.inspect = async (...args) => {
    const state = await inspect(...args);
    stoppedMs += 60_000;
    return state;
  };
  const summary = await bed.run(workerBy(() => Date.now() + stoppedMs));
  bed.cluster.inspect = inspect;
  expect(summary.passes).toMatchObject({ lost: 1, succeeded: 0, failed: 0 });
  expect(bed.cluster.calls).toEqual(["inspect"]);
  await bed.passTime();
  await bed.run();
  expect(await bed.operation(id)).toMatchObject({ state: "succeeded", attempts: 0 });
});

/** Workers that die as soon as they have taken up what is due, until nothing is. */
async function dyingWorker(id: string): Promise<number | null> {
  const [claimed] = await createQueue(bed.sql).claim("dying", 0, 10);
  const [entry] = await bed.sql<{ losses: number }[]>`
    select q.losses from private.operation_queue q join public.operations o on o.id = q.operation_id
    where o.agent_id = ${id}`;
  expect(claimed?.losses ?? entry!.losses).toBe(entry!.losses);
  return claimed === undefined ? null : claimed.losses;
}

it("an operation that ends its worker each time comes back ever later, and is given up", async () => {
  await bed.set("operations", "max_losses", 2);
  await bed.set("operations", "backoff_base_seconds", 100);
  const id = await bed.createAgent();
  expect(await dyingWorker(id)).toBe(0);
  // At once the first time, as after any worker's end.
  expect(await dyingWorker(id)).toBe(1);
  expect(await dyingWorker(id)).toBeNull();
  const [waiting] = await bed.sql`
    select q.run_after > now() as later from private.operation_queue q`;
  expect(waiting).toEqual({ later: true });
  await bed.passTime();
  await bed.run();
  expect(bed.cluster.calls).toEqual([]);
  expect(await bed.operation(id)).toMatchObject({
    state: "failed",
    error: { code: "INTERNAL_ERROR", details: { losses: 2 } },
  });
  expect(await bed.sql`select 1 from public.dead_letters where agent_id = ${id}`).toHaveLength(1);
  await bed.set("operations", "max_losses", 8);
});

it("an operation that gets on with each worker is not given up for how many died over it", async () => {
  await bed.set("operations", "max_losses", 2);
  bed.cluster.ready = false;
  const id = await bed.createAgent();
  for (let died = 0; died < 4; died++) {
    await bed.passTime();
    expect(await dyingWorker(id)).toBe(0);
    await bed.passTime();
    await bed.run();
    expect(await bed.operation(id)).toMatchObject({ state: "running" });
  }
  bed.cluster.ready = true;
  await bed.passTime();
  await bed.run();
  expect(await bed.operation(id)).toMatchObject({ state: "succeeded" });
  await bed.set("operations", "max_losses", 8);
});
