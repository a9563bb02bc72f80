import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { createOrchestrator } from "../../shared/orchestrators/create.ts";
import type {
  ContainerState,
  Orchestrator,
  Strategy,
  WorkloadRef,
  WorkloadSpec,
  WorkloadState,
} from "../../shared/orchestrators/types.ts";
import { until } from "../support/until.ts";
import { intercept, type Rig, specFor } from "./rig.ts";

/** How each engine brings a change to what runs. `open` as in the contract. */
export function describeStrategies(title: string, open: () => Promise<Rig>): void {
  describe(`strategies on ${title}`, () => {
    let rig: Rig;
    let orchestrator: Orchestrator;
    const own: WorkloadRef[] = [];
    const { signal } = new AbortController();

    beforeAll(async () => {
      rig = await open();
      orchestrator = createOrchestrator(rig.cluster);
    });

    afterAll(async () => {
      for (const one of own) await orchestrator.remove(one, signal);
      await rig.close();
    });

    async function deploy(changes: Partial<WorkloadSpec>) {
      const spec = specFor(rig, changes);
      own.push({ agentId: spec.agentId, name: spec.name, stackId: null, namespace: null });
      const ref = await orchestrator.deploy(spec, signal);
      const state = await until(() => inspect(ref), ({ settled }) => settled);
      return { spec, ref, state };
    }

    async function inspect(ref: WorkloadRef): Promise<WorkloadState> {
      const state = await orchestrator.inspect(ref, signal);
      if (!state) throw new Error("there is no such workload");
      return state;
    }

    const idsOf = (containers: ContainerState[]) => containers.map(({ id }) => id).sort();
    const reached = ({ containers }: WorkloadState) =>
      containers.filter(({ candidate }) => !candidate);
    const isReady = ({ status, health }: ContainerState) =>
      status === "running" && (health === null || health === "healthy");

    /** The next revision, which differs from the one before in what its containers are told. */
    function next(spec: WorkloadSpec, changes: Partial<WorkloadSpec> = {}): WorkloadSpec {
      const revision = spec.revision + 1;
      const environment = { ...spec.environment, REVISION: String(revision) };
      return { ...spec, environment, revision, ...changes };
    }

    /** Goes on until the update is through, as the worker does. */
    async function finish(
      ref: WorkloadRef,
      spec: WorkloadSpec,
      seen: (state: WorkloadState) => void = () => {},
    ): Promise<WorkloadState> {
      return await until(
        async () => {
          const state = await inspect(ref);
          seen(state);
          if (state.candidate?.settled) await orchestrator.promote(ref, spec, signal);
          return state;
        },
        (state) => state.settled && state.revision === spec.revision,
      );
    }

    async function update(ref: WorkloadRef, spec: WorkloadSpec): Promise<WorkloadState> {
      await orchestrator.update(ref, spec, signal);
      return await finish(ref, spec);
    }

    /** Calls until the promise settles, and once more. */
    async function during(work: Promise<unknown>, look: () => Promise<void>): Promise<void> {
      let over = false;
      const end = work.finally(() => over = true);
      while (!over) {
        await look();
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      await end;
      await look();
    }

    /** Breaks the connection after so many changes, as a kill at this moment would. */
    async function cutShort(
      after: number,
      act: (impatient: Orchestrator) => Promise<void>,
    ): Promise<boolean> {
      let changes = 0;
      const impatient = createOrchestrator(rig.cluster, {
        fetch: intercept(async (method, _path, forward) => {
          if (method === "GET") return await forward();
          if (changes === after) throw new TypeError("the connection broke");
          changes++;
          return await forward();
        }, rig.fetch),
      });
      return await act(impatient).then(() => false, () => true);
    }

    it("rolling keeps all but one of the replicas ready", async () => {
      const { spec, ref, state } = await deploy({ replicas: 3 });
      const changed = next(spec);
      let fewest = 3;
      await orchestrator.update(ref, changed, signal);
      const after = await finish(ref, changed, ({ containers }) => {
        fewest = Math.min(fewest, containers.filter(isReady).length);
      });
      expect(after).toMatchObject({ ready: 3, desired: 3, candidate: null });
      expect(fewest).toBeGreaterThanOrEqual(2);
      expect(idsOf(after.containers).filter((id) => idsOf(state.containers).includes(id)))
        .toEqual([]);
    });

    it("recreate never runs both revisions at once", async () => {
      const { spec, ref } = await deploy({ strategy: "recreate" });
      const old = new Set(await rig.running(spec.name));
      const changed = next(spec);
      const mixed: string[][] = [];
      await during(update(ref, changed), async () => {
        const ids = await rig.running(spec.name);
        const fresh = ids.filter((id) => !old.has(id));
        if (fresh.length > 0 && fresh.length < ids.length) mixed.push(ids);
      });
      expect(mixed).toEqual([]);
      expect(await inspect(ref)).toMatchObject({ ready: 2, revision: 2, candidate: null });
    });

    describe("blue-green", () => {
      const strategy: Strategy = "blue-green";
      let spec: WorkloadSpec;
      let ref: WorkloadRef;
      let before: WorkloadState;

      beforeEach(async () => {
        ({ spec, ref, state: before } = await deploy({}));
      });

      const settledCandidate = () =>
        until(() => inspect(ref), ({ candidate }) => candidate?.settled === true);

      it("touches nothing of what runs until it is promoted, and then takes over as it is", async () => {
        const changed = next(spec, { strategy });
        const seen: { ids: string[]; ready: number; url: string | null }[] = [];
        await during(
          orchestrator.update(ref, changed, signal).then(settledCandidate),
          async () => {
            const state = await inspect(ref);
            seen.push({ ids: idsOf(reached(state)), ready: state.ready, url: state.url });
          },
        );
        const untouched = { ids: idsOf(before.containers), ready: 2, url: before.url };
        for (const one of seen) expect(one).toEqual(untouched);

        const both = await inspect(ref);
        expect(both).toMatchObject({
          revision: 1,
          desired: 2,
          settled: false,
          failure: null,
          candidate: { revision: 2, desired: 2, ready: 2, settled: true, failure: null },
        });
        expect(both.services).toHaveLength(2);
        const fresh = idsOf(both.containers.filter(({ candidate }) => candidate));
        expect(fresh).toHaveLength(2);

        await orchestrator.promote(ref, changed, signal);
        await orchestrator.promote(ref, changed, signal);
        const after = await until(() => inspect(ref), ({ settled }) => settled);
        expect(after).toMatchObject({ revision: 2, desired: 2, ready: 2, candidate: null });
        expect(idsOf(after.containers)).toEqual(fresh);
        expect(after.services).toHaveLength(1);
        await until(() => rig.running(spec.name), (ids) => ids.length === 2);
        expect((await rig.running(spec.name)).sort()).toEqual(fresh);
      });

      it("asked again changes nothing", async () => {
        const changed = next(spec, { strategy });
        await orchestrator.update(ref, changed, signal);
        const once = await settledCandidate();
        await orchestrator.update(ref, changed, signal);
        expect(idsOf((await settledCandidate()).containers)).toEqual(idsOf(once.containers));
      });

      it("gives way to another revision before it was promoted", async () => {
        await orchestrator.update(ref, next(spec, { strategy }), signal);
        await settledCandidate();
        const second = next(next(spec), { strategy });
        await orchestrator.update(ref, second, signal);
        const state = await until(
          () => inspect(ref),
          ({ candidate }) => candidate?.revision === 3 && candidate.settled,
        );
        expect(idsOf(reached(state))).toEqual(idsOf(before.containers));
        expect(await finish(ref, second)).toMatchObject({ revision: 3, ready: 2 });
      });

      it("goes over and over, and from and to the other strategies", async () => {
        let last = spec;
        for (
          const one of ["blue-green", "blue-green", "rolling", "blue-green", "recreate"] as const
        ) {
          last = next(last, { strategy: one });
          expect(await update(ref, last), `${last.revision} ${one}`)
            .toMatchObject({ revision: last.revision, ready: 2, candidate: null });
        }
        await until(() => rig.running(spec.name), (ids) => ids.length === 2);
      });

      it("keeps what runs when the new set does not become ready, and the way back only takes that away", async (test) => {
        if (rig.lacks.has("image failures")) return test.skip();
        await orchestrator.update(ref, next(spec, { strategy, ...rig.broken }), signal);
        const failed = await until(
          () => inspect(ref),
          ({ candidate }) => candidate?.failure != null,
        );
        expect(failed).toMatchObject({ ready: 2, revision: 1, failure: null });
        expect(idsOf(reached(failed))).toEqual(idsOf(before.containers));

        const back = { ...spec, revision: 3 };
        await orchestrator.update(ref, back, signal);
        const after = await until(() => inspect(ref), ({ settled }) => settled);
        expect(after).toMatchObject({ revision: 3, ready: 2, candidate: null, url: before.url });
        expect(idsOf(after.containers)).toEqual(idsOf(before.containers));
        await until(() => rig.running(spec.name), (ids) => ids.length === 2);
      });

      it("is given up without a trace, wherever giving it up is cut off", async () => {
        let last = spec;
        for (let after = 0, cut = true; cut && after < 6; after++) {
          last = next(last, { strategy });
          await orchestrator.update(ref, last, signal);
          await settledCandidate();
          cut = await cutShort(after, (one) => one.abandon(ref, signal));
          await orchestrator.abandon(ref, signal);
          const state = await until(() => inspect(ref), ({ settled }) => settled);
          expect(state, `cut off after ${after}`).toMatchObject({
            revision: 1,
            ready: 2,
            candidate: null,
            url: before.url,
          });
          expect(idsOf(state.containers)).toEqual(idsOf(before.containers));
          await until(() => rig.running(spec.name), (ids) => ids.length === 2);
        }
      });

      it("is finished by a second call wherever the first was cut off", async () => {
        let last = spec;
        for (let after = 0, cut = true; cut && after < 12; after++) {
          const changed = last = next(last, { strategy });
          const old = idsOf((await inspect(ref)).containers);
          const brought = await cutShort(after, (one) => one.update(ref, changed, signal));
          await orchestrator.update(ref, changed, signal);
          const both = await settledCandidate();
          expect(idsOf(reached(both)), `update cut off after ${after}`).toEqual(old);
          const moved = await cutShort(after, (one) => one.promote(ref, changed, signal));
          await orchestrator.promote(ref, changed, signal);
          const state = await until(() => inspect(ref), ({ settled }) => settled);
          expect(idsOf(state.containers), `promote cut off after ${after}`)
            .toEqual(idsOf(both.containers.filter(({ candidate }) => candidate)));
          await until(() => rig.running(spec.name), (ids) => ids.length === 2);
          cut = brought || moved;
        }
      });

      it("leaves a workload that scales, restarts, stops, starts and goes as any other", async () => {
        let now = next(spec, { strategy });
        const first = await update(ref, now);

        now = { ...now, replicas: 3, revision: 3 };
        await orchestrator.scale(ref, now, signal);
        const scaled = await finish(ref, now);
        expect(scaled).toMatchObject({ desired: 3, ready: 3 });
        expect(idsOf(scaled.containers)).toEqual(expect.arrayContaining(idsOf(first.containers)));

        const lives = ({ containers }: WorkloadState) =>
          containers.map(({ id, startedAt }) => `${id} ${startedAt}`);
        const request = { id: crypto.randomUUID(), requestedAt: new Date().toISOString() };
        await orchestrator.restart(ref, now, signal, request);
        const restarted = await until(
          () => inspect(ref),
          (state) => state.settled && !lives(state).some((life) => lives(scaled).includes(life)),
        );
        expect(restarted.ready).toBe(3);

        await orchestrator.stop(ref, signal);
        await until(
          () => inspect(ref),
          ({ settled, containers }) => settled && containers.length === 0,
        );
        await orchestrator.start(ref, now, signal);
        expect(await finish(ref, now)).toMatchObject({ status: "active", ready: 3 });

        await orchestrator.remove(ref, signal);
        await until(() => orchestrator.inspect(ref, signal), (state) => state === null);
        await until(() => rig.running(spec.name), (ids) => ids.length === 0);
      });

      it("a stop takes the new set along, and what starts is what was asked for last", async () => {
        const changed = next(spec, { strategy });
        await orchestrator.update(ref, changed, signal);
        await orchestrator.stop(ref, signal);
        const stopped = await until(
          () => inspect(ref),
          ({ settled, containers }) => settled && containers.length === 0,
        );
        expect(stopped).toMatchObject({ status: "inactive", candidate: null });
        await orchestrator.start(ref, changed, signal);
        expect(await finish(ref, changed)).toMatchObject({ revision: 2, ready: 2 });
      });

      it("a scaling takes a new set away that nobody waits for", async () => {
        await orchestrator.update(ref, next(spec, { strategy }), signal);
        const scaled = { ...spec, replicas: 3, revision: 3 };
        await orchestrator.scale(ref, scaled, signal);
        const after = await finish(ref, scaled);
        expect(after).toMatchObject({ desired: 3, ready: 3, candidate: null });
        expect(idsOf(after.containers)).toEqual(expect.arrayContaining(idsOf(before.containers)));
      });
    });
  });
}
