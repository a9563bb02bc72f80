import { describe, expect, it } from "vitest";
import {
  createAgentBody,
  restartAgentBody,
  scaleAgentBody,
  updateAgentBody,
} from "../../shared/contract/agent-requests.ts";
import { generateKeyBody } from "../../shared/contract/key-requests.ts";
import { agentSpec, scalingOf } from "../../shared/contract/agent-spec.ts";
import { ApiError } from "../../shared/contract/errors.ts";
import { listAgentsQuery, logsQuery, metricsQuery } from "../../shared/contract/queries.ts";
import { parseInput } from "../../shared/contract/validation.ts";
import { createBody1, createBody2, createBody3 } from "./support/bodies.ts";

function faultsOf(parse: () => unknown): Record<string, unknown> {
  try {
    parse();
  } catch (error) {
    if (error instanceof ApiError && error.code === "VALIDATION_ERROR") return error.details!;
    throw error;
  }
  return {};
}

const create = (body: unknown) => agentSpec(parseInput(createAgentBody, body));
const faults = (body: unknown) => faultsOf(() => create(body));

describe("create bodies", () => {
  it("takes seed 000's", () => {
    expect(create(createBody3)).toMatchObject({
      name: "market-watcher",
      plugins: createBody3.plugins,
      platforms: ["discord"],
      resources: { memory: "1Gi", cpu: "500m" },
      replicas: 3,
      scaling: createBody3.scaling,
      environment: createBody3.environment,
      portainer: createBody3.portainer,
      supabase_config: createBody3.supabase_config,
    });
  });

  it("takes seed 001's: platforms' credentials become environment", () => {
    const spec = create(createBody1);
    expect(spec).toMatchObject({
      name: "community-helper",
      character: createBody1.personality,
      plugins: createBody1.selectedPlugins,
      platforms: ["discord"],
      environment: { DISCORD_TOKEN: "secret-platform-token", DISCORD_GUILD_ID: "1234567890" },
    });
    expect(Object.keys(spec)).not.toContain("selectedPlugins");
  });

  it("takes seed 002's: the database URL becomes environment", () => {
    const spec = create(createBody2);
    expect(spec.environment).toMatchObject({
      SUPABASE_DATABASE_URL: createBody2.supabase_config.database_url,
      DISCORD_TOKEN: "secret-discord-token",
    });
    expect(JSON.stringify(spec.supabase_config)).not.toContain("secret-password");
  });

  it("takes the SDKs' `name` for `agentName`", () => {
    expect(create({ name: "short" })).toEqual({ name: "short" });
  });

  it("names every bad field at once", () => {
    expect(faults({
      agentName: "",
      plugins: "none",
      resources: { memory: "lots", cpu: "-1", replicas: 0 },
      scaling: { minReplicas: 1.5 },
      environment: { "1BAD": "x", GOOD: { nested: true } },
      portainer: { deployment_strategy: "hope", health_checks: { interval: "soon" } },
      unknown_field: 1,
    })).toEqual({
      agentName: "must be 1 to 100 characters",
      plugins: "must be a list of names",
      "resources.memory": "must be a quantity such as 512Mi or 1Gi",
      "resources.cpu": "must be a quantity such as 250m or 1.5",
      "resources.replicas": "must be a whole number from 1 to 1000",
      "scaling.minReplicas": "must be a whole number from 1 to 1000",
      "environment.1BAD": "must be letters, digits and _, and not begin with a digit",
      "environment.GOOD": "must be text, a number or true or false",
      "portainer.deployment_strategy": "must be one of rolling, recreate, blue-green",
      "portainer.health_checks.interval": "must be from 1s to 1h, such as 30s",
      unknown_field: "is not known",
    });
  });

  it.each([
    ["interval", { interval: "500ms" }],
    ["interval", { interval: "61m" }],
    ["timeout", { timeout: "31s" }],
    ["timeout", { interval: "1m", timeout: "61s" }],
    ["retries", { retries: 101 }],
    ["enabled", { enabled: "no" }],
    ["intervall", { intervall: "5s" }],
  ])("refuses a %s of health checks that no engine could keep: %j", (field, health_checks) => {
    expect(Object.keys(faults({ name: "a", portainer: { health_checks } })))
      .toEqual([`portainer.health_checks.${field}`]);
  });

  it.each([
    { interval: "1h", timeout: "60m" },
    { interval: "1s", timeout: "1s", retries: 1 },
    { interval: "5s" },
    { enabled: false },
  ])("takes health checks as %j", (health_checks) => {
    expect(create({ name: "a", portainer: { health_checks } }).portainer).toEqual({
      health_checks,
    });
  });

  it("names the name when it is missing", () => {
    expect(faults({})).toEqual({ agentName: "is required" });
  });

  it("refuses two words for the same thing", () => {
    expect(faults({ agentName: "a", plugins: [], selectedPlugins: [] })).toEqual({
      selectedPlugins: "cannot stand beside plugins",
    });
  });

  it("refuses a credential that contradicts the environment", () => {
    expect(faults({
      agentName: "a",
      platforms: { discord: { token: "one" } },
      environment: { DISCORD_TOKEN: "two" },
    })).toEqual({ "platforms.discord.token": "contradicts environment.DISCORD_TOKEN" });
  });

  it("names a bad credential by its path", () => {
    expect(faults({ agentName: "a", platforms: { discord: { token: { nested: 1 } } } })).toEqual({
      "platforms.discord.token": "must be text, a number or true or false",
    });
  });

  it.each([
    ["a NUL in a name", { agentName: "a\0b" }, "agentName"],
    ["half a surrogate pair in a character", {
      agentName: "a",
      character: { bio: "\ud800" },
    }, "character"],
    ["a NUL deep in a character", { agentName: "a", character: { bio: ["\0"] } }, "character"],
    ["a character beyond 256 KiB", {
      agentName: "a",
      character: { bio: "x".repeat(262_144) },
    }, "character"],
    [
      "a value beyond 32 KiB",
      { agentName: "a", environment: { A: "x".repeat(32_769) } },
      "environment.A",
    ],
    ["too many variables", {
      agentName: "a",
      environment: Object.fromEntries(Array.from({ length: 201 }, (_, index) => [`A${index}`, ""])),
    }, "environment"],
    ["a list for a body", [], "body"],
    ["nothing for a body", null, "body"],
  ])("refuses %s", (_name, body, field) => {
    expect(Object.keys(faults(body))).toEqual([field]);
  });
});

