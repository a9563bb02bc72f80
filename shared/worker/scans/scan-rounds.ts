import type { Sql } from "postgres";
import { OrchestratorError } from "../../orchestrators/errors.ts";
import type { ClusterConnection, Orchestrator, WorkloadRef } from "../../orchestrators/types.ts";
import type { Log } from "../log.ts";
import { clusterOf, type StoredCluster } from "../queue.ts";
import { createRounds } from "../rounds.ts";
import { assess } from "./assess.ts";

export interface ScanRoundsOptions {
  /** Connection as the role that owns the migrations. */
  sql: Sql;
  orchestratorFor: (cluster: ClusterConnection) => Orchestrator;
  log: Log;
}

/** Longer than a scan may take, so that no other worker takes it up meanwhile. */
const LEASE_SECONDS = 120;
const SCAN_TIMEOUT_MS = 110_000;
const AT_ONCE = 2;

/** A claimed scan with all it needs. Holds a secret: never logged. */
interface ClaimedScan {
  scan_id: string;
  agent_id: string;
  lease_token: string;
  deployment: { stack_id: string | null; stack_name: string; namespace: string | null };
  cluster: StoredCluster | null;
  scanner_image: string;
}

/** Carries out the security scans that are due, until none is left. */
export function createScanRounds(options: ScanRoundsOptions): () => Promise<void> {
  const { sql, orchestratorFor, log } = options;

  async function carryOut(scan: ClaimedScan): Promise<void> {
    const { scan_id: id, lease_token: token } = scan;
    try {
      const result = assess(await examine(scan));
      await sql`select private.complete_security_scan(${id}, ${token}, ${
        sql.json(result as unknown as Parameters<Sql["json"]>[0])
      })`;
    } catch (error) {
      const failure = failureOf(error);
      log("warn", "security scan attempt failed", {
        scan_id: id,
        agent_id: scan.agent_id,
        code: failure.code,
        reason: error instanceof OrchestratorError ? String(error.details.reason) : "unknown",
      });
      await sql`select private.fail_security_scan(${id}, ${token}, ${
        sql.json({ code: failure.code, message: failure.message })
      }, ${failure.retryable})`;
    }
  }

  async function examine(scan: ClaimedScan) {
    if (scan.cluster === null) {
      throw new OrchestratorError(
        "DEPLOYMENT_FAILED",
        "The agent's cluster is not connected any more",
        { retryable: false, details: { reason: "cluster_missing" } },
      );
    }
    const orchestrator = orchestratorFor(clusterOf(scan.cluster));
    const { stack_id, stack_name, namespace } = scan.deployment;
    const ref: WorkloadRef = {
      agentId: scan.agent_id,
      name: stack_name,
      stackId: stack_id,
      namespace,
    };
    const request = { id: scan.scan_id, scannerImage: scan.scanner_image };
    const found = await orchestrator.examine?.(ref, request, AbortSignal.timeout(SCAN_TIMEOUT_MS));
    if (found) return found;
    throw new OrchestratorError("DEPLOYMENT_FAILED", "The agent has no containers to scan", {
      retryable: false,
      details: { reason: "workload_missing" },
    });
  }

  async function round(): Promise<void> {
    for (;;) {
      const rows = await sql<{ scan: ClaimedScan }[]>`
        select scan from private.claim_security_scans(${AT_ONCE}, ${LEASE_SECONDS}) scan
      `;
      if (rows.length === 0) return;
      await Promise.all(rows.map(({ scan }) => carryOut(scan)));
    }
  }

  return createRounds(log, "security scans could not be carried out", round);
}

function failureOf(error: unknown): { code: string; message: string; retryable: boolean } {
  if (error instanceof OrchestratorError) {
    return { code: error.code, message: error.message, retryable: error.retryable };
  }
  // Its words could quote what the cluster said.
  return { code: "INTERNAL_ERROR", message: "The scan went wrong", retryable: true };
}
