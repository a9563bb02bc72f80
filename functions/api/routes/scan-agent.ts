import { scanAgentBody } from "../../../shared/contract/agent-requests.ts";
import { parseInput } from "../../../shared/contract/validation.ts";
import { runAsCaller } from "../../../shared/database/caller.ts";
import { sqlText } from "../../../shared/database/literal.ts";
import { presentScan, type ScanFacts } from "../presenters/security-scan.ts";
import { defineRoute } from "../route.ts";
import { agentId } from "./ids.ts";

/** Most scans are done by then; of those that are not the answer says QUEUED or RUNNING. */
const PATIENCE_MS = 5000;
const PAUSE_MS = 250;

/**
 * `POST /api/security/scan/{id}`: the worker scans, the request waits a few seconds for it. Asked
 * again, it answers with the same scan, finished by then.
 */
export const handler = defineRoute({
  input: ({ params, body }) => ({ id: agentId(params), ...parseInput(scanAgentBody, body) }),
  statement: ({ id, force }) => sqlText`select public.scan_agent(${id}::uuid,${force}) as result`,
  settle: async (result: ScanFacts, { sql, caller, request, scanPatienceMs }) => {
    const until = performance.now() + (scanPatienceMs ?? PATIENCE_MS);
    let scan = result;
    while (scan.finished_at === null && performance.now() < until) {
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      const look = sqlText`select public.security_scan(${scan.id}::uuid) as result`;
      scan = await runAsCaller(sql, caller, request, look, { repeatable: true });
    }
    return scan;
  },
  facts: (result: ScanFacts) => result,
  present: presentScan,
  status: 200,
  wakesWorker: true,
});
