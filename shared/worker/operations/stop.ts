import { done, type Procedure, type Step, waiting } from "./step.ts";

const stopContainers: Step = {
  name: "stop_containers",
  run: async (work) => {
    const state = await work.look();
    if (state === null || state.status === "inactive") return done;
    await work.act("stop", () => work.upstream.stop(work.ref, work.signal));
    return done;
  },
};

const verifyStopped: Step = {
  name: "verify_stopped",
  run: async (work) => {
    const state = await work.look();
    return state === null || state.status === "inactive" ? done : waiting("the containers to stop");
  },
};

export const stop: Procedure = {
  steps: [stopContainers, verifyStopped],
  result: () => ({ replicas: 0 }),
};
