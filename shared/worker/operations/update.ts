import { ensureWorkload } from "./ensure.ts";
import { createContainerTemplate, validateConfiguration } from "./prepare.ts";
import { done, type Procedure, type Step, waiting, type Work } from "./step.ts";
import { mayStillBeWorking } from "./unsettled-call.ts";
import { verifyRollout } from "./verify-rollout.ts";

/** Also what another operation does that finds the agent changed beyond what it was asked for. */
export async function bringUpToDate(work: Work): Promise<void> {
  await work.act("update", () => work.upstream.update(work.ref, work.spec, work.signal));
}

const updateContainers: Step = {
  name: "update_containers",
  applies: true,
  run: async (work) => {
    const state = await ensureWorkload(work);
    if (state === null) return waiting("the stack to appear");
    if (state.revision === work.spec.revision) return done;
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
