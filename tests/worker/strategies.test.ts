import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { OrchestratorError } from "../../shared/orchestrators/errors.ts";
import { createWorkerBed, type WorkerBed } from "./support/bed.ts";

let bed: WorkerBed;
beforeAll(async () => {
  bed = await createWorkerBed();
  await bed.set("operations", "settle_seconds", 0.001);
});
beforeEach(() => {
  bed.cluster.workloads.clear();
  bed.cluster.calls.length = 0;
  bed.cluster.ready = true;
});

async function blueGreenAgent(): Promise<string> {
  const id = await bed.createAgent({
    replicas: 2,
    portainer: { deployment_strategy: "blue-green" },
  });
  await bed.run();
  expect((await bed.operation(id)).state).toBe("succeeded");
  bed.cluster.calls.length = 0;
  return id;
}

const change = (id: string, mode: string) =>
  bed.rpc("update_agent", { agent_id: id, changes: { environment: { MODE: mode } } });

async function stackOf(id: string) {
  const { stack_name: name } = await bed.deployment(id);
  return bed.cluster.workloads.get(name as string)!;
}

const changesMade = () => bed.cluster.calls.filter((call) => call !== "inspect");

describe("a blue-green update", () => {
  it("lets the new replicas take over when all of them are ready, and not before", async () => {
    const id = await blueGreenAgent();
    const old = (await stackOf(id)).containers;
    await change(id, "second");
    bed.cluster.ready = false;
    await bed.run();
    await bed.passTime();
    await bed.run();
    expect(changesMade()).toEqual(["update"]);
    expect((await stackOf(id)).containers).toEqual(old);
    expect((await bed.operation(id)).state).toBe("running");

    bed.cluster.ready = true;
    await bed.passTime();
    await bed.run();
    expect(changesMade()).toEqual(["update", "promote"]);
    expect((await stackOf(id)).spec.environment.MODE).toBe("second");
    expect((await stackOf(id)).candidate).toBeNull();
    expect(await bed.operation(id)).toMatchObject({ kind: "update", state: "succeeded" });
  });

  it("shows the agent as well as it is while the new replicas come up", async () => {
    const id = await blueGreenAgent();
    await change(id, "second");
    const { containers } = await stackOf(id);
    for (const each of containers) each.health = "healthy";
    bed.cluster.ready = false;
    await bed.run();
    expect(await bed.deployment(id)).toMatchObject({
      replicas_ready: 2,
      health: { status: "healthy" },
    });
  });

  it("is finished by the next worker when one dies while the new replicas take over", async () => {
    const id = await blueGreenAgent();
    await change(id, "second");
    bed.cluster.fail("promote", {
      error: new OrchestratorError("UPSTREAM_UNAVAILABLE", "timed out", { ambiguous: true }),
    });
    await bed.run();
    await bed.passTime();
    await bed.run();
    expect((await stackOf(id)).spec.environment.MODE).toBe("second");
    expect(await bed.operation(id)).toMatchObject({ state: "succeeded" });
  });

  it("that was given up leaves nothing behind that the next operation does not clear away", async () => {
    const id = await blueGreenAgent();
    const stack = await stackOf(id);
    const left = { ...stack.spec, revision: stack.revision + 7 };
    stack.candidate = { spec: left, containers: [] };
    await bed.rpc("restart_agent", { agent_id: id });
    await bed.run();
    expect(changesMade()).toEqual(["update", "restart"]);
    expect(stack.candidate).toBeNull();
    expect(await bed.operation(id)).toMatchObject({ kind: "restart", state: "succeeded" });
  });
});
