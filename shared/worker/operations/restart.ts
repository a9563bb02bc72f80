import type { WorkloadState } from "../../orchestrators/types.ts";
import { bringUpToDate } from "./bring-up-to-date.ts";
import { ensureWorkload } from "./ensure.ts";
import { isUpToDate, rollout } from "./rollout.ts";
import { done, type Procedure, type Step, waiting, type Work } from "./step.ts";
import { verifyRollout } from "./verify-rollout.ts";

async function bring(work: Work): Promise<WorkloadState | null> {
  await bringUpToDate(work);
  return await work.look();
}

/** Repeating it under the operation's id leaves alone what has restarted for it already. */
const restartContainers: Step = {
  name: "restart_containers",
  applies: true,
  run: async (work) => {
    const state = await ensureWorkload(work);
    if (state === null) return waiting("the stack to appear");
    const brought = isUpToDate(state, work) ? state : await bring(work);
    if (brought?.candidate) {
      // What is restarted is what is reached.
      const taken = await rollout(work, brought);
      if (taken.is === "waiting") return taken;
    }
    const { id, created_at: requestedAt } = work.plan.operation;
    await work.act(
      "restart",
      () => work.upstream.restart(work.ref, work.spec, work.signal, { id, requestedAt }),
    );
    return done;
  },
};

export const restart: Procedure = {
  steps: [restartContainers, verifyRollout("verify_health", { maybeStopped: false })],
  result: (work) => ({ restart_policy: work.spec.strategy }),
};
