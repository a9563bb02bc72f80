import type { WorkloadState } from "../../orchestrators/types.ts";
import type { Work } from "./step.ts";
import { mayStillBeWorking } from "./unsettled-call.ts";

/**
 * The workload as it is. Where there is none it is created: the first time, and again when somebody removed it
 * behind our back. Null while a creation that was cut off may still come through.
 */
export async function ensureWorkload(work: Work): Promise<WorkloadState | null> {
  const found = await work.look();
  if (found !== null) return found;
  if (mayStillBeWorking(work, "deploy")) return null;
  return await deployWorkload(work);
}

/** Creates the workload, or brings the one that is there to the specification. */
export async function deployWorkload(work: Work): Promise<WorkloadState | null> {
  work.placed(await work.act("deploy", () => work.upstream.deploy(work.spec, work.signal)));
  return await work.look();
}
