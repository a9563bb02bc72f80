import { beforeAll, expect, it } from "vitest";
import { createWorkerBed, type WorkerBed } from "./support/bed.ts";
import { eventually } from "./support/eventually.ts";

let bed: WorkerBed;
beforeAll(async () => {
  bed = await createWorkerBed();
});

interface Batch {
  batch: { id: string };
}

async function runningAgents(number: number): Promise<string[]> {
  const ids: string[] = [];
  for (let made = 0; made < number; made++) ids.push(await bed.createAgent());
  await bed.run();
  return ids;
}

it("two workers together keep max_concurrent, and carry the batch to its end", async () => {
  const ids = await runningAgents(5);
  let most = 0;
  let now = 0;
  const restart = bed.cluster.restart;
  let release = () => {};
  let gate = new Promise<void>((resolve) => release = resolve);
  bed.cluster.restart = async (...args) => {
    most = Math.max(most, ++now);
    await gate;
    await restart(...args);
    now--;
  };
  const { batch } = await bed.rpc<Batch>("create_batch", {
    operation: "restart",
    agent_ids: `{${ids.join(",")}}`,
    options: { max_concurrent: 2 },
  });
  const workers = [bed.createWorker(), bed.createWorker()];
  const runs = workers.map((worker) => bed.run(worker));
  // Both restarts that may run are under way: whoever came too early would be counted.
  await eventually(() => now === 2);
  const [row] = await bed.sql`select * from public.batches where id = ${batch.id}`;
  expect(row).toMatchObject({ running: 2, waiting: 3 });
  release();
  gate = Promise.resolve();
  await Promise.all(runs);
  await eventually(async () => {
    await bed.run();
    const [over] = await bed.sql`select state from public.batches where id = ${batch.id}`;
    return over!.state === "succeeded";
  });
  expect(most).toBe(2);
  bed.cluster.restart = restart;
});

it("cancelling and deleting while workers end operations breaks nothing", async () => {
  const ids = await runningAgents(12);
  const { batch } = await bed.rpc<Batch>("create_batch", {
    operation: "restart",
    agent_ids: `{${ids.join(",")}}`,
    options: { max_concurrent: 2 },
  });
  const workers = [bed.createWorker(), bed.createWorker()];
  const runs = workers.map((worker) => bed.run(worker));
  await bed.rpc("delete_agent", { agent_id: ids[11] });
  await bed.rpc("delete_agent", { agent_id: ids[10] });
  await bed.rpc("cancel_batch", { batch_id: batch.id }).catch((error) => {
    // It may have been over already.
    expect(JSON.parse(error.message).code).toBe("INVALID_STATE");
  });
  await Promise.all(runs);
  const over = await eventually(async () => {
    await bed.run();
    const [row] = await bed.sql`select * from public.batches where id = ${batch.id}`;
    return row!.state === "running" ? null : row;
  });
  expect(over.succeeded + over.failed + over.cancelled).toBe(12);
  expect(bed.log.filter((line) => line.includes("deadlock"))).toEqual([]);
  const left = await bed.sql`
    select o.id from public.operations o left join private.operation_queue q on q.operation_id = o.id
    where o.batch_id = ${batch.id} and not coalesce(q.cancel_requested, false)
      and (o.state in ('queued', 'running')) <> (q.operation_id is not null)`;
  expect(left).toHaveLength(0);
});
