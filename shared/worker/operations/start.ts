import { ensureWorkload } from "./ensure.ts";
import { done, type Procedure, type Step, waiting } from "./step.ts";
import { verifyRollout } from "./verify-rollout.ts";

const startContainers: Step = {
  name: "start_containers",
  run: async (work) => {
    const state = await ensureWorkload(work);
    if (state === null) return waiting("the stack to appear");
    if (state.status !== "inactive") return done;
    await work.about("start");
    await work.upstream.start(work.ref, work.spec, work.signal);
    return done;
  },
};

export const start: Procedure = {
  steps: [startContainers, verifyRollout("verify_health", { maybeStopped: false })],
  result: (work) => ({ replicas: work.spec.replicas }),
};
