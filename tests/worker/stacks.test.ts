import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { OrchestratorError } from "../../shared/orchestrators/errors.ts";
import type { Orchestrator } from "../../shared/orchestrators/types.ts";
import { createStackRounds } from "../../shared/worker/stack-rounds.ts";
import type { ScriptedOrchestrator } from "./support/scripted-orchestrator.ts";
import { createWorkerBed, type OperationRow, type WorkerBed } from "./support/bed.ts";

interface StackAnswer {
  stack: { id: string; stack_name: string };
  operation: OperationRow;
}

let bed: WorkerBed;
beforeAll(async () => {
  bed = await createWorkerBed();
});
beforeEach(() => {
  bed.cluster.workloads.clear();
  bed.cluster.calls.length = 0;
  bed.cluster.ready = true;
});

let number = 0;
async function createStack(environment: Record<string, string> = {}): Promise<StackAnswer> {
  return await bed.rpc<StackAnswer>("create_stack", {
    spec: {
      name: `stack-${++number}`,
      template: "eliza-agent-template",
      environment: { AGENT_NAME: "helper", DISCORD_TOKEN: "token-of-discord", ...environment },
      labels: { team: "ai-agents" },
    },
  });
}

const update = (id: string, environment: Record<string, string>) =>
  bed.rpc<StackAnswer>("update_stack", { stack_id: id, changes: { environment } });

async function operations(id: string): Promise<OperationRow[]> {
  return await bed.sql<OperationRow[]>`
    select * from public.operations where stack_id = ${id} order by created_at
  `;
}

async function rowOf(id: string) {
  const [row] = await bed.sql`select * from public.stacks where id = ${id}`;
  return row!;
}

async function runningStack(): Promise<StackAnswer["stack"]> {
  const { stack } = await createStack();
  await bed.run();
  expect((await rowOf(stack.id)).state).toBe("running");
  return stack;
}

const broken = () =>
  new OrchestratorError("DEPLOYMENT_FAILED", "The image does not exist.", {
    retryable: false,
    details: { reason: "image_not_found" },
  });

describe("a stack is carried out like an agent", () => {
  it("deploys the services of its template with the owner's variables", async () => {
    const { stack } = await createStack({ REPLICAS: "3" });
    await bed.run();
    const [operation] = await operations(stack.id);
    expect(operation).toMatchObject({ state: "succeeded", progress: 100, error: null });
    expect(operation!.steps.map((step) => [step.name, step.status])).toEqual([
      ["validate_configuration", "completed"],
      ["deploy_to_portainer", "completed"],
      ["verify_services", "completed"],
    ]);
    const { spec } = bed.cluster.workloads.get(stack.stack_name)!;
    expect(spec).toMatchObject({ agentId: stack.id, replicas: 3, labels: { team: "ai-agents" } });
    expect(spec.stack!.services).toMatchObject([{
      name: "eliza-agent",
      image: "elizaos/eliza:latest",
      replicas: 3,
      ports: [3000],
      environment: { AGENT_NAME: "helper", DISCORD_TOKEN: "token-of-discord", PORT: "3000" },
      networks: ["agent-network"],
      volumes: [{ name: "agent-data", target: "/app/data" }],
    }]);
    expect(spec.stack!.networks).toEqual([{ name: "agent-network", encrypted: true }]);
    expect(await rowOf(stack.id)).toMatchObject({
      state: "running",
      orchestrator: "portainer-compose",
      portainer_stack_id: expect.any(String),
    });
    expect(bed.log.join("\n")).not.toContain("token-of-discord");
  });

  it("a create that was cut off makes one stack", async () => {
    const { stack } = await createStack();
    const made = bed.cluster.created;
    bed.cluster.fail("deploy", {
      works: true,
      error: new OrchestratorError("UPSTREAM_UNAVAILABLE", "timed out", { ambiguous: true }),
    });
    await bed.run();
    await bed.passTime();
    await bed.run();
    expect(bed.cluster.created).toBe(made + 1);
    expect((await rowOf(stack.id)).state).toBe("running");
  });

  it("a fault that passes is tried again", async () => {
    const { stack } = await createStack();
    bed.cluster.fail("deploy", {
      error: new OrchestratorError("UPSTREAM_UNAVAILABLE", "away", { retryable: true }),
    });
    await bed.run();
    expect((await operations(stack.id))[0]).toMatchObject({ state: "running", attempts: 1 });
    await bed.passTime();
    await bed.run();
    expect((await rowOf(stack.id)).state).toBe("running");
  });

  it("one that cannot be deployed is a dead letter", async () => {
    const { stack } = await createStack();
    bed.cluster.fail("deploy", { error: broken() });
    await bed.run();
    expect(await rowOf(stack.id)).toMatchObject({
      state: "failed",
      error: { code: "DEPLOYMENT_FAILED", details: { reason: "image_not_found" } },
    });
    expect(await bed.sql`select 1 from public.dead_letters where stack_id = ${stack.id}`)
      .toHaveLength(1);
  });
});

