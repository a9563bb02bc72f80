import type { Work } from "./step.ts";

/** Brings the workload to what the agent is now. What comes of it, a candidate for instance, is `rollout`'s to say. */
export async function bringUpToDate(work: Work): Promise<void> {
  await work.act("update", () => work.upstream.update(work.ref, work.spec, work.signal));
}
