/** Going back to an earlier revision, on request and by itself, as the worker carries it out. */
import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import { OrchestratorError } from "../../shared/orchestrators/errors.ts";
import type { WorkloadState } from "../../shared/orchestrators/types.ts";
import { createWorkerBed, type WorkerBed } from "./support/bed.ts";
import { upstreamErrors } from "./support/scripted-orchestrator.ts";

let bed: WorkerBed;
beforeAll(async () => {
  bed = await createWorkerBed();
});
beforeEach(() => {
  bed.cluster.workloads.clear();
  bed.cluster.calls.length = 0;
  bed.cluster.ready = true;
  bed.clusters.clear();
});

async function runningAgent(spec: Record<string, unknown> = {}): Promise<string> {
  const id = await bed.createAgent({ environment: { MODE: "good" }, ...spec });
  await bed.run();
  return id;
}

const update = (id: string, changes: Record<string, unknown> = { environment: { MODE: "bad" } }) =>
  bed.rpc("update_agent", { agent_id: id, changes });

async function stackOf(id: string) {
  const { stack_name: name } = await bed.deployment(id);
  return bed.cluster.workloads.get(name as string)!;
}

async function operationsOf(id: string): Promise<string[]> {
  const rows = await bed.sql<{ kind: string; state: string }[]>`
    select kind, state from public.operations where agent_id = ${id} order by created_at
  `;
  return rows.map(({ kind, state }) => `${kind} ${state}`);
}

const unhealthy = {
  status: "failed",
  failure: {
    code: "CONTAINER_UNHEALTHY",
    message: "The container fails its health check.",
    details: { reason: "unhealthy" },
  },
} as const;

/** From now on containers with this value in their environment never come up. */
function refuse(value: string, how: Partial<WorkloadState> = unhealthy): void {
  bed.clusters.set(bed.clusterId, {
    ...bed.cluster,
    inspect: async (ref, signal) => {
      const state = await bed.cluster.inspect(ref, signal);
      return state && bed.cluster.workloads.get(ref.name)?.spec.environment.MODE === value
        ? { ...state, ready: 0, settled: false, ...how }
        : state;
    },
  });
}

describe("on request", () => {
  it("the containers run with the environment and the replicas of then", async () => {
    const id = await runningAgent({ replicas: 2 });
    await update(id, { environment: { MODE: "newer" }, replicas: 3 });
    await bed.run();
    await bed.rpc("rollback_agent", { agent_id: id });
    await bed.run();
    const operation = await bed.operation(id);
    expect(operation).toMatchObject({
      kind: "rollback",
      state: "succeeded",
      result: { revision: 3, restored_from: 1 },
    });
    expect(operation.steps.map((step) => [step.name, step.status])).toEqual([
      ["validate_configuration", "completed"],
      ["create_container_template", "completed"],
      ["update_containers", "completed"],
      ["verify_health", "completed"],
    ]);
    const { spec, containers } = await stackOf(id);
    expect(spec).toMatchObject({ replicas: 2, environment: { MODE: "good" } });
    expect(containers).toHaveLength(2);
    expect(await bed.deployment(id)).toMatchObject({ state: "running", revision: 3 });
  });

  it("a stack that is gone is made again", async () => {
    const id = await runningAgent();
    await update(id, { environment: { MODE: "newer" } });
    await bed.run();
    bed.cluster.workloads.clear();
    await bed.rpc("rollback_agent", { agent_id: id });
    await bed.run();
    expect((await stackOf(id)).spec.environment.MODE).toBe("good");
  });

  it("containers that were stopped behind our back run again", async () => {
    const id = await runningAgent();
    await update(id, { environment: { MODE: "newer" } });
    await bed.run();
    (await stackOf(id)).active = false;
    await bed.rpc("rollback_agent", { agent_id: id });
    await bed.run();
    expect(await stackOf(id)).toMatchObject({ active: true });
    expect((await bed.operation(id)).state).toBe("succeeded");
  });
});

