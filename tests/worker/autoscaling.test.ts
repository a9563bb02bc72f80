/** Scaling by policy on a whole stack: containers that really work hard, and then do not. */
import { afterAll, beforeAll, expect, it } from "vitest";
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
}, 120_000);
afterAll(() => rig?.stop());

it.each(["compose", "swarm"] as const)(
  "an agent on %s gets replicas while it is busy and loses them when it is not",
  async (engine) => {
    const id = await rig.createAgent(engine, {
      resources: { memory: "128Mi", cpu: "200m" },
      scaling: { minReplicas: 1, maxReplicas: 3, targetCPU: 50 },
    });
    await rig.finished(id, "deploy");
    const events = async (kind: string) => {
      const { data } = await rig.user.from("agent_events").select("message, data, operation_id")
        .eq("agent_id", id).eq("event_type", "AUTOSCALED").eq("data->>reason", kind);
      return data!;
    };
    const url = await eventually(async () => {
      const { data } = await rig.user.from("deployments").select("url").eq("agent_id", id).single();
      return data?.url as string | null;
    }, { what: "an address", withinMs: 20_000 });

    const up = await eventually(async () => {
      // Nearly always busy: several times its limit, if the machine has that much to give.
      await fetch(url, { method: "POST", body: '{"message": "work", "work_ms": 250}' })
        .then((answer) => answer.body?.cancel()).catch(() => {});
      return (await events("above_target"))[0];
    }, { what: "a scaling up", withinMs: 60_000 });
    expect(up.data).toMatchObject({ metric: "cpu", target_percent: 50, from_replicas: 1 });
    expect(up.data.value_percent).toBeGreaterThan(55);
    expect(await rig.finished(id, "scale")).toMatchObject({
      state: "succeeded",
      id: up.operation_id,
      request: { automatic: true },
      requested_by: null,
    });
    expect(await rig.runningContainers(id)).toHaveLength(up.data.to_replicas);

    await eventually(async () => {
      const { data } = await rig.user.from("agents").select("replicas, status").eq("id", id)
        .single();
      return data!.replicas === 1 && data!.status === "deployed";
    }, { what: "one replica again", withinMs: 60_000 });
    expect(await rig.runningContainers(id)).toHaveLength(1);
    expect((await events("below_target")).at(-1)).toMatchObject({ data: { to_replicas: 1 } });
    await rig.discard(id);
  },
  150_000,
);