describe("other bodies", () => {
  it("lets an update remove a variable", () => {
    expect(agentSpec(parseInput(updateAgentBody, { environment: { OLD: null } }))).toEqual({
      environment: { OLD: null },
    });
  });

  it("refuses an update that names nothing", () => {
    expect(faultsOf(() => parseInput(updateAgentBody, {}))).toEqual({
      body: "must name what to change",
    });
  });

  it("reads seed 002's scaling policy", () => {
    const body = parseInput(scaleAgentBody, {
      replicas: 3,
      scaling_policy: { min_replicas: 1, max_replicas: 5, target_cpu: 70 },
    });
    expect(body.strategy).toBe("rolling");
    expect(scalingOf(body)).toEqual({ minReplicas: 1, maxReplicas: 5, targetCPU: 70 });
  });

  it("refuses a policy whose ends are crossed", () => {
    const parse = () =>
      parseInput(scaleAgentBody, {
        replicas: 3,
        scaling_policy: { min_replicas: 5, max_replicas: 2 },
      });
    expect(faultsOf(parse)).toEqual({
      "scaling_policy.max_replicas": "must not be below min_replicas",
    });
  });

  it("needs replicas to scale", () => {
    expect(faultsOf(() => parseInput(scaleAgentBody, {}))).toEqual({ replicas: "is required" });
  });

  it("fills in how to restart", () => {
    expect(parseInput(restartAgentBody, {})).toEqual({
      restart_policy: "rolling",
      max_unavailable: 1,
    });
  });

  it("reads seed 001's key request, role in capitals", () => {
    const body = { username: "admin", email: "admin@example.com", role: "ADMIN" };
    expect(parseInput(generateKeyBody, body).role).toBe("admin");
  });

  it("takes text that only looks like what no database stores", () => {
    const body = { agentName: "a", personality: { system: "C:\\ud83d and \\u0000" } };
    expect(create(body)).toMatchObject({ character: body.personality });
    for (const value of ["\0", "\ud83d", { deep: ["\0"] }, { "\ud83d": 1 }]) {
      expect(faults({ agentName: "a", personality: { value } })).toEqual({
        personality: "must be plain text",
      });
    }
  });

  it("hands the expiry of a key on in UTC", () => {
    const read = (expiresAt: string) => parseInput(generateKeyBody, { expiresAt }).expiresAt;
    expect(read("2030-01-01T01:00:00+02:00")).toBe("2029-12-31T23:00:00.000Z");
    expect(read("2030-01-01T00:00:00+23:59")).toBe("2029-12-31T00:01:00.000Z");
  });

  it("says what a value of the wrong type should be", () => {
    const body = {
      agentName: 5,
      description: [],
      selectedPlugins: [null],
      platforms: { discord: "token" },
      personality: "nice",
      resources: null,
      framework: {},
      enabled_tools: "all",
    };
    expect(faults(body)).toEqual({
      agentName: "must be text",
      description: "must be text",
      "selectedPlugins.0": "must be text",
      "platforms.discord": "must be an object",
      personality: "must be an object",
      resources: "must be an object",
      framework: "must be text",
      enabled_tools: "must be a list",
    });
  });
});

