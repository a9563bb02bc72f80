import { bringUpToDate } from "./bring-up-to-date.ts";
import { ensureWorkload } from "./ensure.ts";
import { validateConfiguration } from "./prepare.ts";
import { isUpToDate } from "./rollout.ts";
import { done, type Procedure, type Step, waiting, type Work } from "./step.ts";
import { mayStillBeWorking } from "./unsettled-call.ts";
import { verifyRollout } from "./verify-rollout.ts";

/**
 * Whether the agent differs from what runs by its replicas and its policy alone. Asking for others counts its generation up
 * once; more than that is a change made since, which scaling would mark as rolled out without rolling it out.
 */
function changesScaleOnly({ plan, spec }: Work): boolean {
  const { from_replicas: from, to_replicas: to, policy_changed: policy } = plan.operation.request;
  const generations = spec.revision - (plan.deployment.observed_generation ?? 0);
  return generations === 0 || (generations === 1 && (from !== to || policy === true));
}

const scaleContainers: Step = {
  name: "scale_containers",
  applies: true,
  run: async (work) => {
    const state = await ensureWorkload(work);
    if (state === null) return waiting("the stack to appear");
    const { desired } = state.candidate ?? state;
    if (desired === work.spec.replicas && isUpToDate(state, work)) return done;
    if (mayStillBeWorking(work, "scale")) return waiting("the scaling to come through");
    if (!changesScaleOnly(work)) {
      await bringUpToDate(work);
      return done;
    }
    await work.act("scale", () => work.upstream.scale(work.ref, work.spec, work.signal));
    return done;
  },
};

export const scale: Procedure = {
  steps: [
    validateConfiguration,
    scaleContainers,
    verifyRollout("verify_replicas", { maybeStopped: true }),
  ],
  result: (work) => ({ replicas: work.spec.replicas }),
};
