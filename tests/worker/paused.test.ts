/** A worker's process that is stopped for longer than its lease, while another takes its work, and then goes on. */
import type { Sql } from "postgres";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createOrchestrator } from "../../shared/orchestrators/create.ts";
import { connectWorkerDatabase } from "../../shared/worker/connect.ts";
import { createWorker, type Worker } from "../../shared/worker/worker.ts";
import { eventually } from "./support/eventually.ts";
import {
  type Engine,
  ENGINES,
  expectDeaths,
  startWorkerRig,
  type WorkerRig,
} from "./support/rig.ts";

let rig: WorkerRig;
let sql: Sql;
let heir: Worker;
beforeAll(async () => {
  rig = await startWorkerRig();
  await expectDeaths(rig);
  sql = connectWorkerDatabase(rig.stack.dbUrl);
  heir = createWorker({
    sql,
    orchestratorFor: (cluster) => createOrchestrator(cluster),
    log: () => {},
  });
});
afterAll(async () => {
  await sql?.end();
  await rig?.stop();
});

/** The other worker, until it has done it. */
const carryOut = (id: string, kind: string) =>
  eventually(async () => {
    await heir.run({ wallMs: 20_000, graceMs: 1000, idleMs: 3000 });
    return (await rig.operation(id, kind)).state === "succeeded";
  }, { what: `the end of ${kind}` });

const changes = { environment: { MODE: "second" } };

describe.each(Object.keys(ENGINES) as Engine[])("on %s", (engine) => {
  it.each([
    ["before its change takes effect", "delay"],
    ["when its change has taken effect", "mute"],
  ])("one stopped %s changes nothing any more", async (_, kind) => {
    const id = await rig.createAgent(engine);
    expect(await rig.finished(id, "deploy")).toMatchObject({ state: "succeeded" });
    await rig.order({ method: "PUT", path: "^/api/stacks/", times: 0, fault: { kind, ms: 1000 } });
    await rig.rpc("update_agent", { agent_id: id, changes });
    await eventually(async () => await rig.hits("PUT") > 0, { what: "a call" });
    const pid = (await rig.workerPid())!;
    process.kill(pid, "SIGSTOP");
    await rig.clearFaults();
    try {
      await carryOut(id, "update");
      await rig.rpc("scale_agent", { agent_id: id, replicas: 2 });
      await carryOut(id, "scale");
    } finally {
      process.kill(pid, "SIGCONT");
    }
    // It lives, and does what is asked next.
    expect(await rig.workerPid()).toBe(pid);
    await rig.rpc("restart_agent", { agent_id: id });
    expect(await rig.finished(id, "restart")).toMatchObject({ state: "succeeded" });
    expect(await rig.stacksOf(id)).toHaveLength(1);
    await eventually(async () => (await rig.runningContainers(id)).length === 2, {
      what: "two running containers",
    });
    const [row] = await rig.sql`
      select d.state, d.observed_generation = a.generation as up_to_date
      from public.deployments d join public.agents a on a.id = d.agent_id where a.id = ${id}`;
    expect(row).toEqual({ state: "running", up_to_date: true });
    expect(await rig.operation(id, "update")).toMatchObject({ state: "succeeded", attempts: 0 });
    await rig.discard(id);
  });
});
