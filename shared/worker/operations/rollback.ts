import { bringUpToDate } from "./bring-up-to-date.ts";
import { deployWorkload, ensureWorkload } from "./ensure.ts";
import { createContainerTemplate, validateConfiguration } from "./prepare.ts";
import { isUpToDate } from "./rollout.ts";
import { done, type Procedure, type Step, waiting, type Work } from "./step.ts";
import { mayStillBeWorking } from "./unsettled-call.ts";
import { verifyRollout } from "./verify-rollout.ts";

/** The database has made the agent again what it was; this brings it to the cluster, whatever the failure left there. */
const updateContainers: Step = {
  name: "update_containers",
  applies: true,
  run: async (work) => {
    if (await isStillChanged(work)) return waiting("a change that was cut off");
    const state = await ensureWorkload(work);
    if (state === null) return waiting("the stack to appear");
    if (!isUpToDate(state, work)) {
      if (mayStillBeWorking(work, "update")) return waiting("the update to come through");
      await bringUpToDate(work);
    } else if (state.status === "failed" && work.step.detail?.call === undefined) {
      // One that failed in an earlier operation gets another chance, once.
      await deployWorkload(work);
    }
    const brought = await work.look();
    if (brought?.status === "inactive") {
      await work.act("start", () => work.upstream.start(work.ref, work.spec, work.signal));
    }
    return done;
  },
};

/** An update that was given up while its call was under way may go on without us, and would undo what comes before its end. */
async function isStillChanged(work: Work): Promise<boolean> {
  const cutOff = await work.cutOffCall();
  return cutOff !== null &&
    work.clock.now() < cutOff.getTime() + work.settings.settleSeconds * 1000;
}

export const rollback: Procedure = {
  steps: [
    validateConfiguration,
    createContainerTemplate,
    updateContainers,
    verifyRollout("verify_health", { maybeStopped: false }),
  ],
  result: ({ plan }) => ({ restored_from: plan.operation.request.to_revision }),
};
