import { describe, expect, it } from "vitest";
import {
  type ComposeService,
  InvalidStackFile,
  parseComposeFile,
} from "../../scripts/local/portainer/compose_file.ts";
import { parseEnvFile, throughEnvFile } from "../../scripts/local/portainer/env_file.ts";
import { interpolate } from "../../scripts/local/portainer/interpolate.ts";

function service(lines: string, env: Record<string, string> = {}): ComposeService {
  const body = lines.split("\n").map((line) => `    ${line}`).join("\n");
  return parseComposeFile(`services:\n  a:\n    image: x\n${body}\n`, env).services[0]!;
}

describe("variables", () => {
  it.each([
    ["$NAME-${NAME}", "otto-otto"],
    ["${MISSING}|${EMPTY}", "|"],
    ["${MISSING:-a}${EMPTY:-b}${NAME:-c}", "abotto"],
    ["${MISSING-a}${EMPTY-b}", "a"],
    ["${NAME:+yes}${EMPTY:+no}", "yes"],
    ["${MISSING:-${NAME}}", "otto"],
    ["$$NAME costs $$5", "$NAME costs $5"],
  ])("reads %s", (text, expected) => {
    expect(interpolate(text, { NAME: "otto", EMPTY: "" })).toBe(expected);
  });

  it("refuses a required variable that is empty or missing", () => {
    expect(() => interpolate("${EMPTY:?say it}", { EMPTY: "" })).toThrow(/EMPTY.*say it/);
    expect(interpolate("${EMPTY?say it}", { EMPTY: "" })).toBe("");
    expect(() => interpolate("${MISSING?say it}", {})).toThrow(/MISSING.*say it/);
  });

  it("refuses what is no expression", () => {
    expect(() => interpolate("${}", {})).toThrow(/invalid interpolation format/);
    expect(() => interpolate("${OPEN", {})).toThrow(/invalid interpolation format/);
  });
});

describe("environment", () => {
  it("is a mapping or a list, and takes values that are not given from the stack", () => {
    const env = { GIVEN: "from the stack" };
    const expected = { A: "1", GIVEN: "from the stack" };
    expect(service("environment: {A: 1, GIVEN: , ABSENT: }", env).environment).toEqual(expected);
    expect(service("environment: [A=1, GIVEN, ABSENT]", env).environment).toEqual(expected);
  });

  it("takes all of the stack's variables from stack.env", () => {
    expect(service("env_file: stack.env\nenvironment: [A=1]", { A: "0", B: "2" }).environment)
      .toEqual({ A: "1", B: "2" });
  });
});

describe("an env file", () => {
  it.each([
    ["A=plain", "plain"],
    ["A= padded ", "padded"],
    ["A=with # a comment", "with"],
    ["A=with#none", "with#none"],
    ["export A=exported", "exported"],
    ["A: yaml", "yaml"],
    ["B=b\nA=$B-${B}", "b-b"],
    ["A='$B \\n'", "$B \\n"],
    ['A="quoted # $$B"', "quoted # $B"],
    ['A="a \\"b\\" \\n \\\\ \\$B"', 'a "b" \n \\ $B'],
    ['A="first\nsecond"\nB=1', "first\nsecond"],
    ["# A=no\n\nA=yes", "yes"],
  ])("reads %j", (text, expected) => {
    expect(parseEnvFile(text)["A"]).toBe(expected);
  });

  it("shows nothing of what it cannot read", () => {
    const secret = "tell-nobody";
    for (const text of [`A=1\n${secret}!\n`, `A="${secret}`, `${secret} a=1`, `A=${secret}\${`]) {
      expect(() => parseEnvFile(text)).toThrow(/line \d/);
      expect(() => parseEnvFile(text)).not.toThrow(secret);
    }
  });

  it("breaks a value at its line's end, as Portainer's does", () => {
    expect(throughEnvFile([{ name: "A", value: "one\nB=two" }])).toEqual({ A: "one", B: "two" });
  });
});

