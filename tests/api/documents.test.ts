/**
 * The three documents as a contract: every route of seeds 000, 001 and 002 under `/api`, in every
 * edition that knows it and without `API-Version`, with the document's own request.
 */
import { beforeAll, describe, expect, it } from "vitest";
import type { z } from "zod";
import { ROUTES } from "../../functions/api/routes.ts";
import { type Edition, EDITIONS } from "../../shared/contract/editions.ts";
import { createHealthMonitor } from "../../shared/database/health-monitor.ts";
import type { ServiceMeasures } from "../../shared/health/services.ts";
import { SERVICES } from "../../shared/health/status.ts";
import * as one from "../../shared/contract/responses/edition-1.ts";
import * as two from "../../shared/contract/responses/edition-2.ts";
import * as three from "../../shared/contract/responses/edition-3.ts";
import * as stacks from "../../shared/contract/responses/stacks-3.ts";
import {
  batchBody3,
  createBody1,
  createBody2,
  createBody3,
  generateKeyBody1,
  profileBodies,
  restartBody3,
  scaleBodies,
  stackBody3,
  updateBodies,
} from "./support/bodies.ts";
import { createTestApi, type Persona, type TestApi } from "./support/test-api.ts";

let test: TestApi;
let owner: Persona & { email: string };
/** An agent that runs, with log lines, figures, a security event. */
let agentId: string;

beforeAll(async () => {
  test = await createTestApi();
  owner = await test.user();
  await test.sql`update public.settings set value = '1000'
    where key in ('max_per_user', 'max_replicas_per_user')`;
  agentId = await test.running(owner, { description: "runs", platforms: ["discord"] });
  await test.sql`
    insert into public.agent_metrics (agent_id, user_id, timestamp, replicas, cpu_usage, cpu_limit,
      memory_usage, memory_limit, network_rx, network_tx, requests_total, requests_failed,
      requests_per_minute, error_rate, response_time_ms)
    values (${agentId}, ${owner.userId}, now(), 1, 0.1, 0.25, 268435456, 536870912, 1000, 2000, 10, 1, 5, 0.1, 12)`;
  await test.sql`
    insert into public.agent_logs (agent_id, user_id, timestamp, level, message, source, container_id, container_name)
    values (${agentId}, ${owner.userId}, now(), 'INFO', 'Connected', 'eliza-core', 'c0', 'agent-1')`;
  await test.sql`
    select private.write_security_event('PERMISSION_DENIED', 'MEDIUM', ${owner.userId}, 'Refused',
      ip_address => '192.0.2.1', automated_response => '{"action_taken": "REQUEST_REJECTED"}')`;
});

interface Call {
  path: string;
  body?: unknown;
  api?: TestApi["api"];
}

interface Documented {
  method: string;
  /** As `ROUTES` has it. */
  route: string;
  status: number;
  /** Each edition that documents the answer, or for want of one the edition that knows the route. */
  schemas: Partial<Record<Edition, z.ZodType>>;
  /** Makes what the request needs and gives the request, as the edition's document has it. */
  call: (edition: Edition) => Promise<Call> | Call;
  /** Where documents say different things of one field; without a header the caller's own edition wins. */
  clashes?: string[];
}

async function running(end: string, body?: unknown): Promise<Call> {
  await forgetStackOperations();
  const path = `/api/agents/${await test.running(owner)}${end}`;
  return body === undefined ? { path } : { path, body };
}

/** The api with services that all work, for nobody serves them here. */
function healthy(): TestApi["api"] {
  const measures = Object.fromEntries(SERVICES.map((name) => [name, {
    status: "healthy",
    response_time_ms: 7,
    checked_at: new Date().toISOString(),
    details: {},
  }])) as ServiceMeasures;
  const probe = () => Promise.resolve(measures);
  return test.build({ measureHealth: createHealthMonitor(test.pool, probe, () => new Date()) });
}

