import { deployWorkload, ensureWorkload } from "./ensure.ts";
import { createContainerTemplate, validateConfiguration } from "./prepare.ts";
import { isUpToDate, rollout } from "./rollout.ts";
import { type Procedure, type Step, waiting } from "./step.ts";
import { mayStillBeWorking } from "./unsettled-call.ts";

export const deployToPortainer: Step = {
  name: "deploy_to_portainer",
  applies: true,
  run: async (work) => {
    let state = await ensureWorkload(work);
    if (state === null) return waiting("the stack to appear");
    const outdated = !isUpToDate(state, work);
    // What is there is what it replaces: how that fares is nothing to judge it by.
    if (outdated && mayStillBeWorking(work, "deploy")) return waiting("the change to come through");
    // One that failed in an earlier operation gets another chance, once.
    if (outdated || (state.status === "failed" && work.step.detail?.call === undefined)) {
      state = await deployWorkload(work);
    }
    if (state?.status === "inactive") {
      await work.act("start", () => work.upstream.start(work.ref, work.spec, work.signal));
      state = await work.look();
    }
    return state === null ? waiting("the stack to appear") : await rollout(work, state);
  },
};

/** The collector watches it from here on; the state it starts from is a look at the finished rollout. */
const setupMonitoring: Step = {
  name: "setup_monitoring",
  run: async (work) => {
    const state = await work.lately();
    return state === null ? waiting("the stack to appear") : await rollout(work, state);
  },
};

export const deploy: Procedure = {
  steps: [validateConfiguration, createContainerTemplate, deployToPortainer, setupMonitoring],
  result: (work) => ({ replicas: work.spec.replicas, revision: work.spec.revision }),
};
