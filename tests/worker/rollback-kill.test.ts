/** kill -9 of the worker's process in the middle of going back by itself, of agents and stacks, with real processes. */
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
  await rig.set("operations", "unhealthy_seconds", 3);
  await rig.set("collection", "stack_seconds", 3600);
  await rig.sql`insert into public.stack_templates (user_id, name, image, port) values
    (null, 'nowhere', 'agent-launchpad/not-there:1', 3000)`;
  // Ways back wait until the test lets them begin.
  await rig.sql.unsafe(`
    create function private.hold_back() returns trigger language plpgsql as $$
    begin
      if (select o.kind from public.operations o where o.id = new.operation_id) in ('rollback', 'rollback_stack') then
        new.run_after := 'infinity';
      end if;
      return new;
    end $$;
    create trigger hold_back before insert on private.operation_queue for each row execute function private.hold_back();
  `);
});
afterAll(() => rig?.stop());

const letBegin = async () => {
  await rig.sql`update private.operation_queue set run_after = now() where run_after = 'infinity'`;
  await rig.sql`select private.wake_worker()`;
};

interface Case {
  create(engine: Engine): Promise<string>;
  breakIt(id: string): Promise<unknown>;
  kinds: { create: string; change: string; back: string };
}

const broken = { portainer: { template: "nowhere" } };
const agent = (spec: Record<string, unknown> = {}): Case => ({
  create: (engine) => rig.createAgent(engine, spec),
  breakIt: (id) => rig.rpc("update_agent", { agent_id: id, changes: broken }),
  kinds: { create: "deploy", change: "update", back: "rollback" },
});

const cases: Record<string, Case> = {
  agent: agent(),
  "blue-green agent": agent({
    portainer: { deployment_strategy: "blue-green", health_checks: { enabled: false } },
  }),
  stack: {
    create: async (engine) => {
      const { stack } = await rig.rpc<{ stack: { id: string } }>("create_stack", {
        spec: {
          name: `back-${crypto.randomUUID().slice(0, 8)}`,
          template: "eliza-agent-template",
          environment: { AGENT_NAME: "helper" },
          cluster_id: rig.clusters[engine],
        },
      });
      return stack.id;
    },
    breakIt: (id) =>
      rig.rpc("update_stack", {
        stack_id: id,
        changes: { environment: { CRASH_AFTER: "0" } },
      }),
    kinds: { create: "deploy_stack", change: "update_stack", back: "rollback_stack" },
  },
};
const names = Object.keys(cases);

const operation = async (id: string, kind: string): Promise<{ state: string } | undefined> => {
  const [row] = await rig.sql<{ state: string }[]>`
    select state from public.operations
    where (agent_id = ${id} or stack_id = ${id}) and kind = ${kind} order by created_at desc limit 1`;
  return row;
};
const ended = (id: string, kind: string) =>
  eventually(async () => {
    const row = await operation(id, kind);
    return row && !["queued", "running"].includes(row.state) ? row.state : null;
  }, { what: `the end of ${kind}` });

describe.each(Object.keys(ENGINES) as Engine[])("on %s", (engine) => {
  describe.each(MOMENTS)("a worker killed %s", (moment) => {
    const ids = new Map<string, string>();

    beforeAll(async () => {
      await Promise.all(names.map(async (name) => {
        const { create, breakIt, kinds } = cases[name]!;
        const id = await create(engine);
        ids.set(name, id);
        expect(await ended(id, kinds.create)).toBe("succeeded");
        await breakIt(id);
        expect(await ended(id, kinds.change)).toBe("failed");
        expect(await operation(id, kinds.back)).toMatchObject({ state: "queued" });
      }));
      await bringToMoment(rig, moment, names.length, letBegin);
      await rig.killWorker();
      await rig.clearFaults();
    });

    afterAll(async () => {
      await rig.clearFaults();
      for (const id of ids.values()) await rig.discard(id);
    });

    it.each(names)(
      "the next one brings the %s back, with nothing twice",
      async (name) => {
        const id = ids.get(name)!;
        expect(await ended(id, cases[name]!.kinds.back)).toBe("succeeded");
        expect(await rig.stacksOf(id)).toHaveLength(1);
        await eventually(async () => (await rig.runningContainers(id)).length === 1, {
          what: "one running container",
        });
        const [row] = await rig.sql<{ state: string }[]>`
        select state from public.deployments where agent_id = ${id}
        union all select state from public.stacks where id = ${id}`;
        expect(row!.state).toBe("running");
      },
    );
  });
});
