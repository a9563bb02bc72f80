import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createOrchestrator } from "../../shared/orchestrators/create.ts";
import { OrchestratorError } from "../../shared/orchestrators/errors.ts";
import { toNanoseconds } from "../../shared/orchestrators/timestamps.ts";
import type {
  Orchestrator,
  WorkloadRef,
  WorkloadSpec,
  WorkloadState,
} from "../../shared/orchestrators/types.ts";
import { until } from "../support/until.ts";
import { intercept, type Rig, specFor } from "./rig.ts";

const SECRET = "s3cret-never-shown";
/** What env files, shells and stack files each read in their own way. */
const AWKWARD = `a "b" 'c' $HOME \${HOME} $$ #d \\n \\ : {e} [f]\nsecond=line\ttab é `;

/** What every driver does on every engine. `open` gives null where the engine is not at hand. */
export function describeContract(title: string, open: () => Promise<Rig>): void {
  describe(title, () => {
    let rig: Rig;
    let orchestrator: Orchestrator;
    let spec: WorkloadSpec;
    let ref: WorkloadRef;
    const own: WorkloadRef[] = [];
    const { signal } = new AbortController();

    function newSpec(changes: Partial<WorkloadSpec> = {}): WorkloadSpec {
      const made = specFor(rig, {
        environment: {
          SECRET_TOKEN: SECRET,
          SPECIAL: AWKWARD,
          HOME: "/agent",
          AGENT_NAME: "contract",
        },
        ...changes,
      });
      own.push({ agentId: made.agentId, name: made.name, stackId: null, namespace: null });
      return made;
    }

    async function inspect(of: WorkloadRef = ref): Promise<WorkloadState> {
      const state = await orchestrator.inspect(of, signal);
      if (!state) throw new Error("there is no such workload");
      return state;
    }

    function settled(of: WorkloadRef = ref): Promise<WorkloadState> {
      return until(() => inspect(of), (state) => state.settled);
    }

    /** Who runs and since when: changes when a replica is replaced or restarted. */
    function lives(state: WorkloadState): string[] {
      return state.containers.map(({ id, startedAt }) => `${id} ${startedAt}`).sort();
    }

    beforeAll(async () => {
      rig = await open();
      orchestrator = createOrchestrator(rig.cluster);
      spec = newSpec();
    });

    afterAll(async () => {
      for (const one of own) await orchestrator.remove(one, signal);
      await rig.close();
    });

    it("finds the cluster up", async () => {
      const health = await orchestrator.health(signal);
      expect(health).toMatchObject({ status: "up", message: null });
      expect(health.version).toMatch(/^v?\d+\.\d+/);
    });

    it("knows no workload before it is deployed", async () => {
      expect(await orchestrator.inspect(own[0]!, signal)).toBeNull();
    });

    it("deploys every replica", async () => {
      ref = await orchestrator.deploy(spec, signal);
      expect(ref).toMatchObject({ agentId: spec.agentId, name: spec.name });
      expect(ref.stackId).toBeTruthy();
      const state = await settled();
      expect(state).toMatchObject({
        status: "active",
        revision: 1,
        desired: 2,
        ready: 2,
        failure: null,
      });
      expect(state.containers).toHaveLength(2);
      for (const container of state.containers) {
        expect(container).toMatchObject({ status: "running", health: "healthy", finishedAt: null });
        expect(Date.parse(container.startedAt!)).toBeGreaterThan(0);
      }
      expect(state.services[0]).toMatchObject({
        image: rig.image,
        replicas: { running: 2, desired: 2 },
      });
    });

    it("adopts what it deployed when it is asked again", async () => {
      const before = lives(await inspect());
      const again = await orchestrator.deploy(spec, signal);
      expect(again.stackId).toBe(ref.stackId);
      expect(await rig.count(spec.name)).toBe(1);
      expect(lives(await settled())).toEqual(before);
    });

    it("shows the agent's secrets nowhere in the state", async () => {
      expect(JSON.stringify(await inspect())).not.toContain(SECRET);
    });

    it("hands the environment over to the letter", async (test) => {
      if (rig.lacks.has("environment")) return test.skip();
      const { containers } = await inspect();
      const page = await until(
        () => orchestrator.logs(ref, containers[0]!.id, { limitBytes: 65_536 }, signal),
        ({ lines }) => lines.some(({ message }) => message.includes("special=")),
      );
      const text = page.lines.map(({ message }) => message).join("\n");
      expect(text).toContain(`special=[${AWKWARD}]`);
    });

    it("reads logs on from where it stopped", async (test) => {
      if (rig.lacks.has("logs")) return test.skip();
      const { id } = (await inspect()).containers[0]!;
      const read = (since?: string) =>
        orchestrator.logs(ref, id, { limitBytes: 65_536, ...(since ? { since } : {}) }, signal);
      const first = await until(() => read(), ({ lines }) => lines.length >= 2);
      const times = first.lines.map(({ timestamp }) => toNanoseconds(timestamp)!);
      expect(times).toEqual([...times].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0)));
      const middle = first.lines[Math.floor(first.lines.length / 2) - 1]!;
      const rest = await read(middle.timestamp);
      expect(rest.lines.slice(0, first.lines.length - first.lines.indexOf(middle) - 1))
        .toEqual(first.lines.slice(first.lines.indexOf(middle) + 1));
    });

    it("gives the last lines when it is asked for so many", async (test) => {
      if (rig.lacks.has("logs")) return test.skip();
      const { id } = (await inspect()).containers[0]!;
      await until(
        () => orchestrator.logs(ref, id, { limitBytes: 65_536 }, signal),
        ({ lines }) => lines.length >= 3,
      );
      const page = await orchestrator.logs(ref, id, { limitBytes: 65_536, tail: 2 }, signal);
      expect(page.lines).toHaveLength(2);
    });

    it("stops reading logs at the limit and says so", async (test) => {
      if (rig.lacks.has("logs")) return test.skip();
      const { id } = (await inspect()).containers[0]!;
      const page = await until(
        () => orchestrator.logs(ref, id, { limitBytes: 60 }, signal),
        ({ truncated }) => truncated,
      );
      expect(page.lines).toHaveLength(1);
    });

    it("gives no logs of a container of another agent", async (test) => {
      if (rig.lacks.has("logs")) return test.skip();
      const { id } = (await inspect()).containers[0]!;
      const stranger = { ...ref, agentId: randomUUID() };
      const page = await orchestrator.logs(stranger, id, { limitBytes: 65_536 }, signal);
      expect(page).toEqual({ lines: [], truncated: false });
    });

    it("measures every replica", async (test) => {
      if (rig.lacks.has("metrics")) return test.skip();
      const samples = await until(
        async () => await orchestrator.metrics(ref, signal) ?? [],
        (all) => all.length === 2 && all.every(({ cpuUsage }) => cpuUsage !== null),
      );
      const { containers } = await inspect();
      expect(samples.map(({ containerId }) => containerId).sort())
        .toEqual(containers.map(({ id }) => id).sort());
      for (const sample of samples) {
        expect(sample.cpuLimit).toBe(0.25);
        expect(sample.memoryLimit).toBe(128 * 1024 * 1024);
        expect(sample.memoryUsage).toBeGreaterThan(0);
        expect(sample.cpuUsage).toBeGreaterThanOrEqual(0);
      }
    });

    it("scales up without touching the replicas that run", async () => {
      const before = lives(await inspect());
      spec = { ...spec, replicas: 3, revision: 2 };
      await orchestrator.scale(ref, spec, signal);
      const state = await settled();
      expect(state).toMatchObject({ desired: 3, ready: 3, revision: 2 });
      expect(lives(state)).toEqual(expect.arrayContaining(before));
    });

    it("scales down", async () => {
      spec = { ...spec, replicas: 2, revision: 3 };
      await orchestrator.scale(ref, spec, signal);
      expect(await settled()).toMatchObject({ desired: 2, ready: 2, revision: 3 });
    });

    it("restarts one replica after the other", async () => {
      const before = await inspect();
      const request = { id: randomUUID(), requestedAt: new Date().toISOString() };
      let fewest = before.ready;
      let watching = true;
      const watch = (async () => {
        while (watching) {
          fewest = Math.min(fewest, (await inspect()).ready);
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
      })();
      await orchestrator.restart(ref, spec, signal, request);
      // Also when it is asked at once, before the engine has begun.
      const after = await settled();
      expect(lives(after).filter((life) => lives(before).includes(life))).toEqual([]);
      watching = false;
      await watch;
      expect(after.ready).toBe(2);
      expect(fewest).toBeGreaterThanOrEqual(1);

      await orchestrator.restart(ref, spec, signal, request);
      expect(lives(await settled()), "the same request again").toEqual(lives(after));
    });

    it("updates to a new revision", async () => {
      const before = lives(await inspect());
      spec = { ...spec, revision: 4, environment: { ...spec.environment, EXTRA: "1" } };
      await orchestrator.update(ref, spec, signal);
      const after = await until(
        async () => {
          const state = await inspect();
          if (state.candidate?.settled) await orchestrator.promote(ref, spec, signal);
          return state;
        },
        (state) =>
          state.settled && state.revision === 4 &&
          !lives(state).some((life) => before.includes(life)),
      );
      expect(after).toMatchObject({ status: "active", desired: 2, ready: 2 });
      expect(await rig.count(spec.name)).toBe(1);
    });

    it("stops, and stops again", async () => {
      await orchestrator.stop(ref, signal);
      await orchestrator.stop(ref, signal);
      const state = await until(
        inspect,
        ({ settled, containers }) => settled && containers.length === 0,
      );
      expect(state).toMatchObject({ status: "inactive", desired: 0, ready: 0 });
    });

    it("starts, and starts again", async () => {
      await orchestrator.start(ref, spec, signal);
      const first = await settled();
      expect(first).toMatchObject({ status: "active", desired: 2, ready: 2, revision: 4 });
      await orchestrator.start(ref, spec, signal);
      expect(lives(await settled())).toEqual(lives(first));
    });

    it("removes, and removes again", async () => {
      await orchestrator.remove(ref, signal);
      await orchestrator.remove(ref, signal);
      expect(await until(() => orchestrator.inspect(ref, signal), (state) => state === null))
        .toBeNull();
      expect(await rig.count(spec.name)).toBe(0);
    });

    it("deploys again under a name that was removed", async () => {
      const second = await orchestrator.deploy(spec, signal);
      expect(second.stackId).not.toBe(ref.stackId);
      await settled(second);
      await orchestrator.remove(second, signal);
      await until(() => orchestrator.inspect(second, signal), (state) => state === null);
    });

    it("leaves somebody else's workload of the same name alone", async () => {
      const mine = newSpec();
      const mineRef = own.at(-1)!;
      await rig.plantForeign(mine.name);
      const mark = await rig.foreignMark(mine.name);
      await expect(orchestrator.deploy(mine, signal)).rejects.toMatchObject({
        code: "DEPLOYMENT_FAILED",
        retryable: false,
        details: { reason: "name_taken" },
      });
      expect(await orchestrator.inspect(mineRef, signal)).toBeNull();
      await orchestrator.remove(mineRef, signal);
      expect(await rig.foreignMark(mine.name)).toBe(mark);
      await rig.removeForeign(mine.name);
    });

    it("makes exactly one workload when the answer to the creation is lost", async () => {
      const mine = newSpec({ replicas: 1 });
      let lost = 0;
      const forgetful = createOrchestrator(rig.cluster, {
        fetch: intercept(async (method, path, forward) => {
          if (!rig.creates(method, path) || lost > 0) return await forward();
          lost++;
          await forward();
          throw new TypeError("the connection broke");
        }, rig.fetch),
      });
      await forgetful.deploy(mine, signal).catch((error) => {
        expect(error).toMatchObject({ retryable: true, ambiguous: true });
      });
      const mineRef = await forgetful.deploy(mine, signal);
      expect(lost).toBe(1);
      expect(await settled(mineRef)).toMatchObject({ ready: 1, desired: 1 });
      expect(await rig.count(mine.name)).toBe(1);
    });

    it("makes exactly one workload when the caller gives up while it is being created", async () => {
      const mine = newSpec({ replicas: 1 });
      const giveUp = new AbortController();
      const impatient = createOrchestrator(rig.cluster, {
        fetch: (input, init) => {
          const url = new URL(input instanceof Request ? input.url : input);
          if (!rig.creates(init?.method ?? "GET", url.pathname)) return rig.fetch(input, init);
          // The engine goes on with it, as it does when a client hangs up late.
          const { signal: stop, ...rest } = init ?? {};
          const answer = rig.fetch(input, rest);
          setTimeout(() => giveUp.abort(new Error("enough")), 20);
          return new Promise<Response>((resolve, reject) => {
            answer.then(resolve, reject);
            stop?.addEventListener("abort", () => reject(stop.reason));
          });
        },
      });
      const first = await impatient.deploy(mine, giveUp.signal).then(() => null, (error) => error);
      if (first !== null) {
        expect(first).toBeInstanceOf(OrchestratorError);
        expect(first).toMatchObject({ retryable: true, details: { reason: "aborted" } });
      }
      // As the worker does: again, after a moment, until it says that it is there.
      const mineRef = await until(
        () => orchestrator.deploy(mine, signal).catch((error: OrchestratorError) => error),
        (result) => !(result instanceof OrchestratorError),
      ) as WorkloadRef;
      await settled(mineRef);
      expect(await rig.count(mine.name)).toBe(1);
    });

    it("says that an image does not exist", async (test) => {
      if (rig.lacks.has("image failures")) return test.skip();
      const mine = newSpec({ image: "agent-launchpad-contract.invalid/none:1", replicas: 1 });
      const mineRef = own.at(-1)!;
      const failure = await orchestrator.deploy(mine, signal).then(
        async () =>
          (await until(() => inspect(mineRef), ({ failure }) => failure !== null)).failure!,
        (error: OrchestratorError) => error,
      );
      expect(["DEPLOYMENT_FAILED", "UPSTREAM_UNAVAILABLE"]).toContain(failure.code);
      expect(["image_not_found", "registry_unreachable"]).toContain(failure.details["reason"]);
      await orchestrator.remove(mineRef, signal);
      expect(await rig.count(mine.name)).toBe(0);
    });

    it("says that the credential was refused, without showing it", async () => {
      const credential = "ptr_wrong-credential";
      const refused = createOrchestrator({ ...rig.cluster, credential });
      const error = await refused.deploy(newSpec(), signal).then(() => null, (thrown) => thrown);
      expect(error).toMatchObject({
        code: "DEPLOYMENT_FAILED",
        retryable: false,
        details: { reason: "unauthorized" },
      });
      expect(JSON.stringify(error) + error.message).not.toContain(credential);
    });
  });
}
