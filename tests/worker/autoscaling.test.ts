/** Scaling by policy on a whole stack: containers that really work hard, and then do not. */
import { afterAll, beforeAll, expect, it } from "vitest";
import type { OperationRow } from "./support/bed.ts";
import { eventually } from "./support/eventually.ts";
import { startWorkerRig, type WorkerRig } from "./support/rig.ts";

let rig: WorkerRig;
beforeAll(async () => {
  rig = await startWorkerRig();
  await rig.set("collection", "metrics_seconds", 1);
  await rig.set("autoscaling", "interval_seconds", 1);
  await rig.set("autoscaling", "window_seconds", 6);
  await rig.set("autoscaling", "min_samples", 2);
  await rig.set("autoscaling", "up_cooldown_seconds", 2);
  await rig.set("autoscaling", "down_stabilization_seconds", 8);
});
afterAll(() => rig?.stop());

it.each(["compose", "swarm"] as const)(
  "an agent on %s gets replicas while it is busy and loses them when it is not",
  async (engine) => {
    const id = await rig.createAgent(engine, {
      resources: { memory: "128Mi", cpu: "100m" },
      scaling: { minReplicas: 1, maxReplicas: 3, targetCPU: 50 },
    });
    await rig.finished(id, "deploy");
    const events = async (kind: string) => {
      const { data } = await rig.user.from("agent_events").select("message, data, operation_id")
        .eq("agent_id", id).eq("event_type", "AUTOSCALED").eq("data->>reason", kind).order(
          "timestamp",
        );
      return data!;
    };
    const url = await eventually(async () => {
      const { data } = await rig.user.from("deployments").select("url").eq("agent_id", id).single();
      return data?.url as string | null;
    }, { what: "an address" });

    // Nearly always busy: several times its limit, if the machine has that much to give.
    const work = () =>
      fetch(url, { method: "POST", body: '{"message": "work", "work_ms": 250}' })
        .then((answer) => answer.body?.cancel()).catch(() => {});
    const up = await eventually(async () => {
      await work();
      return (await events("above_target"))[0];
    }, { what: "a scaling up" });
    expect(up.data).toMatchObject({ metric: "cpu", target_percent: 50, from_replicas: 1 });
    expect(up.data.value_percent).toBeGreaterThan(55);
    await eventually(async () => {
      await work();
      return (await rig.runningContainers(id)).length > 1;
    }, { what: "a second container" });
    const scaling = await eventually(async () => {
      const [row] = await rig.sql<OperationRow[]>`
        select * from public.operations where id = ${up.operation_id} and finished_at is not null`;
      return row;
    }, { what: "the end of the scaling" });
    expect(scaling).toMatchObject({
      kind: "scale",
      state: "succeeded",
      request: { automatic: true, to_replicas: up.data.to_replicas },
      requested_by: null,
    });

    await eventually(async () => {
      const { data } = await rig.user.from("agents").select("replicas, status").eq("id", id)
        .single();
      return data!.replicas === 1 && data!.status === "deployed";
    }, { what: "one replica again" });
    await eventually(async () => (await rig.runningContainers(id)).length === 1, {
      what: "one container again",
    });
    expect((await events("below_target")).at(-1)).toMatchObject({ data: { to_replicas: 1 } });
    await rig.discard(id);
  },
);