describe("by itself", () => {
  it("an update whose containers do not become healthy is taken back", async () => {
    const id = await runningAgent();
    refuse("bad");
    await update(id);
    await bed.run();
    expect(await operationsOf(id)).toEqual([
      "deploy succeeded",
      "update failed",
      "rollback succeeded",
    ]);
    expect((await stackOf(id)).spec.environment.MODE).toBe("good");
    expect(await bed.deployment(id)).toMatchObject({
      state: "running",
      revision: 3,
      error: { code: "CONTAINER_UNHEALTHY", rolled_back: true },
    });
  });

  it("so is one that the cluster refuses", async () => {
    const id = await runningAgent();
    bed.cluster.fail("update", { error: upstreamErrors.refused() });
    await update(id);
    await bed.run();
    expect(await operationsOf(id)).toEqual([
      "deploy succeeded",
      "update failed",
      "rollback succeeded",
    ]);
    expect((await stackOf(id)).spec.environment.MODE).toBe("good");
  });

  it("so is one that is not up by its deadline", async () => {
    const id = await runningAgent();
    refuse("bad", { status: "deploying" });
    await bed.set("operations", "deadline_seconds", 0.001);
    await update(id);
    await bed.run();
    await bed.set("operations", "deadline_seconds", 900);
    expect(await operationsOf(id)).toEqual([
      "deploy succeeded",
      "update failed",
      "rollback succeeded",
    ]);
    expect((await stackOf(id)).spec.environment.MODE).toBe("good");
  });

  it("one that the cluster did not answer stays, and is rolled out when it is retried", async () => {
    const id = await runningAgent();
    await bed.set("operations", "max_attempts", 1);
    bed.cluster.fail("update", { error: upstreamErrors.down() });
    await update(id);
    await bed.run();
    await bed.set("operations", "max_attempts", 5);
    expect(await operationsOf(id)).toEqual(["deploy succeeded", "update failed"]);
    expect(await bed.deployment(id)).toMatchObject({ state: "failed", revision: 1 });
    await update(id, { environment: { MODE: "better" } });
    await bed.run();
    expect((await stackOf(id)).spec.environment.MODE).toBe("better");
  });

  it("a Swarm that takes it back has given its verdict, and is brought to what the agent is again", async () => {
    const id = await runningAgent();
    const { revision: before } = await stackOf(id);
    refuse("bad", {
      status: "active",
      revision: before,
      failure: {
        code: "DEPLOYMENT_FAILED",
        message: "The new revision did not become healthy and was rolled back.",
        details: { reason: "rolled_back" },
      },
    });
    await update(id);
    await bed.run();
    expect(await operationsOf(id)).toEqual([
      "deploy succeeded",
      "update failed",
      "rollback succeeded",
    ]);
    const [row] = await bed.sql`select generation::int from public.agents where id = ${id}`;
    expect(await stackOf(id)).toMatchObject({
      revision: row!.generation,
      spec: { environment: { MODE: "good" } },
    });
  });

  it("going back that fails is given up once and for all", async () => {
    const id = await runningAgent();
    refuse("bad");
    bed.cluster.fail("update", {}, { error: upstreamErrors.refused() });
    await update(id);
    await bed.run();
    await bed.passTime();
    await bed.run();
    expect(await operationsOf(id)).toEqual([
      "deploy succeeded",
      "update failed",
      "rollback failed",
    ]);
    expect(await bed.deployment(id)).toMatchObject({ state: "failed" });
  });

  it("a call of the failed update that may still be at work is waited for", async () => {
    const id = await runningAgent();
    await update(id);
    // What an update leaves whose last attempt ended while its call was under way.
    await bed.run();
    await bed.sql`
      update public.operations set state = 'failed', steps = jsonb_set(steps, '{2,detail}', ${
      bed.sql.json({ call: "update", called_at: new Date().toISOString(), returned: false })
    }) where agent_id = ${id} and kind = 'update'`;
    await bed.rpc("rollback_agent", { agent_id: id });
    bed.cluster.calls.length = 0;
    await bed.run();
    expect(bed.cluster.calls).not.toContain("update");
    expect((await bed.operation(id)).steps[2]!.detail).toMatchObject({
      waiting_for: "a change that was cut off",
    });
    await bed.sql`
      update public.operations set steps = jsonb_set(steps, '{2,detail,called_at}', to_jsonb(now() - interval '1 hour'))
      where agent_id = ${id} and kind = 'update'`;
    await bed.passTime();
    await bed.run();
    expect((await stackOf(id)).spec.environment.MODE).toBe("good");
  });

  it("what is tried again after a fault that passes is tried with what was put back", async () => {
    const id = await runningAgent();
    refuse("bad");
    bed.cluster.fail("update", {}, { works: true, error: upstreamErrors.timedOut() });
    await update(id);
    await bed.run();
    expect(await bed.operation(id)).toMatchObject({
      kind: "rollback",
      state: "running",
      attempts: 1,
    });
    await bed.passTime();
    await bed.run();
    expect(await bed.operation(id)).toMatchObject({ kind: "rollback", state: "succeeded" });
    expect((await stackOf(id)).spec.environment.MODE).toBe("good");
  });

  it("no value of either environment is in a log, a revision or an error", async () => {
    const id = await runningAgent({ environment: { MODE: "good", TOKEN: "token-of-before" } });
    bed.cluster.fail("update", {
      error: new OrchestratorError("DEPLOYMENT_FAILED", "refused token-of-after", {
        details: { said: "token-of-after" },
      }),
    });
    await update(id, { environment: { TOKEN: "token-of-after" } });
    await bed.run();
    const rows = await bed.sql`
      select to_jsonb(r)::text as text from public.agent_revisions r where agent_id = ${id}
      union all select to_jsonb(o)::text from public.operations o where agent_id = ${id}
      union all select to_jsonb(e)::text from public.agent_events e where agent_id = ${id}
      union all select to_jsonb(d)::text from public.deployments d where agent_id = ${id}`;
    expect(rows.map((row) => row.text).join() + bed.log.join()).not.toMatch(/token-of-/);
    expect((await stackOf(id)).spec.environment.TOKEN).toBe("token-of-before");
  });
});

describe("what a deployment is checked by", () => {
  it.each([
    ["nothing said", undefined, { intervalSeconds: 30, timeoutSeconds: 10, retries: 3 }],
    ["all said", { enabled: true, interval: "1m", timeout: "20s", retries: 5 }, {
      intervalSeconds: 60,
      timeoutSeconds: 20,
      retries: 5,
    }],
    ["a short interval alone", { interval: "5s" }, {
      intervalSeconds: 5,
      timeoutSeconds: 5,
      retries: 3,
    }],
  ])("%s", async (_, health_checks, expected) => {
    const id = await runningAgent({ portainer: { health_checks } });
    expect((await stackOf(id)).spec.healthCheck).toMatchObject(expected);
  });

  it("not at all when that was asked for", async () => {
    const id = await runningAgent({ portainer: { health_checks: { enabled: false } } });
    expect((await stackOf(id)).spec.healthCheck).toBeNull();
  });

  it.each(["rolling", "recreate", "blue-green"])(
    "strategy %s reaches the cluster",
    async (strategy) => {
      const id = await runningAgent({ portainer: { deployment_strategy: strategy } });
      await update(id);
      await bed.run();
      expect((await stackOf(id)).spec.strategy).toBe(strategy);
    },
  );
});
