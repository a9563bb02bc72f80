import type { WorkloadState } from "../../orchestrators/types.ts";
import type { Work } from "./step.ts";
import { mayStillBeWorking } from "./unsettled-call.ts";

/**
 * Creates the workload where there is none: the first time, and again when somebody removed it behind our back.
 * Gives its state, or null while a creation that was cut off may still come through.
 */
export async function ensureWorkload(work: Work): Promise<WorkloadState | null> {
  const found = await work.look();
  if (found !== null) return found;
  if (mayStillBeWorking(work, "deploy")) return null;
  await work.about("deploy");
  work.placed(await work.upstream.deploy(work.spec, work.signal));
  return await work.look();
}
