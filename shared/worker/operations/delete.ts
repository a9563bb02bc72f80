import { done, type Procedure, type Step, waiting, type Work } from "./step.ts";

export const removeContainers: Step = {
  name: "remove_containers",
  run: async (work) => {
    // Also when nothing is to be seen: what was cut off can have left things that are no workload, secrets among them.
    await work.act("remove", () => work.upstream.remove(work.ref, work.signal));
    return done;
  },
};

export const verifyRemoved: Step = {
  name: "verify_removed",
  run: async (work) => {
    if (await work.look() !== null) {
      await work.act("remove", () => work.upstream.remove(work.ref, work.signal));
      if (await work.look() !== null) return waiting("the containers to go");
    }
    return await mayStillAppear(work) ? waiting("a creation that was cut off") : done;
  },
};

/**
 * A creation that this deletion cut short goes on in Portainer without us. Believing too early that nothing is
 * there would leave a stack that belongs to nobody.
 */
async function mayStillAppear(work: Work): Promise<boolean> {
  const cutOff = await work.cutOffCall();
  return cutOff !== null &&
    work.clock.now() < cutOff.getTime() + work.settings.removalSettleSeconds * 1000;
}

export const remove: Procedure = {
  steps: [removeContainers, verifyRemoved],
  result: () => ({ removed: true }),
};
