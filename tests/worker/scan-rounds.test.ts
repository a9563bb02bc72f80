import { beforeEach, describe, expect, it } from "vitest";
import { OrchestratorError } from "../../shared/orchestrators/errors.ts";
import type { Examination } from "../../shared/orchestrators/posture.ts";
import { createScanRounds } from "../../shared/worker/scans/scan-rounds.ts";
import { createWorkerBed, type WorkerBed } from "./support/bed.ts";

const image = "elizaos/eliza:latest";
const container = {
  id: "c1",
  name: "agent.1",
  image,
  root: true,
  privileged: false,
  capabilities: [],
  memoryLimited: true,
  cpuLimited: true,
  hostMounts: [],
  hostNamespaces: [],
  plainSecrets: ["API_TOKEN"],
};
const unscanned: Examination = {
  containers: [container],
  vulnerabilities: { available: false, reason: "no scanner" },
};
const scanned = (...severities: ("critical" | "high" | "low")[]): Examination => ({
  containers: [container],
  vulnerabilities: {
    available: true,
    scanner: "aquasec/trivy:0.58.1",
    vulnerabilities: severities.map((severity, index) => ({
      id: `CVE-${index}`,
      severity,
      package: "openssl",
      installed: "1.0",
      fixed: null,
    })),
  },
});

let bed: WorkerBed;
let agentId: string;
let asked: unknown[];
let examine: () => Promise<Examination | null>;
beforeEach(async () => {
  bed = await createWorkerBed();
  agentId = await bed.createAgent({ environment: { API_TOKEN: "canary-value" } });
  await bed.set("operations", "concurrency", 8);
  await bed.run();
  asked = [];
  examine = () => Promise.resolve(unscanned);
});

interface Scan {
  id: string;
  state: string;
  passed: boolean | null;
  [field: string]: unknown;
}

const rounds = () =>
  createScanRounds({
    sql: bed.sql,
    orchestratorFor: () => ({
      ...bed.cluster,
      examine: (ref, request) => {
        asked.push({ ref, request });
        return examine();
      },
    }),
    log: (level, message, fields) => bed.log.push(JSON.stringify({ level, message, ...fields })),
  });

const scan = (force = false) => bed.rpc<Scan>("scan_agent", { agent_id: agentId, force });
const finished = async (result: Examination) => {
  examine = () => Promise.resolve(result);
  const { id } = await scan(true);
  await rounds()();
  return await bed.rpc<Scan>("security_scan", { scan_id: id });
};
const block = (on: string) =>
  bed
    .sql`update settings set value = to_jsonb(${on}::text) where category = 'security' and key = 'block_deployment_on'`;

