/** kill -9 of the worker's process in the middle of every operation on a stack, with real processes. */
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

const KINDS = ["deploy_stack", "update_stack", "delete_stack"] as const;
type Kind = (typeof KINDS)[number];

let rig: WorkerRig;
beforeAll(async () => {
  rig = await startWorkerRig();
  await expectDeaths(rig);
});
afterAll(() => rig?.stop());

async function createStack(engine: Engine): Promise<string> {
  const { stack } = await rig.rpc<{ stack: { id: string } }>("create_stack", {
    spec: {
      name: `kill-${crypto.randomUUID().slice(0, 8)}`,
      template: "eliza-agent-template",
      environment: { AGENT_NAME: "helper" },
      cluster_id: rig.clusters[engine],
    },
  });
  return stack.id;
}

const update = (id: string, environment: Record<string, string>) =>
  rig.rpc("update_stack", { stack_id: id, changes: { environment } });

/** The stack's last operation of this kind, once it is over. */
const ended = (id: string, kind: Kind) =>
  eventually(async () => {
    const [row] = await rig.sql<{ state: string }[]>`
      select state from public.operations where stack_id = ${id} and kind = ${kind} order by created_at desc limit 1
    `;
    return row && !["queued", "running"].includes(row.state) ? row.state : null;
  }, { what: `the end of ${kind}` });

const stateOf = async (id: string): Promise<string | null> => {
  const [row] = await rig.sql<
    { state: string }[]
  >`select state from public.stacks where id = ${id}`;
  return row?.state ?? null;
};

/** What is asked of a stack that runs (deploy is asked by creating it), and how it is in the end. */
const cases: Record<Kind, { running: number; stacks: number; state: string | null }> = {
  deploy_stack: { running: 1, stacks: 1, state: "running" },
  update_stack: { running: 2, stacks: 1, state: "running" },
  delete_stack: { running: 0, stacks: 0, state: null },
};

describe.each(Object.keys(ENGINES) as Engine[])("on %s", (engine) => {
  describe.each(MOMENTS)("a worker killed %s", (moment) => {
    const stacks = new Map<Kind, string>();

    beforeAll(async () => {
      for (const kind of ["update_stack", "delete_stack"] as const) {
        const id = await createStack(engine);
        stacks.set(kind, id);
        expect(await ended(id, "deploy_stack")).toBe("succeeded");
      }
      await bringToMoment(rig, moment, KINDS.length, async () => {
        stacks.set("deploy_stack", await createStack(engine));
        await update(stacks.get("update_stack")!, { REPLICAS: "2" });
        await rig.rpc("delete_stack", { stack_id: stacks.get("delete_stack")! });
      });
      await rig.killWorker();
      await rig.clearFaults();
    });

    afterAll(async () => {
      await rig.clearFaults();
      for (const id of stacks.values()) await rig.discard(id);
    });

    it.each(KINDS)("leaves a %s that the next one finishes, with no stack twice", async (kind) => {
      const id = stacks.get(kind)!;
      expect(await ended(id, kind)).toBe("succeeded");
      const { running, stacks: count, state } = cases[kind];
      expect(await rig.stacksOf(id)).toHaveLength(count);
      await eventually(async () => (await rig.runningContainers(id)).length === running, {
        what: `${running} running containers`,
      });
      expect(await stateOf(id)).toBe(state);
    });
  });
});
