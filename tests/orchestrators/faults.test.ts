import { randomUUID } from "node:crypto";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { createOrchestrator } from "../../shared/orchestrators/create.ts";
import type { OrchestratorError } from "../../shared/orchestrators/errors.ts";
import type {
  ClusterConnection,
  Orchestrator,
  WorkloadRef,
  WorkloadSpec,
} from "../../shared/orchestrators/types.ts";
import { apiKey, standaloneEndpoint, swarmEndpoint, TestPortainer } from "../portainer/support.ts";
import { openPortainerRig } from "./portainer-rig.ts";
import { until } from "../support/until.ts";
const SECRET = "s3cret-never-shown";
const { signal } = new AbortController();

let portainer: TestPortainer;

beforeAll(async () => {
  portainer = await TestPortainer.start();
});

afterAll(() => portainer.discard());

function newSpec(): WorkloadSpec {
  const agentId = randomUUID();
  return {
    agentId,
    name: `faults-${agentId.slice(0, 8)}`,
    image: "agent-launchpad/demo-agent:latest",
    replicas: 1,
    environment: { TOKEN: SECRET },
    resources: {},
    port: 3000,
    healthCheck: null,
    labels: {},
    strategy: "rolling",
    maxUnavailable: 1,
    scaling: null,
    revision: 1,
  };
}

function connection(
  endpointId: number,
  changes: Partial<ClusterConnection> = {},
): ClusterConnection {
  return {
    ...openPortainerRig({ url: portainer.url, apiKey, endpointId, image: "" }).cluster,
    options: { deployTimeoutMs: 1000 },
    ...changes,
  };
}

async function order(path: string, fault: object, method?: string, times = 1): Promise<void> {
  const response = await fetch(`${portainer.url}/__faults`, {
    method: "POST",
    headers: { "x-api-key": apiKey, "content-type": "application/json" },
    body: JSON.stringify({ ...(method ? { method } : {}), path, times, fault }),
  });
  expect(response.ok).toBe(true);
}

async function clear(): Promise<void> {
  await fetch(`${portainer.url}/__faults`, { method: "DELETE", headers: { "x-api-key": apiKey } });
}

async function failureOf(promise: Promise<unknown>): Promise<OrchestratorError> {
  return await promise.then(
    () => {
      throw new Error("it did not fail");
    },
    (error) => error,
  );
}

describe.each([["standalone Docker", standaloneEndpoint], ["Swarm", swarmEndpoint]])(
  "when the creation goes wrong on %s",
  (_, endpointId) => {
    const CREATE = "^/api/stacks/create/";
    let orchestrator: Orchestrator;
    let spec: WorkloadSpec;

    beforeEach(() => {
      orchestrator = createOrchestrator(connection(endpointId));
      spec = newSpec();
    });

    afterEach(async () => {
      await clear();
      await orchestrator.remove(refOf(spec), signal);
    });

    function refOf(of: WorkloadSpec): WorkloadRef {
      return { agentId: of.agentId, name: of.name, stackId: null, namespace: null };
    }

    async function deployedOnce(): Promise<void> {
      await until(
        () => orchestrator.deploy(spec, signal).catch((error: OrchestratorError) => error.details),
        (result) => "stackId" in result,
      );
      const rig = openPortainerRig({ url: portainer.url, apiKey, endpointId, image: "" });
      expect(await rig.count(spec.name)).toBe(1);
      await until(
        () => orchestrator.inspect(refOf(spec), signal),
        (state) => state?.settled === true,
      );
    }

    it("and works without ever answering: it is found", async () => {
      await order(CREATE, { kind: "mute" }, "POST");
      await orchestrator.deploy(spec, signal);
      await deployedOnce();
    });

    it("and works but breaks the connection: it is found", async () => {
      await order(CREATE, { kind: "drop", after: true }, "POST");
      await orchestrator.deploy(spec, signal);
      await deployedOnce();
    });

    it("and a proxy answers with HTML: a repeat makes one", async () => {
      await order(CREATE, { kind: "html", status: 502 }, "POST");
      const error = await failureOf(orchestrator.deploy(spec, signal));
      expect(error).toMatchObject({
        code: "UPSTREAM_UNAVAILABLE",
        retryable: true,
        ambiguous: true,
      });
      // It may be under way behind the proxy, so that a repeat waits until it would be seen.
      expect(await failureOf(orchestrator.deploy(spec, signal))).toMatchObject({
        retryable: true,
        ambiguous: false,
        details: { reason: "in_progress" },
      });
      orchestrator = createOrchestrator(connection(endpointId), {
        now: () => Date.now() + 30_000,
      });
      await deployedOnce();
    });

    it("and Portainer says 500: the words stay there, a repeat makes one", async () => {
      await order(CREATE, {
        kind: "status",
        status: 500,
        body: { message: `boom ${SECRET}`, details: "at line 7 of /data/compose/1" },
      }, "POST");
      const error = await failureOf(orchestrator.deploy(spec, signal));
      expect(error).toMatchObject({ code: "DEPLOYMENT_FAILED", retryable: true, ambiguous: false });
      const told = JSON.stringify(error) + error.message + error.stack;
      expect(told).not.toContain(SECRET);
      expect(told).not.toContain("line 7");
      await deployedOnce();
    });

    it("and Portainer says 409 without reason: it is not taken for ours", async () => {
      await order(CREATE, { kind: "status", status: 409 }, "POST");
      const error = await failureOf(orchestrator.deploy(spec, signal));
      expect(error).toMatchObject({
        code: "DEPLOYMENT_FAILED",
        retryable: false,
        details: { reason: "name_taken" },
      });
    });
  },
);

