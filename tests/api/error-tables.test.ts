/**
 * The error tables of seeds 000, 001 and 002: each code is brought about, and answered with its
 * documented status and in its edition's form.
 */
import { beforeAll, describe, expect, it } from "vitest";
import type { Edition } from "../../shared/contract/editions.ts";
import { connectDatabase } from "../../shared/database/connect.ts";
import { error1 } from "../../shared/contract/responses/edition-1.ts";
import { error2 } from "../../shared/contract/responses/edition-2.ts";
import { error3 } from "../../shared/contract/responses/edition-3.ts";
import { type Answer, createTestApi, type Persona, type TestApi } from "./support/test-api.ts";

let test: TestApi;
let owner: Persona;
let key: Persona;

beforeAll(async () => {
  test = await createTestApi();
  owner = await test.user();
  key = await test.apiKey(owner);
});

const SCHEMAS = { 1: error1, 2: error2, 3: error3 };

type Bring = (edition: Edition) => Promise<Answer>;

/** Whoever clients of the edition are. */
const caller = (edition: Edition) => edition === 1 ? key : owner;

const wrongKey: Bring = (edition) =>
  test.call("GET", "/api/agents", { edition, headers: { "X-API-Key": "alk_none" } });
const wrongToken: Bring = (edition) =>
  test.call("GET", "/api/agents", { edition, headers: { Authorization: "Bearer none" } });
const noPermission: Bring = (edition) =>
  test.call("POST", "/api/auth/generate-key", {
    as: caller(edition),
    edition,
    body: { role: "ADMIN" },
  });
const noAgent: Bring = (edition) =>
  test.call("GET", `/api/agents/${crypto.randomUUID()}`, { as: caller(edition), edition });
const badRequest: Bring = (edition) =>
  test.call("POST", "/api/agents", { as: caller(edition), edition, body: { replicas: -1 } });

/** More requests than the user may make. */
const tooMany: Bring = async (edition) => {
  const user = await test.user({ limits: { burst_limit: 1 } });
  await test.call("GET", "/api/agents", { as: user, edition });
  return await test.call("GET", "/api/agents", { as: user, edition });
};

/** More replicas than the user may have. */
const quota: Bring = async (edition) => {
  await test.sql`update settings set value = '0' where key = 'max_replicas_per_user'`;
  try {
    return await test.call("POST", "/api/agents", {
      as: caller(edition),
      edition,
      body: { agentName: "one too many" },
    });
  } finally {
    await test.sql`update settings set value = '200' where key = 'max_replicas_per_user'`;
  }
};

/** An image whose last scan found what the policy does not allow. */
const blocked: Bring = async (edition) => {
  const id = await test.running(owner);
  const hurried = test.build({ scanPatienceMs: 0 });
  await test.call("POST", `/api/security/scan/${id}`, { as: owner, api: hurried });
  const [row] = await test.sql`select scan from private.claim_security_scans(10, 60) scan`;
  await test
    .sql`select private.complete_security_scan(${row!.scan.scan_id}, ${row!.scan.lease_token}, ${
    test.sql.json({
      containers_examined: 1,
      images: ["elizaos/eliza:latest"],
      findings: [],
      vulnerabilities: { critical: 1, high: 0, medium: 0, low: 0 },
      scanner: "aquasec/trivy:0.58.1",
      unavailable_reason: null,
      recommendations: [],
    })
  })`;
  await test.sql`update settings set value = '"critical"' where key = 'block_deployment_on'`;
  try {
    return await test.call("POST", "/api/agents", {
      as: caller(edition),
      edition,
      body: { agentName: "blocked" },
    });
  } finally {
    await test.sql`update settings set value = '"none"' where key = 'block_deployment_on'`;
    await test.sql`delete from public.security_scans`;
  }
};

/** No cluster that could take an agent. */
const noCluster: Bring = async (edition) => {
  await test.sql`update public.clusters set enabled = false`;
  try {
    return await test.call("POST", "/api/agents", {
      as: owner,
      edition,
      body: { agentName: "homeless" },
    });
  } finally {
    await test.sql`update public.clusters set enabled = true`;
  }
};

/** An installation that took a right from the callers' role. */
const closedTable: Bring = async (edition) => {
  const id = await test.create(owner);
  await test.sql`revoke select on public.agent_logs from authenticated`;
  try {
    return await test.call("GET", `/api/agents/${id}/logs`, { as: owner, edition });
  } finally {
    await test.sql`grant select on public.agent_logs to authenticated`;
  }
};

