/** kill -9 of the worker's process in the middle of all operations, on a whole stack with real processes. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { eventually } from "./support/eventually.ts";
import { ENGINES, startWorkerRig, type WorkerRig } from "./support/rig.ts";

type Engine = keyof typeof ENGINES;

let rig: WorkerRig;
beforeAll(async () => {
  rig = await startWorkerRig();
  // What a dead worker held is another's soon, and nobody but the operations calls Portainer.
  await rig.set("operations", "lease_seconds", 1);
  await rig.set("operations", "settle_seconds", 3);
  await rig.set("operations", "removal_settle_seconds", 4);
  await rig.set("operations", "backoff_base_seconds", 1);
  await rig.set("operations", "concurrency", 16);
  await rig.set("breakers", "failure_threshold", 50);
  await rig.set("collection", "concurrency", 0);
  await rig.sql`insert into public.stack_templates (user_id, name, image, port) values
    (null, 'nowhere', 'agent-launchpad/not-there:1', 3000)`;
}, 120_000);
afterAll(() => rig?.stop());

interface Case {
  /** What is asked of an agent that runs (or, where so said, is stopped); deploy is asked by creating it. */
  ask?: (id: string) => Promise<unknown>;
  stopped?: boolean;
  updated?: boolean;
  /** The operation that comes to an end, when it is another kind. */
  ends?: string;
  /** How it is in the end. */
  running: number;
  stacks: number;
  state: string | null;
}

const operations: Record<string, Case> = {
  deploy: { running: 1, stacks: 1, state: "running" },
  update: {
    ask: (id) =>
      rig.rpc("update_agent", { agent_id: id, changes: { environment: { MODE: "second" } } }),
    running: 1,
    stacks: 1,
    state: "running",
  },
  rollback: {
    updated: true,
    ask: (id) => rig.rpc("rollback_agent", { agent_id: id }),
    running: 1,
    stacks: 1,
    state: "running",
  },
  "bad update": {
    ask: (id) =>
      rig.rpc("update_agent", { agent_id: id, changes: { portainer: { template: "nowhere" } } }),
    ends: "rollback",
    running: 1,
    stacks: 1,
    state: "running",
  },
  scale: {
    ask: (id) => rig.rpc("scale_agent", { agent_id: id, replicas: 2 }),
    running: 2,
    stacks: 1,
    state: "running",
  },
  restart: {
    ask: (id) => rig.rpc("restart_agent", { agent_id: id }),
    running: 1,
    stacks: 1,
    state: "running",
  },
  stop: {
    ask: (id) => rig.rpc("stop_agent", { agent_id: id }),
    running: 0,
    stacks: 1,
    state: "stopped",
  },
  start: {
    stopped: true,
    ask: (id) => rig.rpc("start_agent", { agent_id: id }),
    running: 1,
    stacks: 1,
    state: "running",
  },
  delete: {
    ask: (id) => rig.rpc("delete_agent", { agent_id: id }),
    running: 0,
    stacks: 0,
    state: null,
  },
};
const kinds = Object.keys(operations);

/** All but the claim on a stack's name: it is no change yet, and who dies with it keeps others off for a while. */
const path = "^/api/(?!endpoints/\\d+/docker/(?:volumes|configs)/)";
const changes = (fault: { kind: string; ms?: number }) =>
  ["POST", "PUT", "DELETE"].map((method) => ({ method, path, times: 0, fault }));
const reads = { method: "GET", path, times: 0, fault: { kind: "delay", ms: 2500 } };
const allOf = async (count: () => Promise<number>) =>
  await eventually(async () => await count() >= kinds.length, {
    what: "a call of every operation",
    withinMs: 30_000,
  });
const changing = async () =>
  await rig.hits("POST") + await rig.hits("PUT") + await rig.hits("DELETE");

/** Brings every operation to the moment in which the worker is to die. */
const moments: Record<string, (ask: () => Promise<unknown>) => Promise<void>> = {
  "while it looks at the state": async (ask) => {
    await rig.order(reads);
    await ask();
    await allOf(() => rig.hits("GET"));
  },
  "before its change takes effect": async (ask) => {
    await rig.order(...changes({ kind: "delay", ms: 2500 }));
    await ask();
    await allOf(changing);
  },
  "after its change took effect": async (ask) => {
    await rig.order(...changes({ kind: "mute" }));
    await ask();
    await allOf(changing);
  },
  "while it waits for the outcome": async (ask) => {
    await rig.order(...changes({ kind: "delay", ms: 1000 }));
    await ask();
    await allOf(changing);
    await rig.order(reads);
    await allOf(() => rig.hits("GET"));
  },
};

describe.each(Object.keys(ENGINES) as Engine[])("on %s", (engine) => {
  describe.each(Object.keys(moments))("a worker killed %s", (moment) => {
    const agents = new Map<string, string>();

    beforeAll(async () => {
      await Promise.all(
        kinds.filter((kind) => kind !== "deploy").map(async (kind) => {
          const id = await rig.createAgent(engine);
          agents.set(kind, id);
          expect(await rig.finished(id, "deploy", 60_000)).toMatchObject({ state: "succeeded" });
          if (operations[kind]!.updated) {
            await operations.update!.ask!(id);
            expect(await rig.finished(id, "update")).toMatchObject({ state: "succeeded" });
          }
          if (operations[kind]!.stopped) {
            await rig.rpc("stop_agent", { agent_id: id });
            expect(await rig.finished(id, "stop")).toMatchObject({ state: "succeeded" });
          }
        }),
      );
      await moments[moment]!(() =>
        Promise.all(kinds.map(async (kind) => {
          const { ask } = operations[kind]!;
          if (ask === undefined) agents.set(kind, await rig.createAgent(engine));
          else await ask(agents.get(kind)!);
        }))
      );
      await rig.killWorker();
      await rig.clearFaults();
    }, 240_000);

    afterAll(async () => {
      await rig.clearFaults();
      await Promise.all([...agents.values()].map((id) => rig.discard(id)));
    });

    it.each(kinds)("leaves a %s that the next one finishes, with no stack twice", async (kind) => {
      const id = agents.get(kind)!;
      const { running, stacks, state, ends = kind } = operations[kind]!;
      expect(await rig.finished(id, ends, 60_000)).toMatchObject({ state: "succeeded" });
      expect(await rig.stacksOf(id)).toHaveLength(stacks);
      await eventually(async () => (await rig.runningContainers(id)).length === running, {
        what: `${running} running containers`,
      });
      const [deployment] = await rig
        .sql`select state from public.deployments where agent_id = ${id}`;
      expect(deployment?.state ?? null).toBe(state);
    }, 90_000);
  });
});