/** What the worker would have found, as soon as somebody asks for it. */
async function finishScan(): Promise<void> {
  await expect.poll(async () => {
    const claimed = await test.sql`select scan from private.claim_security_scans(10, 60) scan`;
    for (const { scan } of claimed) {
      await test
        .sql`select private.complete_security_scan(${scan.scan_id}, ${scan.lease_token}, ${
        test.sql.json({
          containers_examined: 1,
          images: ["example/agent:1"],
          findings: [],
          vulnerabilities: { critical: 0, high: 1, medium: 5, low: 12 },
          scanner: "aquasec/trivy:0.58.1",
          unavailable_reason: null,
          recommendations: ["Update the base image"],
        })
      })`;
    }
    return claimed.length;
  }).toBeGreaterThan(0);
}

/** A stack that runs. */
async function stack(): Promise<string> {
  const made = await test.call("POST", "/api/stacks", { as: owner, edition: 3, body: newStack() });
  expect(made.status, made.text).toBe(201);
  await test.sql`
    update public.operations set state = 'succeeded', progress = 100, started_at = now(), finished_at = now()
    where stack_id = ${made.json.stack.id}`;
  await forgetStackOperations();
  await test.sql`update public.stacks set state = 'running' where id = ${made.json.stack.id}`;
  return made.json.stack.id;
}

const newStack = () => ({ ...stackBody3, name: `stack-${crypto.randomUUID().slice(0, 8)}` });

/** What stands in for the worker here carries out operations of agents only. */
const forgetStackOperations = () =>
  test.sql`
  delete from private.operation_queue where operation_id in (
    select id from public.operations where stack_id is not null
  )`;