/** A database where nobody answers. */
const noDatabase: Bring = async (edition) => {
  const sql = connectDatabase({ url: "postgresql://postgres:x@127.0.0.1:9/postgres", max: 1 });
  try {
    const api = test.build({ sql });
    return await test.call("GET", "/api/agents", { as: owner, edition, api });
  } finally {
    await sql.end({ timeout: 1 });
  }
};

/** A channel with an API key, which Realtime does not take. */
const noChannel: Bring = (edition) =>
  test.call("POST", "/api/-/realtime/channels", {
    as: key,
    edition,
    body: { topic: "realtime:public:agent_metrics" },
  });

const TABLES: [Edition, string, number, Bring][] = [
  [3, "AUTHENTICATION_FAILED", 401, wrongToken],
  [3, "AUTHORIZATION_FAILED", 403, noPermission],
  [3, "AGENT_NOT_FOUND", 404, noAgent],
  [3, "RESOURCE_EXHAUSTED", 503, noCluster],
  [3, "VALIDATION_ERROR", 400, badRequest],
  [3, "RATE_LIMIT_EXCEEDED", 429, tooMany],
  [1, "INVALID_API_KEY", 401, wrongKey],
  [1, "INSUFFICIENT_PERMISSIONS", 403, noPermission],
  [1, "AGENT_NOT_FOUND", 404, noAgent],
  [1, "VALIDATION_ERROR", 400, badRequest],
  [1, "RESOURCE_LIMIT_EXCEEDED", 429, quota],
  [1, "RESOURCE_LIMIT_EXCEEDED", 429, tooMany],
  [1, "SECURITY_SCAN_FAILED", 422, blocked],
  [2, "INVALID_JWT_TOKEN", 401, wrongToken],
  [2, "INSUFFICIENT_PERMISSIONS", 403, noPermission],
  [2, "AGENT_NOT_FOUND", 404, noAgent],
  [2, "RLS_ACCESS_DENIED", 403, closedTable],
  [2, "SUPABASE_CONNECTION_ERROR", 503, noDatabase],
  [2, "VALIDATION_ERROR", 400, badRequest],
  [2, "RESOURCE_LIMIT_EXCEEDED", 429, quota],
  [2, "SECURITY_SCAN_FAILED", 422, blocked],
  [2, "REAL_TIME_SUBSCRIPTION_FAILED", 422, noChannel],
  [2, "RATE_LIMIT_EXCEEDED", 429, tooMany],
];

describe("answered as an error", () => {
  it.each(TABLES)("edition %i, %s, %i", async (edition, code, status, bring) => {
    const answer = await bring(edition);
    expect([answer.json.error.code, answer.status], answer.text).toEqual([code, status]);
    expect(SCHEMAS[edition].safeParse(answer.json).error, answer.text).toBeUndefined();
    expect(answer.headers.get("api-version")).toBe(String(edition));
  });
});

/**
 * A deployment fails after the request for it was answered, so no request can end in these: they are
 * the `error` of the agent, as of its operation.
 */
describe("told of the agent, once it came out", () => {
  it.each(["DEPLOYMENT_FAILED", "CONTAINER_UNHEALTHY", "RESOURCE_EXHAUSTED"])(
    "%s",
    async (code) => {
      const id = await test.create(owner);
      const [claimed] = await test.sql`
        select operation, lease_token from private.claim_operations('test', interval '1 minute', 1)
        where operation ->> 'agent_id' = ${id}`;
      expect(claimed).toBeDefined();
      const failure = { code, message: "It did not come up", details: { component: "portainer" } };
      await test
        .sql`select private.fail_operation(${claimed!.operation.id}, ${claimed!.lease_token}, ${
        test.sql.json(failure)
      }, false)`;
      const read = (edition: Edition, end = "") =>
        test.call("GET", `/api/agents/${id}${end}`, { as: owner, edition });
      expect((await read(3)).json.agent).toMatchObject({ status: "failed", error: failure });
      for (const edition of [1, 2] as const) {
        expect((await read(edition, "/status")).json).toMatchObject({
          status: "FAILED",
          error: failure,
        });
      }
    },
  );
});