describe("queries", () => {
  const now = new Date("2024-01-15T12:00:00Z");

  it("pages by 20 when nothing is said", () => {
    expect(parseInput(listAgentsQuery(3), {})).toEqual({ limit: 20, offset: 0 });
  });

  it("ignores parameters it does not know", () => {
    expect(parseInput(listAgentsQuery(3), { apikey: "x" })).toEqual({ limit: 20, offset: 0 });
  });

  it.each([["0"], ["101"], ["-1"], ["1.5"], ["ten"], [""]])("refuses limit=%s", (limit) => {
    expect(faultsOf(() => parseInput(listAgentsQuery(3), { limit }))).toEqual({
      limit: "must be a whole number from 1 to 100",
    });
  });

  it.each(
    [
      [3, "running", ["running", "deployed"]],
      [3, "deploying", ["queued", "deploying"]],
      [1, "DEPLOYED", ["running", "deployed"]],
      [1, "QUEUED", ["queued"]],
      [2, "DEPLOYING", ["deploying"]],
      [1, "thinking", ["thinking"]],
    ] as const,
  )("edition %s reads status %s", (edition, status, states) => {
    expect(parseInput(listAgentsQuery(edition), { status }).status).toEqual(states);
  });

  it("refuses a status that no edition knows", () => {
    expect(Object.keys(faultsOf(() => parseInput(listAgentsQuery(3), { status: "happy" }))))
      .toEqual(["status"]);
  });

  it.each([
    ["1h", "2024-01-15T11:00:00.000Z"],
    ["30m", "2024-01-15T11:30:00.000Z"],
    ["2024-01-15T10:30:00Z", "2024-01-15T10:30:00.000Z"],
    ["2024-01-15T10:30:00+02:00", "2024-01-15T08:30:00.000Z"],
    // As Python writes it, with the plus sign as it came without encoding.
    ["2024-01-15T10:30:00.123456 02:00", "2024-01-15T08:30:00.123Z"],
    ["2024-01-15", "2024-01-15T00:00:00.000Z"],
  ])("reads since=%s", (since, moment) => {
    expect(parseInput(logsQuery(now), { since }).since?.toISOString()).toBe(moment);
  });

  it.each([
    ["yesterday"],
    ["2024-01-15T10:30:00"],
    ["2024-13-45T00:00:00Z"],
    ["2024-02-30"],
    ["1x"],
    [""],
    // What the database could not read: years before 1 and after 9999.
    ["999999d"],
    ["0000-01-01T00:00:00Z"],
    ["0001-01-01T00:00:00+14:00"],
    ["9999-12-31T23:59:59-12:00"],
  ])(
    "refuses since=%s",
    (since) => {
      expect(Object.keys(faultsOf(() => parseInput(logsQuery(now), { since })))).toEqual(["since"]);
    },
  );

  it("names all bad log parameters at once", () => {
    const query = { lines: "1001", since: "x", level: "LOUD", follow: "maybe", container: "" };
    expect(Object.keys(faultsOf(() => parseInput(logsQuery(now), query))).sort()).toEqual([
      "container",
      "follow",
      "level",
      "lines",
      "since",
    ]);
  });

  it("knows the documented timeframes and intervals only", () => {
    expect(parseInput(metricsQuery, {})).toEqual({ timeframe: "1h", interval: "5m" });
    expect(
      Object.keys(faultsOf(() => parseInput(metricsQuery, { timeframe: "2h", interval: "2m" }))),
    )
      .toEqual(["timeframe", "interval"]);
  });
});
