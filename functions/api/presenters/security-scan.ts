import type { Json, JsonObject } from "../../../shared/contract/editions.ts";
import { isoTime } from "../../../shared/contract/times.ts";
import type { Presenter, Presenters } from "./presenter.ts";

/** A row of `security_scans`. */
export interface ScanFacts {
  id: string;
  agent_id: string;
  user_id: string;
  state: string;
  passed: boolean | null;
  /** Null when nobody scanned the images; `unavailable_reason` says why. */
  vulnerabilities: { critical: number; high: number; medium: number; low: number } | null;
  scanner: string | null;
  unavailable_reason: string | null;
  containers_examined: number | null;
  findings: Json;
  recommendations: string[];
  supabase_compliance: JsonObject | null;
  event_id: string | null;
  error: JsonObject | null;
  finished_at: string | null;
}

function scan1(scan: ScanFacts): JsonObject {
  return {
    agentId: scan.agent_id,
    scanId: scan.id,
    status: scan.state.toUpperCase(),
    results: scan.state !== "completed" ? null : {
      passed: scan.passed,
      vulnerabilities: scan.vulnerabilities,
      vulnerability_scan: scan.vulnerabilities === null
        ? { status: "UNAVAILABLE", reason: scan.unavailable_reason }
        : { status: "COMPLETED", scanner: scan.scanner },
      containers_examined: scan.containers_examined,
      findings: scan.findings,
      recommendations: scan.recommendations,
    },
    ...(scan.error === null ? {} : { error: scan.error }),
    scannedAt: isoTime(scan.finished_at),
  };
}

const scan2: Presenter<ScanFacts> = (scan) => {
  const { results, ...first } = scan1(scan);
  return {
    ...first,
    user_id: scan.user_id,
    results: results === null ? null : {
      ...(results as JsonObject),
      supabase_compliance: scan.supabase_compliance,
    },
    security_event_logged: scan.event_id !== null,
  };
};

/** `POST /api/security/scan/{id}`; seed 000 has none of its own. */
export const presentScan: Presenters<ScanFacts> = { 1: scan1, 2: scan2, 3: scan2 };
