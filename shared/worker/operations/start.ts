import { bringUpToDate } from "./bring-up-to-date.ts";
import { deployWorkload, ensureWorkload } from "./ensure.ts";
import { isUpToDate } from "./rollout.ts";
import { done, type Procedure, type Step, waiting } from "./step.ts";
import { verifyRollout } from "./verify-rollout.ts";

const startContainers: Step = {
  name: "start_containers",
  applies: true,
  run: async (work) => {
    const state = await ensureWorkload(work);
    if (state === null) return waiting("the stack to appear");
    if (state.status === "inactive") {
      await work.act("start", () => work.upstream.start(work.ref, work.spec, work.signal));
    } else if (!isUpToDate(state, work)) {
      await bringUpToDate(work);
    } else if (state.status === "failed" && work.step.detail?.call === undefined) {
      // One that failed in an earlier operation gets another chance, once.
      await deployWorkload(work);
    }
    return done;
  },
};

export const start: Procedure = {
  steps: [startContainers, verifyRollout("verify_health", { maybeStopped: false })],
  result: (work) => ({ replicas: work.spec.replicas }),
};