describe("when Portainer misbehaves", () => {
  let orchestrator: Orchestrator;
  const ref: WorkloadRef = {
    agentId: randomUUID(),
    name: "nobody",
    stackId: null,
    namespace: null,
  };

  beforeEach(() => {
    orchestrator = createOrchestrator(connection(standaloneEndpoint));
  });

  afterEach(clear);

  it.each([
    ["answers HTML", { kind: "html", status: 200 }, "not_json"],
    ["answers HTML with 502", { kind: "html", status: 502 }, "upstream_error"],
    ["answers 100 MB", { kind: "huge", bytes: 100 * 1024 * 1024 }, "too_large"],
    ["answers nothing", { kind: "hang", seconds: 3600 }, "timeout"],
    ["drops the connection", { kind: "drop" }, "unreachable"],
    [
      "answers JSON of another form",
      { kind: "status", status: 200, body: { no: 1 } },
      "unknown_form",
    ],
    ["redirects", { kind: "status", status: 302, body: {} }, "redirected"],
    ["is overloaded", { kind: "status", status: 503, body: {} }, "upstream_error"],
  ])("%s: it is unavailable, for a while", async (_, fault, reason) => {
    await order("^/api/stacks", fault, "GET", 0);
    const impatient = reason === "timeout" ? { options: { requestTimeoutMs: 1000 } } : {};
    const orchestrator = createOrchestrator(connection(standaloneEndpoint, impatient));
    expect(await failureOf(orchestrator.inspect(ref, signal))).toMatchObject({
      name: "OrchestratorError",
      code: "UPSTREAM_UNAVAILABLE",
      status: 503,
      retryable: true,
      ambiguous: false,
      details: { reason },
    });
  });

  it("takes no more memory for a huge answer than the limit allows", async () => {
    await order("^/api/stacks", { kind: "huge", bytes: 100 * 1024 * 1024 }, "GET", 0);
    const before = process.memoryUsage().arrayBuffers;
    await failureOf(orchestrator.inspect(ref, signal));
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(40 * 1024 * 1024);
  });

  it("says that it is down instead of throwing when asked for its health", async () => {
    await order(".*", { kind: "gone" });
    expect(await orchestrator.health(signal)).toMatchObject({ status: "down", nodes: null });
  });

  it("is asked anew what stands behind it after a failure", async () => {
    await order("^/api/endpoints", { kind: "drop" }, "GET", 1);
    await failureOf(orchestrator.inspect(ref, signal));
    expect(await orchestrator.inspect(ref, signal)).toBeNull();
  });

  it("gives up at once when the caller does", async () => {
    await order("^/api/stacks", { kind: "hang", seconds: 3600 }, "GET", 0);
    const patient = createOrchestrator(connection(standaloneEndpoint, { options: {} }));
    const caller = new AbortController();
    setTimeout(() => caller.abort(new Error("the lease is lost")), 100);
    expect(await failureOf(patient.inspect(ref, caller.signal))).toMatchObject({
      name: "OrchestratorError",
      details: { reason: "aborted" },
    });
  });
});

describe("when a Swarm service changes under our hands", () => {
  afterEach(clear);

  it("reads it again and carries the restart out", async () => {
    const orchestrator = createOrchestrator(connection(swarmEndpoint));
    const spec = newSpec();
    const ref = await orchestrator.deploy(spec, signal);
    const settled = () =>
      until(() => orchestrator.inspect(ref, signal), (state) => state?.settled === true);
    const before = (await settled())!.containers[0]!.id;
    await order(
      "/services/[^/]+/update",
      {
        kind: "status",
        status: 500,
        body: { message: "rpc error: code = Unknown desc = update out of sequence" },
      },
      "POST",
      2,
    );
    await orchestrator.restart(ref, spec, signal, {
      id: randomUUID(),
      requestedAt: new Date().toISOString(),
    });
    await until(
      () => orchestrator.inspect(ref, signal),
      (state) => state?.settled === true && state.containers[0]!.id !== before,
    );
    await orchestrator.remove(ref, signal);
  });
});

describe("the address of a cluster", () => {
  it.each(["ftp://x", "not a url", "http://user:password@host"])("cannot be %s", (url) => {
    expect(() => createOrchestrator(connection(1, { url }))).toThrow(
      expect.objectContaining({ details: { reason: "invalid_url" } }),
    );
  });

  it("is not followed elsewhere with the credential", async () => {
    let asked = 0;
    const elsewhere: Server = createServer((_, response) => {
      asked++;
      response.end("[]");
    });
    const here: Server = createServer((_, response) => {
      const { port } = elsewhere.address() as AddressInfo;
      response.writeHead(307, { location: `http://127.0.0.1:${port}/` }).end();
    });
    for (const server of [elsewhere, here]) {
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    }
    const { port } = here.address() as AddressInfo;
    const orchestrator = createOrchestrator(connection(1, { url: `http://127.0.0.1:${port}` }));
    const error = await failureOf(
      orchestrator.inspect({ agentId: "a", name: "n", stackId: null, namespace: null }, signal),
    );
    expect(error.details).toMatchObject({ reason: "redirected" });
    expect(asked).toBe(0);
    here.close();
    elsewhere.close();
  });
});