const DOCUMENTS: Documented[] = [
  {
    method: "POST",
    route: "/api/agents",
    status: 201,
    schemas: { 1: one.created1, 2: two.created2, 3: three.created3 },
    call: (edition) => ({
      path: "/api/agents",
      body: { 1: createBody1, 2: createBody2, 3: createBody3 }[edition],
    }),
  },
  {
    method: "GET",
    route: "/api/agents",
    status: 200,
    schemas: { 1: one.list1, 2: two.list2, 3: three.list3 },
    call: (edition) => ({
      path: {
        1: "/api/agents?limit=20&offset=0&status=DEPLOYED",
        2: "/api/agents?limit=20&offset=0&status=DEPLOYED&platform=discord",
        3: "/api/agents?limit=20&offset=0&status=running&platform=discord",
      }[edition],
    }),
    clashes: ["agents.*.status"],
  },
  {
    method: "GET",
    route: "/api/agents/search",
    status: 200,
    schemas: { 3: three.search3 },
    call: () => ({
      path: "/api/agents/search?q=agent&status=running&platform=discord&created_after=2024-01-01" +
        "&created_before=2999-01-01&sort=created_at&order=desc",
    }),
  },
  {
    method: "POST",
    route: "/api/agents/batch",
    status: 202,
    schemas: { 3: three.batch3 },
    call: async () => ({
      path: "/api/agents/batch",
      body: batchBody3([await test.running(owner), await test.running(owner)]),
    }),
  },
  {
    method: "GET",
    route: "/api/agents/{id}",
    status: 200,
    schemas: { 3: three.agent3 },
    call: () => ({ path: `/api/agents/${agentId}` }),
  },
  {
    method: "GET",
    route: "/api/agents/{id}/status",
    status: 200,
    schemas: { 1: one.status1, 2: two.status2 },
    call: () => ({ path: `/api/agents/${agentId}/status` }),
  },
  {
    method: "PUT",
    route: "/api/agents/{id}",
    status: 202,
    // Seed 001 shows no answer: it gets what seed 002's begins with.
    schemas: {
      1: two.updated2.pick({ agentId: true, status: true, updatedAt: true }),
      2: two.updated2,
    },
    call: (edition) => running("", edition === 1 ? updateBodies[1] : updateBodies[2]),
  },
  {
    method: "DELETE",
    route: "/api/agents/{id}",
    status: 202,
    schemas: { 1: one.deleted1, 2: two.deleted2 },
    call: () => running(""),
  },
  {
    method: "POST",
    route: "/api/agents/{id}/scale",
    status: 202,
    schemas: { 1: one.scaled1, 2: two.scaled2, 3: three.scaled3 },
    call: (edition) => running("/scale", scaleBodies[edition]),
  },
  {
    method: "POST",
    route: "/api/agents/{id}/restart",
    status: 202,
    schemas: { 1: one.restarted1, 2: two.restarted2, 3: three.command3 },
    call: (edition) => running("/restart", edition === 3 ? restartBody3 : undefined),
  },
  {
    method: "POST",
    route: "/api/agents/{id}/stop",
    status: 202,
    schemas: { 3: three.command3 },
    call: () => running("/stop"),
  },
  {
    method: "POST",
    route: "/api/agents/{id}/start",
    status: 202,
    schemas: { 3: three.command3 },
    call: async () => {
      const id = await test.running(owner);
      await test.call("POST", `/api/agents/${id}/stop`, { as: owner });
      await test.finishOperations();
      return { path: `/api/agents/${id}/start` };
    },
  },
  {
    method: "GET",
    route: "/api/agents/{id}/logs",
    status: 200,
    schemas: { 1: one.logs1, 2: two.logs2, 3: three.logs3 },
    call: (edition) => ({
      path: `/api/agents/${agentId}/logs?lines=100&` + {
        1: "since=1h&follow=false",
        2: "since=30m&level=INFO",
        3: "since=2024-01-15T15:45:00Z&follow=false&container=c0",
      }[edition],
    }),
    clashes: ["logs.*.level"],
  },
  {
    method: "GET",
    route: "/api/agents/{id}/metrics",
    status: 200,
    schemas: { 1: one.metrics1, 2: two.metrics2, 3: three.metrics3 },
    call: (edition) => ({
      path: `/api/agents/${agentId}/metrics` + (edition === 3 ? "?timeframe=1h&interval=5m" : ""),
    }),
  },
  {
    method: "POST",
    route: "/api/stacks",
    status: 201,
    schemas: { 3: stacks.stackCreated3 },
    call: () => ({ path: "/api/stacks", body: newStack() }),
  },
  {
    method: "GET",
    route: "/api/stacks/{id}",
    status: 200,
    schemas: { 3: stacks.stack3 },
    call: async () => ({ path: `/api/stacks/${await stack()}` }),
  },
  {
    method: "PUT",
    route: "/api/stacks/{id}",
    status: 202,
    schemas: { 3: stacks.stackUpdated3 },
    call: async () => ({
      path: `/api/stacks/${await stack()}`,
      body: { environment: [{ name: "REPLICAS", value: "2" }] },
    }),
  },
  {
    method: "DELETE",
    route: "/api/stacks/{id}",
    status: 202,
    schemas: { 3: stacks.stackDeleted3 },
    call: async () => ({ path: `/api/stacks/${await stack()}` }),
  },
  {
    method: "GET",
    route: "/api/users/profile",
    status: 200,
    schemas: { 1: one.profile1, 2: two.profile2 },
    call: () => ({ path: "/api/users/profile" }),
  },
  {
    method: "PUT",
    route: "/api/users/profile",
    status: 200,
    // No document shows an answer: it is the profile as it is then.
    schemas: { 1: one.profile1, 2: two.profile2 },
    call: (edition) => ({
      path: "/api/users/profile",
      // Metadata is Auth's, which nobody serves here; tests/api/profile.test.ts has it.
      body: edition === 1
        ? profileBodies[1]
        : { notification_preferences: profileBodies[2].notification_preferences },
    }),
  },
  {
    method: "GET",
    route: "/api/health",
    status: 200,
    schemas: { 1: one.health1, 2: two.health2, 3: three.health3 },
    call: async () => {
      await test.sql`select private.record_cluster_health(${test.clusterId}, ${
        test.sql.json({
          status: "healthy",
          response_time_ms: 15,
          orchestrator: "portainer-kubernetes",
          nodes_ready: 3,
          nodes_total: 3,
          pods: { total: 15, running: 13, pending: 2, failed: 0 },
        })
      })`;
      return { path: "/api/health", api: healthy() };
    },
    clashes: [
      "components.database.connections",
      "components.database.status",
      "components.kubernetes.nodes",
      "components.kubernetes.pods",
      "components.kubernetes.status",
      "components.supabase.status",
      "status",
    ],
  },
  {
    method: "GET",
    route: "/api/metrics",
    status: 200,
    schemas: { 3: three.system3 },
    call: () => ({ path: "/api/metrics" }),
  },
  {
    method: "GET",
    route: "/api/system/metrics",
    status: 200,
    schemas: { 1: one.system1, 2: two.system2 },
    call: () => ({ path: "/api/system/metrics" }),
  },
  {
    method: "GET",
    route: "/api/security/events",
    status: 200,
    schemas: { 1: one.securityEvents1, 2: two.securityEvents2 },
    call: (edition) => ({
      path: "/api/security/events?limit=50&severity=MEDIUM&since=2024-01-15T13:25:00Z" +
        (edition === 2 ? "&event_type=PERMISSION_DENIED" : ""),
    }),
  },
  {
    method: "POST",
    route: "/api/security/scan/{id}",
    status: 200,
    schemas: { 1: one.scan1, 2: two.scan2 },
    call: async () => {
      const { path } = await running("");
      void finishScan();
      return { path: path.replace("/agents/", "/security/scan/") };
    },
  },
  {
    method: "POST",
    route: "/api/auth/generate-key",
    status: 201,
    schemas: { 1: one.generatedKey1 },
    call: () => ({ path: "/api/auth/generate-key", body: generateKeyBody1(owner.email) }),
  },
];