describe("updating", () => {
  it("brings the services to what was asked for", async () => {
    const stack = await runningStack();
    await update(stack.id, { REPLICAS: "4", DISCORD_TOKEN: "another-token" });
    await bed.run();
    const { spec } = bed.cluster.workloads.get(stack.stack_name)!;
    expect(spec).toMatchObject({ replicas: 4, revision: 2 });
    expect(spec.stack!.services[0]!.environment.DISCORD_TOKEN).toBe("another-token");
  });

  it("goes back to the last good state when it fails", async () => {
    const stack = await runningStack();
    await update(stack.id, { REPLICAS: "4", DISCORD_TOKEN: "broken-token" });
    bed.cluster.fail("deploy", { works: true, error: broken() });
    await bed.run();
    expect((await operations(stack.id)).map(({ kind, state }) => [kind, state])).toEqual([
      ["deploy_stack", "succeeded"],
      ["update_stack", "failed"],
      ["rollback_stack", "succeeded"],
    ]);
    const { spec } = bed.cluster.workloads.get(stack.stack_name)!;
    expect(spec).toMatchObject({ replicas: 1, revision: 3 });
    expect(spec.stack!.services[0]!.environment.DISCORD_TOKEN).toBe("token-of-discord");
    expect(await rowOf(stack.id)).toMatchObject({
      state: "running",
      error: { code: "DEPLOYMENT_FAILED", rolled_back: true },
    });
  });
});

it("a Swarm that went back by itself is not sent the same file again", async () => {
  const stack = await runningStack();
  await update(stack.id, { REPLICAS: "4" });
  let sent = 0;
  const swarm: ScriptedOrchestrator = {
    ...bed.cluster,
    deploy: (spec, signal) => {
      if (spec.revision === 2) sent++;
      return bed.cluster.deploy(spec, signal);
    },
    inspect: async (ref, signal) => {
      const state = await bed.cluster.inspect(ref, signal);
      if (state?.revision !== 2) return state;
      const details = { reason: "rolled_back" };
      const failure = { code: "DEPLOYMENT_FAILED" as const, message: "Rolled back.", details };
      return { ...state, revision: 1, status: "active", settled: false, failure };
    },
  };
  bed.clusters.set(bed.clusterId, swarm);
  try {
    for (let pass = 0; pass < 3; pass++) {
      await bed.run();
      await bed.passTime();
    }
  } finally {
    bed.clusters.delete(bed.clusterId);
  }
  expect(sent).toBe(1);
  expect(await rowOf(stack.id)).toMatchObject({
    state: "running",
    replicas: 1,
    error: { rolled_back: true, details: { reason: "rolled_back" } },
  });
});