describe("a scan", () => {
  it("is queued, and is the same one for all who ask meanwhile", async () => {
    const first = await scan();
    expect(first).toMatchObject({ state: "queued", agent_id: agentId, user_id: bed.userId });
    expect((await scan(true)).id).toBe(first.id);
  });

  it("keeps what was found, and asked again is the finished one", async () => {
    const { id } = await scan();
    await rounds()();
    expect(asked).toMatchObject([{
      ref: { agentId },
      request: { id, scannerImage: "aquasec/trivy" },
    }]);
    expect(await scan()).toMatchObject({
      id,
      state: "completed",
      passed: null,
      vulnerabilities: null,
      unavailable_reason: "no scanner",
      containers_examined: 1,
      images: [image],
      findings: [{ check: "root_user" }, { check: "plain_secrets" }, { check: "mutable_tag" }],
      supabase_compliance: {
        rls_policies_verified: true,
        data_encryption_enabled: true,
        audit_logging_active: true,
      },
    });
    expect((await scan(true)).id).not.toBe(id);
  });

  it("is a new one once the agent changed or the last one is old", async () => {
    const first = await finished(unscanned);
    await bed.sql`update agents set generation = generation + 1 where id = ${agentId}`;
    const second = await scan();
    expect(second.id).not.toBe(first.id);
    await rounds()();
    await bed.sql`update security_scans set finished_at = finished_at - interval '1 hour'`;
    expect((await scan()).id).not.toBe(second.id);
  });

  it("passes when the images were scanned and nothing critical was found", async () => {
    expect(await finished(scanned("high", "low"))).toMatchObject({
      passed: true,
      vulnerabilities: { critical: 0, high: 1, medium: 0, low: 1 },
      scanner: "aquasec/trivy:0.58.1",
    });
  });

  it("fails by something critical, which is an event", async () => {
    const { id, event_id } = await finished(scanned("critical"));
    const [event] = await bed
      .sql`select * from security_events where id = ${event_id as string}`;
    expect(event).toMatchObject({
      event_type: "SECURITY_SCAN_FAILED",
      severity: "CRITICAL",
      user_id: bed.userId,
      agent_id: agentId,
      message: "Container security scan failed",
      details: { scanId: id, reason: "Critical vulnerability detected" },
    });
  });

  it("fails by a critical finding although nobody scanned the images", async () => {
    const containers = [{ ...container, privileged: true }];
    expect(await finished({ ...unscanned, containers })).toMatchObject({ passed: false });
  });

  it("is tried again after a passing fault, and given up after three", async () => {
    examine = () =>
      Promise.reject(
        new OrchestratorError("UPSTREAM_UNAVAILABLE", "Portainer cannot be reached.", {
          details: { reason: "unreachable" },
        }),
      );
    const { id } = await scan();
    for (let attempt = 1; attempt <= 3; attempt++) {
      await rounds()();
      expect(asked).toHaveLength(attempt);
      await bed.sql`update private.security_scan_queue set run_after = now() - interval '1 s'`;
    }
    expect(await bed.rpc("security_scan", { scan_id: id })).toMatchObject({
      state: "failed",
      error: { code: "UPSTREAM_UNAVAILABLE", message: "Portainer cannot be reached." },
    });
    expect((await scan()).id).not.toBe(id);
  });

  it("says nothing of what went wrong inside", async () => {
    examine = () => Promise.reject(new Error("ptr_cluster-credential"));
    await scan();
    await rounds()();
    const [kept] = await bed.sql`select jsonb_agg(to_jsonb(s))::text as text from security_scans s`;
    expect(bed.log.join() + kept!.text).not.toContain("ptr_cluster-credential");
  });

  it("of a worker that died is taken up by another, and the first one's word counts no more", async () => {
    const { id } = await scan();
    const [claimed] = await bed.sql`select scan from private.claim_security_scans(1, 120) scan`;
    expect(await bed.sql`select private.claim_security_scans(1, 120)`).toHaveLength(0);
    await bed.sql`update private.security_scan_queue set run_after = now() - interval '1 s'`;
    await rounds()();
    const [late] = await bed.sql`
      select private.complete_security_scan(${id}, ${claimed!.scan.lease_token}, '{}') as kept`;
    expect(late!.kept).toBe(false);
    expect(await bed.rpc("security_scan", { scan_id: id })).toMatchObject({ state: "completed" });
  });

  it("goes with what the agent was when the agent is deleted", async () => {
    await finished(unscanned);
    await bed.rpc("delete_agent", { agent_id: agentId });
    expect(await bed.sql`select from security_scans`).toHaveLength(0);
  });

  it("needs containers to look at", async () => {
    await bed.sql`update public.deployments set state = 'stopped' where agent_id = ${agentId}`;
    await expect(scan()).rejects.toThrow("INVALID_STATE");
  });

  it("tells no compliance that is not there", async () => {
    await bed.sql`alter table public.settings disable trigger settings_audit`;
    await bed.sql`delete from private.agent_environments`;
    await bed.sql`insert into private.agent_environments values (${agentId}, gen_random_uuid())`;
    expect((await finished(unscanned)).supabase_compliance).toMatchObject({
      data_encryption_enabled: false,
      audit_logging_active: false,
    });
  });
});

describe("an image that was found unsafe", () => {
  it("is deployed as long as no policy forbids it", async () => {
    await finished(scanned("critical"));
    await expect(bed.createAgent()).resolves.toBeTypeOf("string");
  });

  it.each([["critical", "critical", true], ["critical", "high", false], ["high", "high", true]])(
    "with policy %s and a %s vulnerability is blocked: %s",
    async (policy, severity, blocked) => {
      await finished(scanned(severity as "critical"));
      await block(policy);
      const creating = bed.createAgent();
      await (blocked
        ? expect(creating).rejects.toThrow("SECURITY_SCAN_FAILED")
        : expect(creating).resolves.toBeTypeOf("string"));
    },
  );

  it("is not rolled out by an update either, over whichever interface", async () => {
    await finished(scanned("critical"));
    await block("critical");
    const update = bed.rpc("update_agent", {
      agent_id: agentId,
      changes: { resources: { memory: "1Gi" } },
    });
    await expect(update).rejects.toThrow("SECURITY_SCAN_FAILED");
    const change = bed.sql.begin(async (t) => {
      await t`select set_config('request.jwt.claims', ${
        JSON.stringify({ sub: bed.userId, role: "authenticated" })
      }, true), set_config('role', 'authenticated', true)`;
      await t`update agents set resources = '{"memory": "1Gi"}' where id = ${agentId}`;
    });
    await expect(change).rejects.toThrow("SECURITY_SCAN_FAILED");
  });

  it("is deployed again after a scan that finds it safe, and without a scan", async () => {
    await block("high");
    await expect(bed.createAgent()).resolves.toBeTypeOf("string");
    await finished(scanned("critical"));
    await finished(scanned("low"));
    await expect(bed.createAgent()).resolves.toBeTypeOf("string");
  });

  it("stays known when a later scan could not look at it", async () => {
    await finished(scanned("critical"));
    await finished(unscanned);
    await block("critical");
    await expect(bed.createAgent()).rejects.toThrow("SECURITY_SCAN_FAILED");
  });
});
