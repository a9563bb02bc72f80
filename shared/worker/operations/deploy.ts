import { ensureWorkload } from "./ensure.ts";
import { createContainerTemplate, validateConfiguration } from "./prepare.ts";
import { rollout } from "./rollout.ts";
import { type Procedure, type Step, waiting } from "./step.ts";

const deployToPortainer: Step = {
  name: "deploy_to_portainer",
  run: async (work) => {
    let state = await ensureWorkload(work);
    if (state !== null && state.status === "inactive") {
      await work.about("start");
      await work.upstream.start(work.ref, work.spec, work.signal);
      state = await work.look();
    }
    return state === null ? waiting("the stack to appear") : rollout(work, state);
  },
};

/** The collector watches it from here on; the state it starts from is a look at the finished rollout. */
const setupMonitoring: Step = {
  name: "setup_monitoring",
  run: async (work) => {
    const state = await work.lately();
    return state === null ? waiting("the stack to appear") : rollout(work, state);
  },
};

export const deploy: Procedure = {
  steps: [validateConfiguration, createContainerTemplate, deployToPortainer, setupMonitoring],
  result: (work) => ({ replicas: work.spec.replicas, revision: work.spec.revision }),
};
