/** A worker of its own process that deploys one spec, so that a test can kill it on the way. */
import { createOrchestrator } from "../../shared/orchestrators/create.ts";

const { cluster, spec } = JSON.parse(Deno.args[0]!);
await createOrchestrator(cluster).deploy(spec, AbortSignal.timeout(60_000));
console.log("deployed");
