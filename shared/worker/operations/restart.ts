import { ensureWorkload } from "./ensure.ts";
import { done, type Procedure, type Step, waiting } from "./step.ts";
import { verifyRollout } from "./verify-rollout.ts";

/** Repeating it under the operation's id leaves alone what has restarted for it already. */
const restartContainers: Step = {
  name: "restart_containers",
  run: async (work) => {
    if (await ensureWorkload(work) === null) return waiting("the stack to appear");
    const { id, created_at: requestedAt } = work.plan.operation;
    await work.about("restart");
    await work.upstream.restart(work.ref, work.spec, work.signal, { id, requestedAt });
    return done;
  },
};

export const restart: Procedure = {
  steps: [restartContainers, verifyRollout("verify_health", { maybeStopped: false })],
  result: (work) => ({ restart_policy: work.spec.strategy }),
};
