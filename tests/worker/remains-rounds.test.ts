/** The second set of replicas of an update that was given up goes by itself. */
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { OrchestratorError } from "../../shared/orchestrators/errors.ts";
import { createRemainsRounds } from "../../shared/worker/remains-rounds.ts";
import { createWorkerBed, type WorkerBed } from "./support/bed.ts";
import { eventually } from "./support/eventually.ts";
import { upstreamErrors } from "./support/scripted-orchestrator.ts";

let bed: WorkerBed;
beforeAll(async () => {
  bed = await createWorkerBed();
  await bed.set("breakers", "failure_threshold", 100);
});
beforeEach(async () => {
  bed.cluster.workloads.clear();
  bed.cluster.calls.length = 0;
  bed.cluster.ready = true;
  await bed.sql`delete from private.rollout_remains`;
});

/** One worker's rounds; another worker has its own. */
const rounds = () =>
  createRemainsRounds({ sql: bed.sql, orchestratorFor: () => bed.cluster, log: () => {} });

/** As the cluster answers whose key was taken back: nothing that the last good revision would help against. */
const lockedOut = () =>
  new OrchestratorError("UPSTREAM_UNAVAILABLE", "Portainer lets nobody in", {
    retryable: false,
    details: { reason: "unauthorized" },
  });

/** An agent whose update was given up while its new replicas came up beside the old ones. */
async function givenUpAgent(): Promise<string> {
  const id = await bed.createAgent({
    replicas: 2,
    portainer: { deployment_strategy: "blue-green" },
  });
  await bed.run();
  bed.cluster.ready = false;
  await bed.rpc("update_agent", { agent_id: id, changes: { environment: { MODE: "second" } } });
  await bed.run();
  expect((await stackOf(id)).candidate).not.toBeNull();
  bed.cluster.fail("inspect", { error: lockedOut() });
  await bed.passTime();
  await bed.run();
  expect(await bed.operation(id)).toMatchObject({ kind: "update", state: "failed" });
  expect((await stackOf(id)).candidate).not.toBeNull();
  bed.cluster.calls.length = 0;
  bed.cluster.ready = true;
  return id;
}

async function stackOf(id: string) {
  const { stack_name: name } = await bed.deployment(id);
  return bed.cluster.workloads.get(name as string)!;
}

const left = () => bed.sql`select * from private.rollout_remains`;
const dueNow = () =>
  bed.sql`update private.rollout_remains set run_after = now() - interval '1 ms'`;

describe("an update that was given up with nothing to follow it", () => {
  it("leaves replicas that are taken away, and those that are reached alone", async () => {
    const id = await givenUpAgent();
    const { containers, revision } = await stackOf(id);
    await rounds()();
    expect(await stackOf(id)).toMatchObject({ candidate: null, containers, revision });
    expect(bed.cluster.calls).toEqual(["abandon"]);
    expect(await left()).toEqual([]);
    expect(await bed.operation(id)).toMatchObject({ kind: "update", state: "failed" });
  });

  it("is looked for until the cluster answers", async () => {
    const id = await givenUpAgent();
    bed.cluster.fail("abandon", { error: upstreamErrors.down() });
    await rounds()();
    expect(await left()).toMatchObject([{ agent_id: id, attempts: 1, lease_token: null }]);
    await dueNow();
    await rounds()();
    expect((await stackOf(id)).candidate).toBeNull();
    expect(await left()).toEqual([]);
  });

  it("is taken up by another worker when one dies over it", async () => {
    const id = await givenUpAgent();
    let release = () => {};
    bed.cluster.fail("abandon", {
      until: new Promise<void>((resolve) => release = resolve),
      error: upstreamErrors.down(),
    });
    const dead = rounds()();
    await eventually(() => bed.cluster.calls.includes("abandon"));
    await rounds()();
    expect(bed.cluster.calls).toEqual(["abandon"]);
    await dueNow();
    await rounds()();
    expect((await stackOf(id)).candidate).toBeNull();
    release();
    await dead;
    expect(await left()).toEqual([]);
  });

  it("is left to the operation that came first", async () => {
    const id = await givenUpAgent();
    await bed.rpc("restart_agent", { agent_id: id });
    await rounds()();
    expect(bed.cluster.calls).toEqual([]);
    await bed.run();
    expect((await stackOf(id)).candidate).toBeNull();
    expect(await bed.operation(id)).toMatchObject({ kind: "restart", state: "succeeded" });
  });

  it.each(
    [
      ["restart_agent", "restart"],
      ["delete_agent", "delete"],
      ["update_agent", "update"],
    ] as const,
  )("is not touched by two: %s begins when it is over", async (command, kind) => {
    const id = await givenUpAgent();
    let release = () => {};
    bed.cluster.fail("abandon", { until: new Promise<void>((resolve) => release = resolve) });
    const clearing = rounds()();
    await eventually(() => bed.cluster.calls.includes("abandon"));
    const changes = { environment: { MODE: "third" } };
    await bed.rpc(command, { agent_id: id, ...(kind === "update" ? { changes } : {}) });
    await bed.run();
    expect(bed.cluster.calls).toEqual(["abandon"]);
    expect(await bed.operation(id)).toMatchObject({ kind, state: "queued" });
    release();
    await clearing;
    await bed.run();
    expect(await bed.operation(id)).toMatchObject({ kind, state: "succeeded" });
  });
});

it("an update that is gone back from leaves that to the way back", async () => {
  const id = await bed.createAgent({ portainer: { deployment_strategy: "blue-green" } });
  await bed.run();
  await bed.rpc("update_agent", { agent_id: id, changes: { environment: { MODE: "second" } } });
  bed.cluster.fail("update", { works: true, error: upstreamErrors.refused() });
  await bed.run();
  await bed.passTime();
  await bed.run();
  expect(await bed.operation(id)).toMatchObject({ kind: "rollback", state: "succeeded" });
  expect((await stackOf(id)).candidate).toBeNull();
  expect(await left()).toEqual([]);
});
