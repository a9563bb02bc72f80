import { rollout } from "./rollout.ts";
import { done, type Step, waiting } from "./step.ts";

/**
 * Waits until as many replicas as wanted are ready.
 *
 * @param maybeStopped whether the operation leaves a stopped workload stopped: then there is nothing to wait for
 */
export function verifyRollout(name: string, { maybeStopped }: { maybeStopped: boolean }): Step {
  return {
    name,
    run: async (work) => {
      const state = await work.look();
      if (state === null) return waiting("the stack to appear");
      return maybeStopped && state.status === "inactive" ? done : await rollout(work, state);
    },
  };
}
