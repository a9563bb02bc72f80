import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import path from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { createOrchestrator } from "../../shared/orchestrators/create.ts";
import type { OrchestratorError } from "../../shared/orchestrators/errors.ts";
import type { Orchestrator, WorkloadRef, WorkloadSpec } from "../../shared/orchestrators/types.ts";
import { apiKey, standaloneEndpoint, swarmEndpoint, TestPortainer } from "../portainer/support.ts";
import { denoCommand, root } from "../support/deno.ts";
import { openPortainerRig } from "./portainer-rig.ts";
import { until } from "../support/until.ts";
import { intercept } from "./rig.ts";

const { signal } = new AbortController();

let portainer: TestPortainer;

beforeAll(async () => {
  portainer = await TestPortainer.start();
});

afterAll(() => portainer.discard());

describe.each([["standalone Docker", standaloneEndpoint], ["Swarm", swarmEndpoint]])(
  "a claim on a stack's name on %s",
  (_, endpointId) => {
    let spec: WorkloadSpec;

    beforeEach(() => {
      const agentId = randomUUID();
      spec = {
        agentId,
        // As long as a stack's name can be.
        name: `claims-${agentId}-${agentId}`.slice(0, 48) + "x",
        image: "agent-launchpad/demo-agent:latest",
        replicas: 1,
        environment: {},
        resources: {},
        port: 3000,
        healthCheck: null,
        labels: {},
        strategy: "rolling",
        maxUnavailable: 1,
        scaling: null,
        revision: 1,
      };
    });

    afterEach(async () => {
      await portainer.call("DELETE", "/__faults");
      await connect().remove(ref(), signal);
      expect(await marks()).toEqual([]);
    });

    const rig = () => openPortainerRig({ url: portainer.url, apiKey, endpointId, image: "" });
    const connect = (): Orchestrator => createOrchestrator(rig().cluster);
    const ref = (): WorkloadRef => ({
      agentId: spec.agentId,
      name: spec.name,
      stackId: null,
      namespace: null,
    });

    /** Names of the marks that stand on the engine. */
    async function marks(): Promise<string[]> {
      if (endpointId === swarmEndpoint) {
        const { body } = await portainer.docker<{ Spec: { Name: string } }[]>(
          endpointId,
          "GET",
          "/configs",
        );
        return body.map(({ Spec }) => Spec.Name);
      }
      const { body } = await portainer.docker<{ Volumes: { Name: string }[] }>(
        endpointId,
        "GET",
        "/volumes",
      );
      return body.Volumes.map(({ Name }) => Name);
    }

    const markPath = endpointId === swarmEndpoint ? "/configs" : "/volumes";

    async function plant(labels: Record<string, string>): Promise<void> {
      const { status } = await portainer.docker(endpointId, "POST", `${markPath}/create`, {
        Name: `${spec.name}.launchpad`,
        Labels: labels,
        ...(endpointId === swarmEndpoint ? { Data: btoa("planted") } : {}),
      });
      expect(status).toBe(201);
    }

    /** A mark that another process set so long ago. */
    const plantMark = (ageMs: number) =>
      plant({
        "agent-launchpad.agent": spec.agentId,
        "agent-launchpad.claim": randomUUID(),
        "agent-launchpad.claimed-at": String(Date.now() - ageMs),
      });

    async function slowCreates(milliseconds: number): Promise<void> {
      await portainer.call("POST", "/__faults", {
        method: "POST",
        path: "^/api/stacks/create/",
        times: 0,
        fault: { kind: "delay", ms: milliseconds },
      });
    }

    /** How many creates Portainer was asked for since `slowCreates`. */
    async function createsSent(): Promise<number> {
      const { body } = await portainer.call<{ hits: number }[]>("GET", "/__faults");
      return body[0]!.hits;
    }

    /** Tries again for as long as it is told that another is at it, as the worker does. */
    async function deployed(): Promise<string> {
      const result = await until(
        () =>
          connect().deploy(spec, signal).catch((error: OrchestratorError) => {
            if (error.details?.["reason"] !== "in_progress") throw error;
            return { stackId: null };
          }),
        ({ stackId }) => stackId !== null,
      );
      return result.stackId!;
    }

    async function expectOneWorkload(): Promise<void> {
      expect(await rig().count(spec.name)).toBe(1);
      const state = await until(
        () => connect().inspect(ref(), signal),
        (state) => state?.settled === true,
      );
      expect(state!.containers.length).toBe(1);
      expect(await marks()).toEqual([]);
    }

    it("makes one stack of two creates at the same moment", async () => {
      await slowCreates(1000);
      const [one, two] = await Promise.all([deployed(), deployed()]);
      expect(two).toBe(one);
      expect(await createsSent()).toBe(1);
      await expectOneWorkload();
    });

    it("makes one stack although a worker dies in a slow create and another follows", async () => {
      // Longer than the second one waits before it gives up for the time being.
      await slowCreates(6500);
      const { command, args } = denoCommand();
      const worker = spawn(
        command,
        [
          ...args,
          "run",
          "-A",
          "--quiet",
          path.join(root, "tests", "orchestrators", "doomed-worker.ts"),
          JSON.stringify({ cluster: rig().cluster, spec }),
        ],
        { cwd: root, stdio: "ignore" },
      );
      const ended = once(worker, "exit");
      await until(createsSent, (count) => count === 1);
      worker.kill("SIGKILL");
      await ended;
      expect(await rig().count(spec.name)).toBe(0);

      await deployed();
      expect(await createsSent()).toBe(1);
      await expectOneWorkload();
    });

    it("is given up with the deployment", async () => {
      await connect().deploy(spec, signal);
      expect(await marks()).toEqual([]);
    });

    it("is given up when the deployment fails for good", async () => {
      await portainer.call("POST", "/__faults", {
        method: "POST",
        path: "^/api/stacks/create/",
        fault: { kind: "status", status: 500, body: { message: "no", details: "no" } },
      });
      await expect(connect().deploy(spec, signal)).rejects.toMatchObject({ ambiguous: false });
      expect(await marks()).toEqual([]);
    });

    it("keeps others off while its maker may still be at it", async () => {
      await plantMark(0);
      await expect(connect().deploy(spec, signal)).rejects.toMatchObject({
        code: "UPSTREAM_UNAVAILABLE",
        retryable: true,
        ambiguous: false,
        details: { reason: "in_progress" },
      });
      expect(await rig().count(spec.name)).toBe(0);
    });

    it("is taken over by one once its maker must be gone", async () => {
      await plantMark(60_000);
      await slowCreates(1000);
      const [one, two] = await Promise.all([deployed(), deployed()]);
      expect(two).toBe(one);
      expect(await createsSent()).toBe(1);
      await expectOneWorkload();
    });
    it("is taken away by its id where it has one, by which Portainer keeps who may use it", async () => {
      const removed: string[] = [];
      const watching = intercept((method, path, forward) => {
        if (method === "DELETE") removed.push(path.split("/").at(-1)!);
        return forward();
      }, fetch);
      await createOrchestrator(rig().cluster, { fetch: watching }).deploy(spec, signal);
      expect(removed).toEqual([
        endpointId === swarmEndpoint
          ? expect.stringMatching(/^[0-9a-z]{25}$/)
          : `${spec.name}.launchpad`,
      ]);
    });

    it("is not taken for what bears its name and is none", async () => {
      await plant({});
      await connect().remove(ref(), signal);
      expect(await marks()).toEqual([`${spec.name}.launchpad`]);
      await portainer.docker(endpointId, "DELETE", `${markPath}/${spec.name}.launchpad`);
    });
  },
);
