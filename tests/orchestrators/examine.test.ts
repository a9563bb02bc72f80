import { randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { createOrchestrator } from "../../shared/orchestrators/create.ts";
import type { Orchestrator, WorkloadRef, WorkloadSpec } from "../../shared/orchestrators/types.ts";
import { apiKey, standaloneEndpoint, swarmEndpoint, TestPortainer } from "../portainer/support.ts";
import { openPortainerRig } from "./portainer-rig.ts";
import { until } from "../support/until.ts";
import { intercept } from "./rig.ts";

const { signal } = new AbortController();
const SECRET = "s3cret-never-shown";

let portainer: TestPortainer;
beforeAll(async () => {
  portainer = await TestPortainer.start();
});
afterAll(() => portainer.discard());

const reply = (body: unknown, status = 200) =>
  new Response(body === null ? null : JSON.stringify(body), { status });

describe.each([["standalone Docker", standaloneEndpoint], ["Swarm", swarmEndpoint]])(
  "an examination on %s",
  (_, endpointId) => {
    let spec: WorkloadSpec;
    let ref: WorkloadRef;
    let plain: Orchestrator;
    const request = { id: "scan", scannerImage: "aquasec/trivy" };

    const connect = (handler?: Parameters<typeof intercept>[0]) =>
      createOrchestrator(
        openPortainerRig({ url: portainer.url, apiKey, endpointId, image: "" }).cluster,
        handler === undefined ? {} : { fetch: intercept(handler, fetch) },
      );

    beforeEach(async () => {
      const agentId = randomUUID();
      spec = {
        agentId,
        name: `examine-${agentId.slice(0, 8)}`,
        image: "agent-launchpad/demo-agent:latest",
        replicas: 1,
        environment: { API_TOKEN: SECRET, GREETING: "hello" },
        resources: { memory: "128Mi", cpu: "250m" },
        port: 3000,
        healthCheck: null,
        labels: {},
        strategy: "rolling",
        maxUnavailable: 1,
        scaling: null,
        revision: 1,
      };
      plain = connect();
      ref = await plain.deploy(spec, signal);
      await until(() => plain.inspect(ref, signal), (state) => state?.ready === 1);
    });
    afterEach(() => plain.remove(ref, signal));

    it("tells how the containers are set up, and no value of a variable", async () => {
      const found = await plain.examine!(ref, request, signal);
      expect(found!.containers).toMatchObject([{
        image: expect.stringContaining("agent-launchpad/demo-agent:latest"),
        root: true,
        privileged: false,
        memoryLimited: true,
        cpuLimited: true,
        hostMounts: [],
        plainSecrets: ["API_TOKEN"],
      }]);
      expect(JSON.stringify(found)).not.toContain(SECRET);
    });

    it("says that nobody scanned the images where there is no scanner", async () => {
      const found = await plain.examine!(ref, request, signal);
      expect(found!.vulnerabilities).toEqual({
        available: false,
        reason: "The engine has no image of a scanner (aquasec/trivy).",
      });
    });

    it("is none of a workload that is not ours", async () => {
      expect(await plain.examine!({ ...ref, agentId: randomUUID() }, request, signal)).toBeNull();
    });

    it("sees what is wrong", async () => {
      const found = await connect(async (_method, path, forward) => {
        const response = await forward();
        if (!/\/containers\/[0-9a-f]+\/json$/.test(path)) return response;
        const body = await response.json();
        Object.assign(body.HostConfig, {
          Privileged: true,
          CapAdd: ["CAP_SYS_ADMIN"],
          Memory: 0,
          NanoCpus: 0,
          PidMode: "host",
        });
        body.Config.User = "1000:1000";
        body.Mounts = [{ Type: "bind", Source: "/etc" }, { Type: "volume", Source: "/x" }];
        return reply(body);
      }).examine!(ref, request, signal);
      expect(found!.containers[0]).toMatchObject({
        root: false,
        privileged: true,
        capabilities: ["SYS_ADMIN"],
        memoryLimited: false,
        cpuLimited: false,
        hostMounts: ["/etc"],
        hostNamespaces: ["pid"],
      });
    });

    /**
     * An engine with the scanner's image, whose container writes this and ends with this code.
     *
     * @param taken the state of a container that an earlier attempt made
     */
    function withScanner(
      output: string,
      code: number,
      calls: string[],
      taken: string | null = null,
    ) {
      const bytes = new TextEncoder().encode(output);
      const frame = new Uint8Array(8 + bytes.length);
      frame[0] = 1;
      new DataView(frame.buffer).setUint32(4, bytes.length);
      frame.set(bytes, 8);
      return connect((method, path, forward) => {
        const call = path.replace(/^.*\/docker/, "");
        if (call === "/images/json") {
          return Promise.resolve(reply([{ RepoTags: ["aquasec/trivy:0.58.1"] }]));
        }
        const scanner = /^\/containers\/(?:create$|agent-launchpad-scan-scan-0)/.test(call);
        if (!scanner) return forward();
        calls.push(`${method} ${call}`);
        if (call === "/containers/create") {
          return Promise.resolve(
            taken === null ? reply({ Id: "s" }, 201) : reply({ message: "taken" }, 409),
          );
        }
        if (call.endsWith("/json")) return Promise.resolve(reply({ State: { Status: taken } }));
        if (call.endsWith("/wait")) return Promise.resolve(reply({ StatusCode: code }));
        if (call.endsWith("/logs")) return Promise.resolve(new Response(frame));
        return Promise.resolve(reply(null, 204));
      });
    }

    const report = JSON.stringify({
      SchemaVersion: 2,
      Results: [{
        Vulnerabilities: [{
          VulnerabilityID: "CVE-2026-1",
          PkgName: "openssl",
          InstalledVersion: "3.0",
          FixedVersion: "3.1",
          Severity: "HIGH",
        }],
      }],
    });
    const name = "/containers/agent-launchpad-scan-scan-0";

    it.each([
      ["begins", null, [`POST ${name}/start`]],
      ["takes up again, where it was not started,", "created", [
        `GET ${name}/json`,
        `POST ${name}/start`,
      ]],
      ["takes up again, where it runs or has ended,", "exited", [`GET ${name}/json`]],
    ])(
      "%s a scanner's container, reads its report and removes it",
      async (_, taken, begun) => {
        const calls: string[] = [];
        const found = await withScanner(report, 0, calls, taken).examine!(ref, request, signal);
        expect(found!.vulnerabilities).toEqual({
          available: true,
          scanner: "aquasec/trivy:0.58.1",
          vulnerabilities: [{
            id: "CVE-2026-1",
            severity: "high",
            package: "openssl",
            installed: "3.0",
            fixed: "3.1",
          }],
        });
        expect(calls).toEqual([
          "POST /containers/create",
          ...begun,
          `POST ${name}/wait`,
          `GET ${name}/logs`,
          `DELETE ${name}`,
        ]);
      },
    );

    it.each([
      ["fails", "", 1, "ended with code 1"],
      ["writes no report", "FATAL", 0, "no report that can be read"],
      ["writes too much", "x".repeat(33 * 1024 * 1024), 0, "too large"],
    ])(
      "has no figures when the scanner %s, and leaves no container",
      async (_, output, code, reason) => {
        const calls: string[] = [];
        const found = await withScanner(output, code, calls).examine!(ref, request, signal);
        expect(found!.vulnerabilities).toEqual({
          available: false,
          reason: expect.stringContaining(reason),
        });
        expect(calls.at(-1)).toBe(`DELETE ${name}`);
      },
    );

    it("removes scanners that nobody waits for any more, and no other", async () => {
      const removed: string[] = [];
      const ago = (minutes: number) => Math.floor(Date.now() / 1000) - minutes * 60;
      const cluster = createOrchestrator(
        openPortainerRig({ url: portainer.url, apiKey, endpointId, image: "" }).cluster,
        {
          fetch: (input, init) => {
            const url = new URL(String(input));
            if (url.searchParams.get("filters")?.includes("agent-launchpad.scan")) {
              return Promise.resolve(
                reply([{ Id: "old", Created: ago(60) }, { Id: "new", Created: ago(1) }]),
              );
            }
            const [, id] = /\/containers\/(old|new)$/.exec(url.pathname) ?? [];
            if (id !== undefined) removed.push(id);
            if (url.pathname.endsWith("/images/json")) {
              return Promise.resolve(reply([{ RepoTags: ["aquasec/trivy:0.58.1"] }]));
            }
            // The scan itself comes to nothing.
            if (id !== undefined || url.pathname.endsWith("/containers/create")) {
              return Promise.resolve(reply({ message: "no" }, 404));
            }
            return fetch(input, init);
          },
        },
      );
      expect((await cluster.examine!(ref, request, signal))!.vulnerabilities)
        .toMatchObject({ available: false });
      expect(removed).toEqual(["old"]);
    });
  },
);

describe("an examination on Kubernetes", () => {
  const agentId = randomUUID();
  const labels = { "agent-launchpad.agent": agentId };
  const ref = { agentId, name: "agent", stackId: null, namespace: "agents" };

  let asked: (string | null)[] = [];
  beforeEach(() => {
    asked = [];
  });

  function examine(pod: object, reports: unknown, status = 200, owners = ["agent-7d9"]) {
    const cluster = createOrchestrator({
      id: "k",
      name: "k",
      kind: "kubernetes",
      url: "http://kubernetes.test",
      endpointId: null,
      namespace: "agents",
      credential: "token",
      options: {},
    }, {
      fetch: (input) => {
        const { pathname: path, searchParams } = new URL(String(input));
        if (path.endsWith("/deployments/agent")) {
          return Promise.resolve(reply({
            metadata: { name: "agent", labels },
            spec: { replicas: 1, template: { spec: { containers: [] } } },
          }));
        }
        if (path.includes("/deployments/")) return Promise.resolve(reply({}, 404));
        if (path.endsWith("/pods")) {
          return Promise.resolve(reply({
            items: owners.map((owner, index) => ({
              metadata: {
                name: `agent-${index + 1}`,
                labels,
                ownerReferences: [{ kind: "ReplicaSet", name: owner }],
              },
              spec: pod,
              status: { phase: "Running" },
            })),
          }));
        }
        asked.push(searchParams.get("labelSelector"));
        return Promise.resolve(reply(reports, status));
      },
    });
    return cluster.examine!(ref, { id: "scan", scannerImage: "" }, signal);
  }
  const report = (owner: string) => ({
    metadata: { labels: { "trivy-operator.resource.name": owner } },
    report: {
      scanner: { name: "Trivy", version: "0.58.1" },
      vulnerabilities: [{
        vulnerabilityID: "CVE-2026-1",
        severity: "CRITICAL",
        resource: "zlib",
        installedVersion: "1.2",
        fixedVersion: "",
      }],
    },
  });
  const container = { name: "agent", image: "agent:1" };

  it("takes what is not forbidden for allowed", async () => {
    const found = await examine({ containers: [container] }, {}, 404);
    expect(found!.containers).toMatchObject([{
      name: "agent-1",
      root: true,
      memoryLimited: false,
      cpuLimited: false,
    }]);
  });

  it("sees security contexts, host paths, namespaces and plain secrets", async () => {
    const found = await examine(
      {
        hostNetwork: true,
        securityContext: { runAsNonRoot: true },
        volumes: [{ hostPath: { path: "/var/run/docker.sock" } }, { emptyDir: {} }],
        containers: [{
          ...container,
          securityContext: { privileged: true, capabilities: { add: ["NET_ADMIN"] } },
          resources: { limits: { memory: "1Gi", cpu: "1" } },
          env: [{ name: "API_TOKEN", value: SECRET }, { name: "DB_PASSWORD", valueFrom: {} }],
        }],
      },
      {},
      404,
    );
    expect(found!.containers).toMatchObject([{
      root: false,
      privileged: true,
      capabilities: ["NET_ADMIN"],
      memoryLimited: true,
      cpuLimited: true,
      hostMounts: ["/var/run/docker.sock"],
      hostNamespaces: ["network"],
      plainSecrets: ["API_TOKEN"],
    }]);
    expect(JSON.stringify(found)).not.toContain(SECRET);
  });

  it("reads the reports of trivy-operator on the agent's own pods", async () => {
    const found = await examine({ containers: [container] }, {
      items: [report("agent-7d9"), report("another")],
    });
    expect(found!.vulnerabilities).toEqual({
      available: true,
      scanner: "trivy-operator (Trivy 0.58.1)",
      vulnerabilities: [{
        id: "CVE-2026-1",
        severity: "critical",
        package: "zlib",
        installed: "1.2",
        fixed: null,
      }],
    });
    expect(asked).toEqual(["trivy-operator.resource.name in (agent-7d9)"]);
  });

  it("reads a report on what has a name too long for a label", async () => {
    const owner = `${"a".repeat(63)}-7d9`;
    const long = {
      ...report(owner),
      metadata: { annotations: { "trivy-operator.resource.name": owner } },
    };
    const found = await examine({ containers: [container] }, { items: [long] }, 200, [owner]);
    expect(found!.vulnerabilities).toMatchObject({ available: true, vulnerabilities: [{}] });
    expect(asked).toEqual(["trivy-operator.resource.name-hash"]);
  });

  it("has no figures while pods of one image are reported on and those of another are not", async () => {
    const reports = { items: [report("agent-7d9")] };
    const found = await examine({ containers: [container] }, reports, 200, [
      "agent-7d9",
      "agent-8f1",
    ]);
    expect(found!.vulnerabilities).toMatchObject({ available: false });
  });

  it.each([["no trivy-operator", {}, 404], ["no leave to read it", {}, 403], [
    "no report yet",
    { items: [report("another")] },
    200,
  ]])("has no figures with %s", async (_, reports, status) => {
    const found = await examine({ containers: [container] }, reports, status);
    expect(found!.vulnerabilities).toMatchObject({ available: false });
  });
});