describe("ports", () => {
  it.each([
    ['["3000"]', [{ target: 3000, published: 0, protocol: "tcp" }]],
    ['["8080:3000/udp"]', [{ target: 3000, published: 8080, protocol: "udp" }]],
    ['["127.0.0.1:8080:3000"]', [{ target: 3000, published: 8080, protocol: "tcp" }]],
    ["[{target: 3000}]", [{ target: 3000, published: 0, protocol: "tcp" }]],
    ["[{target: 3000, published: '80', mode: host}]", [
      { target: 3000, published: 80, protocol: "tcp", mode: "host" },
    ]],
    ['["80-81:3000-3001"]', [
      { target: 3000, published: 80, protocol: "tcp" },
      { target: 3001, published: 81, protocol: "tcp" },
    ]],
  ])("reads %s", (ports, expected) => {
    expect(service(`ports: ${ports}`).ports).toEqual(expected);
  });

  it("refuses what is no port", () => {
    expect(() => service('ports: ["http"]')).toThrow(/invalid port "http"/);
    expect(() => service('ports: ["99999"]')).toThrow(/invalid port/);
  });
});

it("reads a health check in all its forms", () => {
  const check = service("healthcheck: {test: curl x, interval: 1m30s, timeout: 500ms, retries: 2}");
  expect(check.healthcheck).toEqual({
    Test: ["CMD-SHELL", "curl x"],
    Interval: 90e9,
    Timeout: 500e6,
    StartPeriod: 0,
    StartInterval: 0,
    Retries: 2,
  });
  expect(service("healthcheck: {test: [CMD, a, b]}").healthcheck!.Test).toEqual(["CMD", "a", "b"]);
  expect(service("healthcheck: {disable: true}").healthcheck!.Test).toEqual(["NONE"]);
  expect(() => service("healthcheck: {test: [a, b]}")).toThrow(/must start either by/);
  expect(() => service("healthcheck: {interval: soon}")).toThrow(/invalid duration "soon"/);
});

it("reads limits from both places", () => {
  expect(service("mem_limit: 512m\ncpus: 0.5")).toMatchObject({
    memory: 512 * 1024 ** 2,
    nanoCpus: 5e8,
  });
  const limits = service("deploy: {resources: {limits: {memory: 1G, cpus: '2'}}}");
  expect(limits).toMatchObject({ memory: 1024 ** 3, nanoCpus: 2e9 });
});

it("reads how to deploy", () => {
  const { deploy } = service(
    "deploy:\n  replicas: ${N}\n  labels: {a: b}\n" +
      "  restart_policy: {condition: on-failure, delay: 2s, max_attempts: 3}\n" +
      "  update_config: {parallelism: 2, delay: 1s, order: start-first, failure_action: rollback}",
    { N: "4" },
  );
  expect(deploy).toMatchObject({
    mode: "replicated",
    replicas: 4,
    labels: { a: "b" },
    restartPolicy: { Condition: "on-failure", Delay: 2e9, MaxAttempts: 3, Window: null },
    update: { Parallelism: 2, Delay: 1e9, Order: "start-first", FailureAction: "rollback" },
  });
});

it("tells a text that is no YAML from a file that Compose refuses", () => {
  expect(() => parseComposeFile("services: [", {})).toThrow(InvalidStackFile);
  expect(() => parseComposeFile("- a", {})).toThrow(InvalidStackFile);
  expect(() => parseComposeFile("services: {a: {image: x, colour: red}}", {}))
    .toThrow(/additional properties 'colour' not allowed/);
  expect(() => parseComposeFile("services: {a: {}}", {})).toThrow(/neither an image/);
  expect(() => parseComposeFile("services: {a: {image: x, networks: [n]}}", {}))
    .toThrow(/undefined network n/);
  expect(() => parseComposeFile("services: {}", {})).toThrow(/no service selected/);
});
