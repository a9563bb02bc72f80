import { beforeAll, describe, expect, it } from "vitest";
import { scan1 } from "../../shared/contract/responses/edition-1.ts";
import { scan2 } from "../../shared/contract/responses/edition-2.ts";
import { PATIENCE } from "../support/until.ts";
import { createTestApi, type Persona, type TestApi } from "./support/test-api.ts";

let test: TestApi;
let owner: Persona;
let hurried: TestApi["api"];
let patient: TestApi["api"];

beforeAll(async () => {
  test = await createTestApi();
  owner = await test.user();
  hurried = test.build({ scanPatienceMs: 0 });
  patient = test.build({ scanPatienceMs: PATIENCE.timeout });
});

const scan = (id: string, options: Parameters<TestApi["call"]>[2] = {}) =>
  test.call("POST", `/api/security/scan/${id}`, { as: owner, api: hurried, ...options });

const RESULT = {
  containers_examined: 1,
  images: ["example/agent:1"],
  findings: [{
    check: "root_user",
    severity: "MEDIUM",
    containers: ["agent-1"],
    message: "The container may run as root",
    recommendation: "root_user: Set a user other than root in the image in agent-1",
  }],
  vulnerabilities: { critical: 0, high: 1, medium: 5, low: 12 },
  scanner: "aquasec/trivy:0.58.1",
  unavailable_reason: null,
  recommendations: ["root_user: Set a user other than root in the image in agent-1"],
};

/** What the worker does with the scans that are due. */
async function finish(result: Record<string, unknown> = RESULT): Promise<number> {
  const claimed = await test.sql`select scan from private.claim_security_scans(10, 60) scan`;
  for (const row of claimed) {
    await test
      .sql`select private.complete_security_scan(${row.scan.scan_id}, ${row.scan.lease_token}, ${
      test.sql.json(result as never)
    })`;
  }
  return claimed.length;
}

describe("POST /api/security/scan/{id}", () => {
  it("waits for a scan that is done within seconds", async () => {
    const id = await test.running(owner);
    const answering = scan(id, { edition: 1, api: patient });
    while (await finish() === 0) await new Promise((resolve) => setTimeout(resolve, 20));
    const { status, json } = await answering;
    expect(status).toBe(200);
    expect(scan1.parse(json)).toMatchObject({
      agentId: id,
      status: "COMPLETED",
      results: {
        passed: true,
        vulnerabilities: { critical: 0, high: 1, medium: 5, low: 12 },
        recommendations: RESULT.recommendations,
      },
    });
    expect(json.scannedAt).not.toBeNull();
  });

  it("answers QUEUED before that, and asked again with the same scan, finished", async () => {
    const id = await test.running(owner);
    const kicks = test.kicks();
    const first = await scan(id, { edition: 1 });
    expect(scan1.parse(first.json)).toMatchObject({
      status: "QUEUED",
      results: null,
      scannedAt: null,
    });
    expect(test.kicks()).toBe(kicks + 1);
    await test.sql`update security_scans set state = 'running' where id = ${first.json.scanId}`;
    expect((await scan(id, { edition: 1 })).json).toMatchObject({
      scanId: first.json.scanId,
      status: "RUNNING",
    });
    await finish();
    expect((await scan(id, { edition: 1 })).json).toMatchObject({
      scanId: first.json.scanId,
      status: "COMPLETED",
    });
    expect((await scan(id, { edition: 1, body: { force: true } })).json.scanId)
      .not.toBe(first.json.scanId);
    await finish();
  });

  it.each([2, 3] as const)("answers edition %i as seed 002 documents", async (edition) => {
    const id = await test.running(owner);
    await scan(id);
    await finish();
    const { json } = await scan(id, { edition });
    expect(scan2.parse(json)).toMatchObject({
      user_id: owner.userId,
      status: "COMPLETED",
      results: {
        supabase_compliance: {
          rls_policies_verified: true,
          data_encryption_enabled: true,
          audit_logging_active: true,
        },
      },
      security_event_logged: true,
    });
    const events = await test.call("GET", "/api/security/events?limit=1", {
      as: owner,
      edition: 2,
    });
    expect(events.json.events[0]).toMatchObject({
      event_type: "SECURITY_SCAN_COMPLETED",
      agent_id: id,
      details: { scanId: json.scanId },
    });
  });

  it("says that nobody scanned the images, and not that nothing is wrong with them", async () => {
    const id = await test.running(owner);
    await scan(id);
    await finish({ ...RESULT, vulnerabilities: null, scanner: null, unavailable_reason: "none" });
    const { json } = await scan(id, { edition: 2 });
    expect(scan2.parse(json).results).toMatchObject({ passed: null, vulnerabilities: null });
    expect(json.results.vulnerability_scan).toEqual({ status: "UNAVAILABLE", reason: "none" });
  });

  it("says that a scan failed and why", async () => {
    const id = await test.running(owner);
    const answering = scan(id, { edition: 2, api: patient });
    for (let failed = false; !failed;) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      for (const { scan } of await test.sql`select private.claim_security_scans(10, 60) as scan`) {
        await test.sql`select private.fail_security_scan(${scan.scan_id}, ${scan.lease_token}, ${
          test.sql.json({ code: "DEPLOYMENT_FAILED", message: "Portainer refused the request." })
        }, false)`;
        failed = true;
      }
    }
    const { json } = await answering;
    expect(scan2.parse(json)).toMatchObject({ status: "FAILED", results: null });
    expect(json.error).toMatchObject({ code: "DEPLOYMENT_FAILED" });
  });

  it("does not find the agent of somebody else", async () => {
    const id = await test.running(owner);
    expect(await scan(id, { as: await test.user(), edition: 1 })).toMatchObject({
      status: 404,
      json: { error: { code: "AGENT_NOT_FOUND" } },
    });
  });

  it("needs the right to manage containers", async () => {
    const id = await test.running(owner);
    const key = await test.apiKey(owner, { permissions: ["agents:read"] });
    expect((await scan(id, { as: key, edition: 1 })).status).toBe(403);
    const results = test.sql`select from security_scans where agent_id = ${id}`;
    expect(await results).toHaveLength(0);
  });

  it("refuses what it does not know", async () => {
    const id = await test.running(owner);
    expect((await scan(id, { body: { forced: true } })).status).toBe(400);
  });
});

it("a deployment that the policy blocks is 422 SECURITY_SCAN_FAILED, and leaves nothing behind", async () => {
  const admin = await test.user({ role: "admin" });
  const id = await test.running(owner);
  await scan(id);
  await finish({
    ...RESULT,
    images: ["elizaos/eliza:latest"],
    vulnerabilities: { critical: 1, high: 0, medium: 0, low: 0 },
  });
  await test.sql`update settings set value = '"critical"' where key = 'block_deployment_on'`;
  const agents = async () =>
    (await test.sql`select from agents where user_id = ${admin.userId}`).length;
  for (const edition of [1, 2] as const) {
    const { status, json } = await test.call("POST", "/api/agents", {
      as: admin,
      edition,
      body: { agentName: "x" },
    });
    expect(status).toBe(422);
    expect(json.error).toMatchObject({
      code: "SECURITY_SCAN_FAILED",
      details: { image: "elizaos/eliza:latest", vulnerabilities: { critical: 1 } },
    });
  }
  expect(await agents()).toBe(0);
});
