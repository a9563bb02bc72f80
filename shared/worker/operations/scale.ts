import { ensureWorkload } from "./ensure.ts";
import { validateConfiguration } from "./prepare.ts";
import { done, type Procedure, type Step, waiting } from "./step.ts";
import { mayStillBeWorking } from "./unsettled-call.ts";
import { verifyRollout } from "./verify-rollout.ts";

const scaleContainers: Step = {
  name: "scale_containers",
  run: async (work) => {
    const state = await ensureWorkload(work);
    if (state === null) return waiting("the stack to appear");
    if (state.desired === work.spec.replicas && state.revision === work.spec.revision) return done;
    if (mayStillBeWorking(work, "scale")) return waiting("the scaling to come through");
    await work.about("scale");
    await work.upstream.scale(work.ref, work.spec, work.signal);
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