describe("looking at what runs", () => {
  const lookAround = (orchestrator: Orchestrator = bed.cluster) =>
    createStackRounds({
      sql: bed.sql,
      orchestratorFor: () => orchestrator,
      log: (level, message, fields) => bed.log.push(JSON.stringify({ level, message, ...fields })),
    })();
  const due = () => bed.sql`delete from private.stack_looks`;

  it("shows what a service has lost since it was deployed", async () => {
    const stack = await runningStack();
    const seen = await bed.cluster.inspect(
      { agentId: stack.id, name: stack.stack_name, stackId: null, namespace: null },
      new AbortController().signal,
    );
    await due();
    await lookAround({
      ...bed.cluster,
      inspect: (ref) =>
        Promise.resolve({
          ...seen!,
          ref,
          services: [{
            id: "s",
            name: `${ref.name}_eliza-agent`,
            image: "elizaos/eliza:latest",
            replicas: { running: 0, desired: 1 },
            ports: [],
          }],
          networks: [{ name: "n", driver: "overlay", encrypted: true }],
          volumes: [],
        }),
    });
    expect(await rowOf(stack.id)).toMatchObject({
      state: "running",
      services: [{ replicas: { running: 0, desired: 1 } }],
      networks: [{ name: "n", encrypted: true }],
    });
  });

  it("counts its containers and what they use among those of the owner and of all", async () => {
    const figures = () =>
      bed.rpc<{ containers: { running: number }; memory: { used: number | null } }>(
        "system_metrics",
        {},
      );
    const stack = await runningStack();
    await due();
    const before = await figures();
    await lookAround();
    const after = await figures();
    const [measured] = await bed.sql`
      select containers, metrics from private.stack_looks where stack_id = ${stack.id}`;
    expect(measured).toMatchObject({
      containers: [{ status: "running" }],
      metrics: { cpu_usage: expect.any(Number), memory_usage: expect.any(Number) },
    });
    expect(after.containers.running).toBeGreaterThan(before.containers.running);
    expect(after.memory.used).toBeGreaterThan(before.memory.used ?? 0);
    await bed.rpc("delete_stack", { stack_id: stack.id });
    await bed.run();
    expect((await figures()).containers.running).toBe(after.containers.running - 1);
  });

  it("one that somebody removed is failed, and an update without a difference brings it back", async () => {
    const stack = await runningStack();
    bed.cluster.workloads.clear();
    await due();
    await lookAround();
    expect(await rowOf(stack.id)).toMatchObject({
      state: "failed",
      error: { details: { reason: "workload_missing" } },
    });
    await update(stack.id, {});
    await bed.run();
    expect(bed.cluster.workloads.has(stack.stack_name)).toBe(true);
    expect(await rowOf(stack.id)).toMatchObject({ state: "running", error: null });
  });

  it("a cluster that does not answer changes nothing, and is not asked while its breaker is open", async () => {
    const stack = await runningStack();
    await due();
    bed.cluster.fail("inspect", { error: broken() });
    await lookAround();
    expect((await rowOf(stack.id)).state).toBe("running");
    await due();
    await bed
      .sql`insert into public.circuit_breakers (name, state) values (${`cluster:${bed.clusterId}`}, 'open')
      on conflict (name) do update set state = 'open'`;
    try {
      bed.cluster.calls.length = 0;
      await lookAround();
      expect(bed.cluster.calls).toEqual([]);
    } finally {
      await bed.sql`delete from public.circuit_breakers`;
    }
  });
});

describe("deleting", () => {
  it("removes the services and then the row", async () => {
    const stack = await runningStack();
    await bed.rpc("delete_stack", { stack_id: stack.id });
    await bed.run();
    expect(bed.cluster.workloads.has(stack.stack_name)).toBe(false);
    expect(await bed.sql`select 1 from public.stacks where id = ${stack.id}`).toHaveLength(0);
    expect((await operations(stack.id)).at(-1)).toMatchObject({
      kind: "delete_stack",
      state: "succeeded",
    });
  });

  it("removes what runs also when the owner's account is gone", async () => {
    const stack = await runningStack();
    await bed.sql`delete from public.stacks where id = ${stack.id}`;
    await bed.run();
    expect(bed.cluster.workloads.has(stack.stack_name)).toBe(false);
  });
});
