import { randomUUID } from "node:crypto";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createOrchestrator } from "../../shared/orchestrators/create.ts";
import type { Orchestrator, WorkloadSpec } from "../../shared/orchestrators/types.ts";
import { describeContract } from "./contract.ts";
import { type KubernetesDouble, startKubernetesDouble } from "./kubernetes-double/server.ts";
import { openKubernetesRig } from "./kubernetes-rig.ts";
import { until } from "../support/until.ts";
import { intercept } from "./rig.ts";
import { describeStrategies } from "./strategies.ts";

interface Seen {
  metadata: { labels: Record<string, string> };
  data: { TOKEN?: string };
  spec: { replicas: number };
}

const open = async () => {
  const double = await startKubernetesDouble();
  return openKubernetesRig({
    url: double.url,
    credential: double.token,
    namespace: "agents",
    image: "agent-launchpad/demo-agent:latest",
    lacks: new Set(["environment"]),
    close: () => double.close(),
  });
};

describeContract("a Kubernetes double", open);
describeStrategies("a Kubernetes double", open);

describe("the Kubernetes driver", () => {
  const { signal } = new AbortController();
  let double: KubernetesDouble;
  let orchestrator: Orchestrator;
  let spec: WorkloadSpec;

  beforeEach(async () => {
    double = await startKubernetesDouble();
    orchestrator = connect();
    spec = {
      agentId: randomUUID(),
      name: "my_agent",
      image: "agent:1",
      replicas: 2,
      environment: { TOKEN: "s3cret é" },
      resources: { memory: "1Gi", cpu: "500m" },
      port: 3000,
      healthCheck: { path: "/health", intervalSeconds: 30, timeoutSeconds: 10, retries: 3 },
      labels: {},
      strategy: "rolling",
      maxUnavailable: 1,
      scaling: null,
      revision: 1,
    };
  });

  afterEach(() => double.close());

  /**
   * @param breaks which requests break the connection
   * @param later how far ahead its clock is, in milliseconds
   */
  function connect(
    namespace = "agents",
    breaks: (method: string) => boolean = () => false,
    later = 0,
  ): Orchestrator {
    return createOrchestrator({
      id: "1",
      name: "double",
      kind: "kubernetes",
      url: double.url,
      endpointId: null,
      namespace,
      credential: double.token,
      options: {},
    }, {
      fetch: intercept(async (method, _path, forward) => {
        if (breaks(method)) throw new TypeError("the connection broke");
        return await forward();
      }, fetch),
      now: () => Date.now() + later,
    });
  }

  function containerOf(name: string): Record<string, unknown> {
    const found = double.objects.get(`agents/deployments/${name}`) as unknown as {
      spec: { template: { spec: { containers: Record<string, unknown>[] } } };
    };
    return found.spec.template.spec.containers[0]!;
  }

  function selectorColor(): string | undefined {
    const found = double.objects.get("agents/services/my-agent") as unknown as {
      spec: { selector: Record<string, string> };
    };
    return found.spec.selector["agent-launchpad.color"];
  }

  function object(resource: string): Seen {
    return double.objects.get(`agents/${resource}/my-agent`) as unknown as Seen;
  }

  it("keeps the environment in a Secret and nowhere else", async () => {
    await orchestrator.deploy(spec, signal);
    expect(Buffer.from(object("secrets").data.TOKEN!, "base64").toString()).toBe("s3cret é");
    for (const [key, one] of double.objects) {
      if (!key.includes("/secrets/")) expect(JSON.stringify(one)).not.toContain("s3cret");
    }
  });

  it("takes a removed variable out of the Secret", async () => {
    await orchestrator.deploy(spec, signal);
    const ref = await orchestrator.deploy({ ...spec, environment: {}, revision: 2 }, signal);
    expect(object("secrets").data).toEqual({});
    expect(ref.namespace).toBe("agents");
  });

  it("gives an autoscaler the bounds and the targets", async () => {
    const scaling = { minReplicas: 1, maxReplicas: 10, targetCpu: 70, targetMemory: 80 };
    await orchestrator.deploy({ ...spec, scaling }, signal);
    expect(object("horizontalpodautoscalers").spec).toMatchObject({
      minReplicas: 1,
      maxReplicas: 10,
      metrics: [
        { resource: { name: "cpu", target: { averageUtilization: 70 } } },
        { resource: { name: "memory", target: { averageUtilization: 80 } } },
      ],
    });
  });

  it("leaves the autoscaler's replica count alone on an update", async () => {
    const scaling = { minReplicas: 1, maxReplicas: 10, targetCpu: 70, targetMemory: null };
    const ref = await orchestrator.deploy({ ...spec, scaling }, signal);
    object("deployments").spec.replicas = 7;
    await orchestrator.update(ref, { ...spec, scaling, revision: 2 }, signal);
    expect(object("deployments").spec.replicas).toBe(7);
  });

  describe("asked what the autoscaler decided", () => {
    const scaling = { minReplicas: 1, maxReplicas: 10, targetCpu: 70, targetMemory: 80 };
    const told = async (status: unknown, autoscaled = true, later = 0) => {
      const ref = await orchestrator.deploy({ ...spec, scaling }, signal);
      Object.assign(object("horizontalpodautoscalers"), { status });
      await until(() => orchestrator.inspect(ref, signal), (state) => state?.ready === 2);
      const asked = connect("agents", undefined, later);
      return (await asked.inspect({ ...ref, autoscaled }, signal))!.autoscaler;
    };
    const because = (type: string, status: string, reason: string) => ({
      desiredReplicas: 3,
      conditions: [{
        type,
        status,
        reason,
        message: "in words of its own",
        lastTransitionTime: new Date(Date.now() - 3_600_000).toISOString().replace(/\.\d+/, ""),
      }],
    });
    const ages = 3_600_000;

    it("tells replicas, and usage against the targets", async () => {
      expect(
        await told({
          desiredReplicas: 6,
          currentMetrics: [
            { type: "Resource", resource: { name: "cpu", current: { averageUtilization: 131 } } },
            { type: "" },
          ],
          conditions: [{ type: "ScalingLimited", status: "False", reason: "DesiredWithinRange" }],
        }),
      ).toEqual({
        replicas: 6,
        metrics: [
          { metric: "cpu", valuePercent: 131, targetPercent: 70 },
          { metric: "memory", valuePercent: null, targetPercent: 80 },
        ],
        limitedBy: null,
      });
    });

    it.each([
      ["max_replicas", because("ScalingLimited", "True", "TooManyReplicas")],
      [null, because("ScalingLimited", "True", "TooFewReplicas")],
      ["unmeasured", because("ScalingActive", "False", "FailedGetResourceMetric")],
      [null, because("ScalingActive", "False", "ScalingDisabled")],
      ["scaling_failed", because("AbleToScale", "False", "FailedUpdateScale")],
      [null, because("AbleToScale", "False", "BackoffBoth")],
    ])("tells that it is limited by %s", async (limitedBy, status) => {
      expect(await told(status, true, ages)).toMatchObject({ replicas: 3, limitedBy });
    });

    it("gives a metrics-server its time before it tells that nothing is measured", async () => {
      const status = because("ScalingActive", "False", "FailedGetResourceMetric");
      expect(await told(status), "containers that just started").toMatchObject({ limitedBy: null });
      status.conditions[0]!.lastTransitionTime = new Date(Date.now() + ages).toISOString();
      expect(await told(status, true, ages), "measured until now").toMatchObject({
        limitedBy: null,
      });
    });

    it("tells nothing of an autoscaler that has not decided yet, nor when nobody asks", async () => {
      expect(await told(undefined)).toMatchObject({ replicas: null, limitedBy: null });
      expect(
        await told({ ...because("AbleToScale", "True", "SucceededGetScale"), desiredReplicas: 0 }),
      )
        .toMatchObject({ replicas: null });
      expect(await told(because("ScalingLimited", "True", "TooManyReplicas"), false))
        .toBeUndefined();
    });

    it("leaves out an autoscaler of somebody else's", async () => {
      const ref = await orchestrator.deploy({ ...spec, scaling }, signal);
      object("horizontalpodautoscalers").metadata.labels = {};
      expect((await orchestrator.inspect({ ...ref, autoscaled: true }, signal))!.autoscaler)
        .toBeUndefined();
    });
  });

  it("removes the autoscaler with the policy", async () => {
    const scaling = { minReplicas: 1, maxReplicas: 10, targetCpu: 70, targetMemory: null };
    const ref = await orchestrator.deploy({ ...spec, scaling }, signal);
    await orchestrator.scale(ref, spec, signal);
    expect(object("horizontalpodautoscalers")).toBeUndefined();
  });

  it("probes as the health check says, in the whole seconds that Kubernetes knows", async () => {
    const healthCheck = { path: "/live", intervalSeconds: 12, timeoutSeconds: 0.5, retries: 4 };
    await orchestrator.deploy({ ...spec, healthCheck }, signal);
    const probe = {
      httpGet: { path: "/live", port: "http" },
      periodSeconds: 12,
      timeoutSeconds: 1,
      failureThreshold: 4,
    };
    expect(containerOf("my-agent")).toMatchObject({ readinessProbe: probe, livenessProbe: probe });
    await orchestrator.deploy({ ...spec, healthCheck: null }, signal);
    expect(containerOf("my-agent")).not.toHaveProperty("readinessProbe");
  });

  it("leads the Service and the autoscaler to the set of replicas that was promoted", async () => {
    const scaling = { minReplicas: 1, maxReplicas: 10, targetCpu: 70, targetMemory: null };
    const ref = await orchestrator.deploy({ ...spec, scaling }, signal);
    object("deployments").spec.replicas = 4;
    const changed = { strategy: "blue-green" as const, environment: {}, revision: 2 };
    const next = { ...spec, scaling, ...changed };
    await orchestrator.update(ref, next, signal);
    expect(selectorColor()).toBe("blue");
    const candidate = await until(
      () => orchestrator.inspect(ref, signal),
      (state) => state?.candidate?.settled === true,
    );
    expect(candidate?.candidate?.desired, "as many as the autoscaler had set").toBe(4);
    await orchestrator.promote(ref, next, signal);
    expect(selectorColor()).toBe("green");
    expect(object("horizontalpodautoscalers").spec).toMatchObject({
      scaleTargetRef: { name: "my-agent-green" },
    });
    expect([...double.objects.keys()].sort()).toEqual([
      "agents/configmaps/my-agent-green",
      "agents/deployments/my-agent-green",
      "agents/horizontalpodautoscalers/my-agent",
      "agents/secrets/my-agent-green",
      "agents/services/my-agent",
    ]);
  });

  it("leads back when the way back begins while the new set was about to take over", async () => {
    const ref = await orchestrator.deploy(spec, signal);
    const next = { ...spec, strategy: "blue-green" as const, environment: {}, revision: 2 };
    await orchestrator.update(ref, next, signal);
    await until(
      () => orchestrator.inspect(ref, signal),
      (state) => state?.candidate?.settled === true,
    );
    const killed = connect("agents", (method) => method === "DELETE");
    await expect(killed.promote(ref, next, signal)).rejects.toThrow();
    expect(selectorColor()).toBe("green");
    await orchestrator.update(ref, { ...spec, revision: 3 }, signal);
    expect(selectorColor()).toBe("blue");
    const state = await until(() => orchestrator.inspect(ref, signal), (seen) => !!seen?.settled);
    expect(state).toMatchObject({ revision: 3, ready: 2, candidate: null });
  });

  it("rolls a workload from before there were two sets once, reached all the time", async () => {
    const ref = await orchestrator.deploy(spec, signal);
    const before = double.objects.get("agents/deployments/my-agent") as unknown as {
      metadata: { labels: Record<string, string> };
      spec: {
        selector: { matchLabels: Record<string, string> };
        template: { metadata: { labels: Record<string, string> } };
      };
    };
    for (
      const labels of [
        before.metadata.labels,
        before.spec.selector.matchLabels,
        before.spec.template.metadata.labels,
      ]
    ) delete labels["agent-launchpad.color"];
    const second = { ...spec, strategy: "blue-green" as const, environment: {}, revision: 2 };
    await orchestrator.update(ref, second, signal);
    expect(selectorColor()).toBeUndefined();
    expect(before.spec.selector.matchLabels).toEqual({ "agent-launchpad.agent": spec.agentId });
    const state = await until(() => orchestrator.inspect(ref, signal), (seen) => !!seen?.settled);
    expect(state).toMatchObject({ revision: 2, candidate: null });
    const third = { ...second, environment: { TOKEN: "another" }, revision: 3 };
    await orchestrator.update(ref, third, signal);
    expect((await orchestrator.inspect(ref, signal))?.candidate).toMatchObject({ revision: 3 });
  });

  it("removes every object of the agent and no other", async () => {
    const scaling = { minReplicas: 1, maxReplicas: 2, targetCpu: 70, targetMemory: null };
    const other = await orchestrator.deploy(
      { ...spec, agentId: randomUUID(), name: "other" },
      signal,
    );
    const ref = await orchestrator.deploy({ ...spec, scaling }, signal);
    await orchestrator.remove(ref, signal);
    expect([...double.objects.keys()].filter((key) => key.endsWith("/my-agent"))).toEqual([]);
    expect(await orchestrator.inspect(other, signal)).not.toBeNull();
  });

  describe("cut off while it takes something away", () => {
    const keys = () => [...double.objects.keys()].sort();
    /** A driver that gets no further than this many deletions. */
    const after = (deletions: number) =>
      connect("agents", (method) => method === "DELETE" && deletions-- <= 0);

    it("is seen not to be over until all of a workload is gone", async () => {
      const scaling = { minReplicas: 1, maxReplicas: 2, targetCpu: 70, targetMemory: null };
      const ref = await orchestrator.deploy({ ...spec, scaling }, signal);
      for (let left = keys().length; left > 0; left--) {
        expect(await orchestrator.inspect(ref, signal), `with ${keys().join()}`).not.toBeNull();
        await after(1).remove(ref, signal).catch(() => {});
        expect(keys()).toHaveLength(left - 1);
      }
      expect(await orchestrator.inspect(ref, signal)).toBeNull();
    });

    it("is seen not to be over until all of the replaced set is gone", async () => {
      const ref = await orchestrator.deploy(spec, signal);
      const next = { ...spec, strategy: "blue-green" as const, environment: {}, revision: 2 };
      await orchestrator.update(ref, next, signal);
      const ready = () =>
        until(
          () => orchestrator.inspect(ref, signal),
          (state) => state?.candidate?.settled === true,
        );
      for (const gone of ["configmaps", "secrets"]) {
        await ready();
        await expect(after(1).promote(ref, next, signal)).rejects.toThrow();
        expect(keys()).not.toContain(`agents/${gone}/my-agent`);
      }
      await ready();
      await orchestrator.promote(ref, next, signal);
      expect(keys()).toEqual([
        "agents/configmaps/my-agent-green",
        "agents/deployments/my-agent-green",
        "agents/secrets/my-agent-green",
        "agents/services/my-agent",
      ]);
    });
  });

  it("touches no object of the name that belongs to somebody else", async () => {
    await orchestrator.deploy({ ...spec, agentId: randomUUID() }, signal);
    for (const key of [...double.objects.keys()]) {
      if (!key.includes("/configmaps/")) double.objects.delete(key);
    }
    await expect(orchestrator.deploy(spec, signal)).rejects.toMatchObject({
      details: { reason: "name_taken" },
    });
    expect(double.objects.size).toBe(1);
  });

  it.each(["absent", "down"] as const)("says null when metrics-server is %s", async (state) => {
    const ref = await orchestrator.deploy(spec, signal);
    double.metricsServer = state;
    expect(await orchestrator.metrics(ref, signal)).toBeNull();
    expect(await orchestrator.health(signal)).toMatchObject({ status: "up" });
  });

  it("reports a refusal by quota as exhausted resources", async () => {
    double.refusedByQuota.add("Deployment");
    await expect(orchestrator.deploy(spec, signal)).rejects.toMatchObject({
      code: "RESOURCE_EXHAUSTED",
      status: 503,
      details: { reason: "quota" },
    });
  });

  it("reports pods that the quota keeps out", async () => {
    double.controller.podQuota = 1;
    const ref = await orchestrator.deploy(spec, signal);
    const state = await until(
      () => orchestrator.inspect(ref, signal),
      (seen) => seen?.failure != null,
    );
    expect(state).toMatchObject({
      settled: false,
      failure: { code: "RESOURCE_EXHAUSTED", details: { reason: "quota" } },
    });
  });

  it("reports pods that fit on no node", async () => {
    double.controller.capacity = 1;
    const ref = await orchestrator.deploy(spec, signal);
    const state = await until(
      () => orchestrator.inspect(ref, signal),
      (seen) => seen?.failure != null,
    );
    expect(state?.failure).toMatchObject({
      code: "RESOURCE_EXHAUSTED",
      details: { reason: "no_capacity" },
    });
  });

  it("reports a container that keeps ending, with its exit code", async () => {
    const ref = await orchestrator.deploy({ ...spec, command: ["crash"] }, signal);
    const state = await until(
      () => orchestrator.inspect(ref, signal),
      (seen) => seen?.failure != null,
    );
    expect(state).toMatchObject({
      status: "failed",
      failure: { code: "DEPLOYMENT_FAILED", details: { reason: "crash_loop", exit_code: 3 } },
    });
  });

  it("holds nothing against a change that what it replaces did before", async () => {
    const ref = await orchestrator.deploy(spec, signal);
    // Pods that are not ready yet are replaced at once: only ready ones stay while the new ones fail.
    await until(() => orchestrator.inspect(ref, signal), (state) => state?.settled === true);
    const bad = { ...spec, command: ["crash"], revision: spec.revision + 1 };
    await orchestrator.update(ref, bad, signal);
    const failed = await until(
      () => orchestrator.inspect(ref, signal),
      (state) => state?.status === "failed",
    );
    const replaced = failed!.containers.filter((one) => one.replaced);
    expect(replaced.map(({ status }) => status)).toEqual(["running"]);
    const good = { ...spec, revision: spec.revision + 2 };
    await orchestrator.update(ref, good, signal);
    const seen = new Set<string>();
    await until(async () => {
      const state = await orchestrator.inspect(ref, signal);
      seen.add(state!.status);
      return state;
    }, (state) => state?.settled === true && state.revision === good.revision);
    expect([...seen]).not.toContain("failed");
  });

  it("names the namespace as what is missing", async () => {
    await expect(connect("missing").deploy(spec, signal)).rejects.toMatchObject({
      code: "DEPLOYMENT_FAILED",
      retryable: false,
      details: { reason: "namespace_missing" },
    });
  });
});
