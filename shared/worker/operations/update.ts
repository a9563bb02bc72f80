import { ensureWorkload } from "./ensure.ts";
import { createContainerTemplate, validateConfiguration } from "./prepare.ts";
import { done, type Procedure, type Step, waiting } from "./step.ts";
import { mayStillBeWorking } from "./unsettled-call.ts";
import { verifyRollout } from "./verify-rollout.ts";

const updateContainers: Step = {
  name: "update_containers",
  run: async (work) => {
    const state = await ensureWorkload(work);
    if (state === null) return waiting("the stack to appear");
    if (state.revision === work.spec.revision) return done;
    if (mayStillBeWorking(work, "update")) return waiting("the update to come through");
    await work.about("update");
    await work.upstream.update(work.ref, work.spec, work.signal);
    return done;
  },
};

export const update: Procedure = {
  steps: [
    validateConfiguration,
    createContainerTemplate,
    updateContainers,
    verifyRollout("verify_health", { maybeStopped: true }),
  ],
  result: (work) => ({ revision: work.spec.revision }),
};
