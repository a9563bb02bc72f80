/** kill -9 of the worker's process in the middle of all operations, on a whole stack with real processes. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { eventually } from "./support/eventually.ts";
import { bringToMoment, MOMENTS } from "./support/moments.ts";
import {
  type Engine,
  ENGINES,
  expectDeaths,
  startWorkerRig,
  type WorkerRig,
} from "./support/rig.ts";

let rig: WorkerRig;
beforeAll(async () => {
  rig = await startWorkerRig();
  await expectDeaths(rig);
  await rig.sql`insert into public.stack_templates (user_id, name, image, port) values
    (null, 'nowhere', 'agent-launchpad/not-there:1', 3000)`;
});
afterAll(() => rig?.stop());

interface Case {
  /** What is asked of an agent that runs (or, where so said, is stopped); deploy is asked by creating it. */
  ask?: (id: string) => Promise<unknown>;
  stopped?: boolean;
  updated?: boolean;
  /** The operation that comes to an end, when it is another kind. */
  ends?: string;
  /** What is special about the agent. */
  spec?: Record<string, unknown>;
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
  "blue-green update": {
    ends: "update",
    spec: {
      portainer: { deployment_strategy: "blue-green", health_checks: { enabled: false } },
    },
    ask: (id) =>
      rig.rpc("update_agent", { agent_id: id, changes: { environment: { MODE: "second" } } }),
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

describe.each(Object.keys(ENGINES) as Engine[])("on %s", (engine) => {
  describe.each(MOMENTS)("a worker killed %s", (moment) => {
    const agents = new Map<string, string>();

    beforeAll(async () => {
      await Promise.all(
        kinds.filter((kind) => kind !== "deploy").map(async (kind) => {
          const id = await rig.createAgent(engine, operations[kind]!.spec);
          agents.set(kind, id);
          expect(await rig.finished(id, "deploy")).toMatchObject({
            state: "succeeded",
            error: null,
          });
          if (operations[kind]!.updated) {
            await operations.update!.ask!(id);
            expect(await rig.finished(id, "update")).toMatchObject({
              state: "succeeded",
              error: null,
            });
          }
          if (operations[kind]!.stopped) {
            await rig.rpc("stop_agent", { agent_id: id });
            expect(await rig.finished(id, "stop")).toMatchObject({
              state: "succeeded",
              error: null,
            });
          }
        }),
      );
      await bringToMoment(rig, moment, kinds.length, () =>
        Promise.all(kinds.map(async (kind) => {
          const { ask } = operations[kind]!;
          if (ask === undefined) agents.set(kind, await rig.createAgent(engine));
          else await ask(agents.get(kind)!);
        })));
      await rig.killWorker();
      await rig.clearFaults();
    });

    afterAll(async () => {
      await rig.clearFaults();
      await Promise.all([...agents.values()].map((id) => rig.discard(id)));
    });

    it.each(kinds)("leaves a %s that the next one finishes, with no stack twice", async (kind) => {
      const id = agents.get(kind)!;
      const { running, stacks, state, ends = kind } = operations[kind]!;
      expect(await rig.finished(id, ends)).toMatchObject({ state: "succeeded", error: null });
      expect(await rig.stacksOf(id)).toHaveLength(stacks);
      await eventually(async () => (await rig.runningContainers(id)).length === running, {
        what: `${running} running containers`,
      });
      const [deployment] = await rig
        .sql`select state from public.deployments where agent_id = ${id}`;
      expect(deployment?.state ?? null).toBe(state);
    });
  });
});
