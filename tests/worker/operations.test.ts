import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { createWorkerBed, type WorkerBed } from "./support/bed.ts";

let bed: WorkerBed;
beforeAll(async () => {
  bed = await createWorkerBed();
});
beforeEach(() => {
  bed.cluster.workloads.clear();
  bed.cluster.ready = true;
});

async function runningAgent(spec: Record<string, unknown> = {}): Promise<string> {
  const id = await bed.createAgent(spec);
  await bed.run();
  expect((await bed.operation(id)).state).toBe("succeeded");
  return id;
}

async function stackOf(id: string) {
  const { stack_name: name } = await bed.deployment(id);
  return bed.cluster.workloads.get(name as string)!;
}

describe("an operation is carried out to its end", () => {
  it("deploy makes the stack and reports each documented step", async () => {
    const id = await bed.createAgent({
      replicas: 3,
      environment: { DISCORD_TOKEN: "token-of-discord" },
    });
    await bed.run();
    const operation = await bed.operation(id);
    expect(operation).toMatchObject({ state: "succeeded", progress: 100, error: null });
    expect(operation.steps.map((step) => [step.name, step.status])).toEqual([
      ["validate_configuration", "completed"],
      ["create_container_template", "completed"],
      ["deploy_to_portainer", "completed"],
      ["setup_monitoring", "completed"],
    ]);
    const stack = await stackOf(id);
    expect(stack.spec.environment).toMatchObject({
      DISCORD_TOKEN: "token-of-discord",
      AGENT_ID: id,
    });
    expect(await bed.deployment(id)).toMatchObject({
      state: "running",
      stack_id: stack.ref.stackId,
      orchestrator: "portainer-compose",
      replicas_ready: 3,
    });
  });

  it("a scaling policy that Kubernetes has to know is scaled, not rolled out", async () => {
    const id = await bed.createAgent({ replicas: 2 });
    await bed.run();
    for (
      const [name, args] of [
        ["update_agent", { changes: { scaling: { targetCPU: 70 } } }],
        ["scale_agent", { replicas: 2, scaling_policy: { maxReplicas: 4 } }],
      ] as const
    ) {
      await bed
        .sql`update public.deployments set orchestrator = 'kubernetes' where agent_id = ${id}`;
      bed.cluster.calls.length = 0;
      await bed.rpc(name, { agent_id: id, ...args });
      await bed.run();
      expect(bed.cluster.calls).toContain("scale");
      expect(bed.cluster.calls).not.toContain("update");
    }
    const { stack_name: name } = await bed.deployment(id);
    expect(bed.cluster.workloads.get(String(name))!.spec.scaling).toEqual({
      minReplicas: 1,
      maxReplicas: 4,
      targetCpu: 70,
      targetMemory: null,
    });
  });

  it("scale changes the number of containers and restarts none", async () => {
    const id = await runningAgent({ replicas: 2 });
    const before = (await stackOf(id)).containers.map((each) => each.id);
    await bed.rpc("scale_agent", { agent_id: id, replicas: 5 });
    await bed.run();
    const after = (await stackOf(id)).containers.map((each) => each.id);
    expect(after).toHaveLength(5);
    expect(after.slice(0, 2)).toEqual(before);
    expect(await bed.deployment(id)).toMatchObject({ state: "running", replicas_ready: 5 });
  });

  it("restart replaces every container once", async () => {
    const id = await runningAgent({ replicas: 2 });
    const before = (await stackOf(id)).containers.map((each) => each.id);
    await bed.rpc("restart_agent", { agent_id: id });
    await bed.run();
    const after = (await stackOf(id)).containers.map((each) => each.id);
    expect(after.filter((each) => before.includes(each))).toEqual([]);
    expect((await stackOf(id)).restarted.size).toBe(1);
  });

  it("update brings the agent's new environment to the containers", async () => {
    const id = await runningAgent();
    await bed.rpc("update_agent", { agent_id: id, changes: { environment: { MODE: "second" } } });
    await bed.run();
    expect((await stackOf(id)).spec.environment.MODE).toBe("second");
    expect(await bed.operation(id)).toMatchObject({ kind: "update", state: "succeeded" });
  });

  it("stop and start keep the stack", async () => {
    const id = await runningAgent();
    const { stackId } = (await stackOf(id)).ref;
    await bed.rpc("stop_agent", { agent_id: id });
    await bed.run();
    expect(await bed.deployment(id)).toMatchObject({ state: "stopped", replicas_ready: 0 });
    await bed.rpc("start_agent", { agent_id: id });
    await bed.run();
    expect(await bed.deployment(id)).toMatchObject({ state: "running", stack_id: stackId });
  });

  it("delete leaves no stack", async () => {
    const id = await runningAgent();
    await bed.rpc("delete_agent", { agent_id: id });
    await bed.run();
    expect(bed.cluster.workloads.size).toBe(0);
    expect(await bed.operation(id)).toMatchObject({ kind: "delete", state: "succeeded" });
  });

  it("a change made while an operation is under way is rolled out after it", async () => {
    const id = await bed.createAgent();
    bed.cluster.ready = false;
    await bed.run();
    await bed.sql`update public.agents set system_prompt = 'changed meanwhile' where id = ${id}`;
    bed.cluster.ready = true;
    await bed.passTime();
    await bed.run();
    expect((await stackOf(id)).spec.environment.AGENT_SYSTEM_PROMPT).toBe("changed meanwhile");
    expect(await bed.operation(id)).toMatchObject({ state: "succeeded" });
  });

  it("a change made after the containers were updated is brought to them before the update ends", async () => {
    const id = await runningAgent();
    bed.cluster.ready = false;
    await bed.rpc("update_agent", { agent_id: id, changes: { environment: { MODE: "second" } } });
    await bed.run();
    expect((await stackOf(id)).spec.environment.MODE).toBe("second");
    await bed.sql`update public.agents set system_prompt = 'changed since' where id = ${id}`;
    bed.cluster.ready = true;
    await bed.passTime();
    await bed.run();
    expect((await stackOf(id)).spec.environment.AGENT_SYSTEM_PROMPT).toBe("changed since");
    const [deployment] = await bed.sql`
      select d.observed_generation = a.generation as current
      from public.deployments d join public.agents a on a.id = d.agent_id where a.id = ${id}
    `;
    expect(deployment).toMatchObject({ current: true });
  });

  it("waiting for containers costs no attempt", async () => {
    bed.cluster.ready = false;
    const id = await bed.createAgent();
    for (let poll = 0; poll < 8; poll++) {
      await bed.run();
      await bed.passTime();
    }
    expect(await bed.operation(id)).toMatchObject({ state: "running", attempts: 0 });
    bed.cluster.ready = true;
    await bed.run();
    expect((await bed.operation(id)).state).toBe("succeeded");
  });
});
