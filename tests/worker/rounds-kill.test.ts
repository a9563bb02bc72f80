/** kill -9 of the worker's process in the middle of what it does beside operations, with real processes. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { eventually } from "./support/eventually.ts";
import { type Engine, ENGINES, startWorkerRig, type WorkerRig } from "./support/rig.ts";

let rig: WorkerRig;
beforeAll(async () => {
  rig = await startWorkerRig();
  await rig.set("operations", "settle_seconds", 3);
  // Nobody but the rounds calls Portainer once the agents run.
  await rig.set("collection", "concurrency", 0);
  await rig.set("collection", "health_seconds", 3600);
});
afterAll(() => rig?.stop());

/** What the dead worker held would be another's in a minute or two; cron wakes the worker meanwhile. */
const endLease = (table: string) =>
  rig.sql.unsafe(`update private.${table} set run_after = now() where lease_token is not null`);

const running = async (engine: Engine, spec: Record<string, unknown> = {}) => {
  const id = await rig.createAgent(engine, spec);
  expect(await rig.finished(id, "deploy")).toMatchObject({ state: "succeeded" });
  return id;
};

/** Lets the worker come as far as a call of its rounds, and kills it in it. */
async function killInCall(method: string, kind: string, begin: () => Promise<unknown>) {
  const path = "^/api/(?!endpoints/\\d+$)";
  await rig.order({ method, path, times: 0, fault: { kind, ms: 2500 } });
  await begin();
  await rig.sql`select private.wake_worker()`;
  await eventually(async () => await rig.hits(method) > 0, { what: "a call" });
  await rig.killWorker();
  await rig.clearFaults();
}

describe.each(Object.keys(ENGINES) as Engine[])("on %s", (engine) => {
  it("a security scan is carried out by the next worker", async () => {
    const id = await running(engine);
    await killInCall("GET", "delay", () => rig.rpc("scan_agent", { agent_id: id }));
    await endLease("security_scan_queue");
    const scan = await eventually(async () => {
      const [row] = await rig.sql`select * from public.security_scans where agent_id = ${id}`;
      return row && row.state !== "queued" && row.state !== "running" ? row : null;
    }, { what: "the end of the scan" });
    expect(scan).toMatchObject({ state: "completed", containers_examined: 1 });
    expect(await rig.sql`select 1 from private.security_scan_queue`).toEqual([]);
    await rig.discard(id);
  });

  it.each([["before", "delay"], ["after", "mute"]])(
    "what a rollout left is taken away when a worker dies %s its change takes effect",
    async (_, kind) => {
      const id = await running(engine, {
        portainer: { deployment_strategy: "blue-green", health_checks: { enabled: true } },
      });
      const reached = await rig.runningContainers(id);
      // New replicas that never become ready.
      await rig.rpc("update_agent", {
        agent_id: id,
        changes: { environment: { UNHEALTHY_AFTER: "0" } },
      });
      await eventually(async () => (await rig.runningContainers(id)).length > reached.length, {
        what: "a second set of replicas",
      });
      await killInCall("PUT", kind, async () => {
        // As an operation is given up that nothing follows, here with its cluster well.
        await rig.sql.begin(async (t) => {
          await t`delete from private.operation_queue q using public.operations o
            where o.id = q.operation_id and o.agent_id = ${id}`;
          await t`update public.operations set state = 'failed', finished_at = now()
            where agent_id = ${id} and state in ('queued', 'running')`;
          await t`update public.deployments set state = 'failed' where agent_id = ${id}`;
          await t`select private.queue_rollout_remains(${id})`;
        });
      });
      await eventually(async () => {
        await endLease("rollout_remains");
        return (await rig.sql`select 1 from private.rollout_remains`).length === 0;
      }, { what: "the end of it" });
      await eventually(
        async () =>
          JSON.stringify((await rig.runningContainers(id)).sort()) ===
            JSON.stringify(reached.sort()),
        { what: "the replicas that were reached, alone" },
      );
      await rig.discard(id);
    },
  );
});

it("files of a deleted agent are removed by the next worker", async () => {
  const id = await running("compose", { supabase_config: { storage: { bucket: "kill-files" } } });
  const [folder] = await rig.sql<{ prefix: string }[]>`
    select prefix from public.agent_buckets where agent_id = ${id}`;
  for (const name of ["one", "two", "three"]) {
    const { error } = await rig.user.storage.from("kill-files")
      .upload(`${folder!.prefix}${name}`, "content");
    expect(error).toBeNull();
  }
  const files = () =>
    rig.sql`select name from storage.objects where bucket_id = 'kill-files' and name like ${
      folder!.prefix + "%"
    }`;
  expect(await files()).toHaveLength(3);
  // Storage cannot get on with an object that somebody else holds: the worker is in its call for sure.
  await rig.sql.begin(async (t) => {
    await t`select from storage.objects where bucket_id = 'kill-files' for update`;
    await rig.rpc("delete_agent", { agent_id: id });
    await eventually(
      async () => (await rig.sql`select 1 from pg_locks where not granted`).length > 0,
      {
        what: "Storage to wait",
      },
    );
    await rig.killWorker();
  });
  await eventually(async () => {
    await endLease("storage_removals");
    return (await files()).length === 0;
  }, { what: "the files to go" });
  await rig.discard(id);
});
