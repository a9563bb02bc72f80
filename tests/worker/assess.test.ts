import { describe, expect, it } from "vitest";
import type { ContainerPosture, Vulnerability } from "../../shared/orchestrators/posture.ts";
import { looksSecret, parseTrivyReport } from "../../shared/orchestrators/posture.ts";
import { assess, isMutable } from "../../shared/worker/scans/assess.ts";

const safe: ContainerPosture = {
  id: "c1",
  name: "agent.1",
  image: "example/agent:1.2.3",
  root: false,
  privileged: false,
  capabilities: [],
  memoryLimited: true,
  cpuLimited: true,
  hostMounts: [],
  hostNamespaces: [],
  plainSecrets: [],
};
const unscanned = { available: false, reason: "no scanner" } as const;

const found = (changes: Partial<ContainerPosture>) =>
  assess({ containers: [{ ...safe, ...changes }], vulnerabilities: unscanned }).findings;

describe("the posture of a container", () => {
  it("is without findings when nothing is wrong or nothing is known", () => {
    expect(found({})).toEqual([]);
    expect(found({ root: null, privileged: null, memoryLimited: null, cpuLimited: null }))
      .toEqual([]);
  });

  it.each<[string, string, Partial<ContainerPosture>]>([
    ["root_user", "MEDIUM", { root: true }],
    ["privileged", "CRITICAL", { privileged: true }],
    ["mighty_capabilities", "HIGH", { capabilities: ["SYS_ADMIN"] }],
    ["added_capabilities", "MEDIUM", { capabilities: ["NET_RAW"] }],
    ["no_memory_limit", "MEDIUM", { memoryLimited: false }],
    ["no_cpu_limit", "LOW", { cpuLimited: false }],
    ["mutable_tag", "LOW", { image: "example/agent" }],
    ["host_mounts", "HIGH", { hostMounts: ["/etc"] }],
    ["engine_socket", "CRITICAL", { hostMounts: ["/var/run/docker.sock"] }],
    ["host_namespaces", "HIGH", { hostNamespaces: ["pid"] }],
    ["plain_secrets", "MEDIUM", { plainSecrets: ["API_TOKEN"] }],
  ])("has the finding %s, %s", (check, severity, changes) => {
    const findings = found(changes);
    expect(findings).toMatchObject([{ check, severity, containers: ["agent.1"] }]);
    expect(findings[0]!.recommendation).toMatch(new RegExp(`^${check}: .* in agent\\.1$`));
  });

  it("is one finding for all containers that have it", () => {
    const containers = ["a", "b"].map((name) => ({ ...safe, name, root: true }));
    expect(assess({ containers, vulnerabilities: unscanned }).findings).toMatchObject([
      { containers: ["a", "b"] },
    ]);
  });
});

it.each([
  ["a", true],
  ["a:latest", true],
  ["host:5000/a", true],
  ["a:latest@sha256:00", true],
  ["a:1.2.3", false],
  ["a@sha256:00", false],
])("%s moves: %s", (image, moves) => {
  expect(isMutable(image)).toBe(moves);
});

it.each([
  ["OPENAI_API_KEY", true],
  ["DISCORD_TOKEN", true],
  ["DB_PASSWORD", true],
  ["SUPABASE_DATABASE_URL", true],
  ["DB_PASSWORD_FILE", false],
  ["TOKENIZER", false],
  ["MAX_TOKENS", false],
  ["PORT", false],
])("%s looks like a secret: %s", (name, secret) => {
  expect(looksSecret(name)).toBe(secret);
});

describe("vulnerabilities", () => {
  const one: Vulnerability = {
    id: "CVE-1",
    severity: "critical",
    package: "openssl",
    installed: "1.0",
    fixed: "1.1",
  };

  it("are null and never zero where nobody scanned", () => {
    expect(assess({ containers: [safe], vulnerabilities: unscanned })).toMatchObject({
      vulnerabilities: null,
      scanner: null,
      unavailable_reason: "no scanner",
    });
  });

  it("are counted once each, and the grave ones named with their fix", () => {
    const vulnerabilities = [one, one, { ...one, id: "CVE-2", severity: "high", fixed: null }, {
      ...one,
      id: "CVE-3",
      severity: "unknown",
    }] as Vulnerability[];
    expect(
      assess({
        containers: [safe],
        vulnerabilities: { available: true, scanner: "trivy", vulnerabilities },
      }),
    ).toMatchObject({
      vulnerabilities: { critical: 1, high: 1, medium: 0, low: 1 },
      recommendations: [
        "CVE-1 (critical): update openssl from 1.0 to 1.1",
        "CVE-2 (high): openssl 1.0 has no fix yet; leave the package out if you can",
      ],
    });
  });

  it("are read from Trivy's JSON, of whichever scanner", () => {
    const report = {
      SchemaVersion: 2,
      Results: [{ Target: "os" }, {
        Vulnerabilities: [{
          VulnerabilityID: "CVE-1",
          PkgName: "openssl",
          InstalledVersion: "1.0",
          FixedVersion: "1.1",
          Severity: "CRITICAL",
        }],
      }],
    };
    expect(parseTrivyReport(JSON.stringify(report))).toEqual([one]);
    expect(parseTrivyReport("FATAL no space left")).toBeNull();
    expect(parseTrivyReport("{}")).toBeNull();
  });
});