/** Where an answer is not what the schema says, list positions as `*`. */
function faultsOf(schema: z.ZodType, answer: unknown): string[] {
  const issues = schema.safeParse(answer).error?.issues ?? [];
  return [
    ...new Set(
      issues.map(({ path }) =>
        path.map((part) => typeof part === "number" ? "*" : String(part)).join(".")
      ),
    ),
  ].sort();
}

describe.each(DOCUMENTS.map((each) => [`${each.method} ${each.route}`, each] as const))(
  "%s",
  (_name, document) => {
    const editions = EDITIONS.filter((edition) => edition in document.schemas);

    it.each(editions)("answers edition %i as its document does", async (edition) => {
      const { path, body, api } = await document.call(edition);
      const answer = await test.call(document.method, path, { as: owner, edition, body, api });
      expect(answer.status, answer.text).toBe(document.status);
      expect(answer.headers.get("api-version")).toBe(String(edition));
      expect(faultsOf(document.schemas[edition]!, answer.json), answer.text).toEqual([]);
    });

    it.each(["token", "key"] as const)(
      "answers a %s without API-Version so that each document's clients are served",
      async (credential) => {
        const order = credential === "key" ? [1, 2, 3] as const : [3, 2, 1] as const;
        const own = order.find((edition) => editions.includes(edition))!;
        const as = credential === "key" ? await test.apiKey(owner) : owner;
        const { path, body, api } = await document.call(own);
        const answer = await test.call(document.method, path, { as, body, api });
        expect(answer.status, answer.text).toBe(document.status);
        expect(faultsOf(document.schemas[own]!, answer.json), answer.text).toEqual([]);
        const elsewhere = editions.flatMap((edition) =>
          faultsOf(document.schemas[edition]!, answer.json)
        );
        expect([...new Set(elsewhere)].sort(), answer.text).toEqual(document.clashes ?? []);
      },
    );
  },
);

it("each route that seeds 001 and 002 have stands here, in their editions", () => {
  // What is in edition 3 alone can be seed 000's or ours.
  const editionsHere = ({ schemas }: Documented) => EDITIONS.filter((each) => each in schemas);
  const known = (edition: Edition) => edition !== 3;
  const here = Object.fromEntries(
    DOCUMENTS.map((each) => [`${each.method} ${each.route}`, editionsHere(each).filter(known)]),
  );
  const elsewhere = [
    // Under /realtime/v1 in seed 002: tests/api/join-channel.test.ts.
    "POST /api/-/realtime/channels",
    // Of ours, with the profile of edition 2: tests/api/privacy.test.ts.
    "DELETE /api/users/profile",
    "GET /api/users/export",
  ];
  for (const { method, path, documented } of ROUTES) {
    const route = `${method} ${path}`;
    const editions = documented.filter(known);
    if (editions.length > 0 && !elsewhere.includes(route)) {
      expect([route, here[route]]).toEqual([route, editions]);
    }
  }
});
