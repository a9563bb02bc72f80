import { bringUpToDate } from "./bring-up-to-date.ts";
import { ensureWorkload } from "./ensure.ts";
import { createContainerTemplate, validateConfiguration } from "./prepare.ts";
import { isUpToDate } from "./rollout.ts";
import { done, type Procedure, type Step, waiting } from "./step.ts";
import { mayStillBeWorking } from "./unsettled-call.ts";
import { verifyRollout } from "./verify-rollout.ts";

const updateContainers: Step = {
  name: "update_containers",
  applies: true,
  run: async (work) => {
    const state = await ensureWorkload(work);
    if (state === null) return waiting("the stack to appear");
    if (isUpToDate(state, work)) return done;
    if (mayStillBeWorking(work, "update")) return waiting("the update to come through");
    await bringUpToDate(work);
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
  result: () => ({}),
};
