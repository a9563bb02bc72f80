import { ensureWorkload } from "./ensure.ts";
import { done, type Procedure, type Step, waiting } from "./step.ts";
import { bringUpToDate } from "./update.ts";
import { verifyRollout } from "./verify-rollout.ts";

/** Repeating it under the operation's id leaves alone what has restarted for it already. */
const restartContainers: Step = {
  name: "restart_containers",
  applies: true,
  run: async (work) => {
    const state = await ensureWorkload(work);
    if (state === null) return waiting("the stack to appear");
    if (state.revision !== work.spec.revision) await bringUpToDate(work);
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
