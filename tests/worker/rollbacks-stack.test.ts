/** Rollouts on a whole stack with real processes: what cannot come up is taken back, and health is checked as asked for. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { eventually } from "./support/eventually.ts";
import { ENGINES, PATIENT_CHECK, startWorkerRig, type WorkerRig } from "./support/rig.ts";

let rig: WorkerRig;
beforeAll(async () => {
  rig = await startWorkerRig();
  await rig.set("operations", "unhealthy_seconds", 4);
  await rig.set("operations", "backoff_base_seconds", 1);
  await rig.sql`
    insert into public.stack_templates (user_id, name, image, port, health_path) values
      (null, 'nowhere', 'agent-launchpad/not-there:1', 3000, '/health'),
      (null, 'no-health', 'elizaos/eliza:latest', 3000, '/no-such-path')`;
});
afterAll(() => rig?.stop());

/** For what is to fail it. */
const STRICT_CHECK = { interval: "1s", timeout: "1s", retries: 2 };

async function deploymentOf(id: string) {
  const { data } = await rig.user.from("deployments").select("state, revision, url, error")
    .eq("agent_id", id).single();
  return data!;
}

/** What the agent says of itself under its address. */
async function served(id: string): Promise<Record<string, unknown> | null> {
  try {
    const { url } = await deploymentOf(id);
    return await (await fetch(url as string)).json();
  } catch {
    return null;
  }
}

const update = (id: string, changes: Record<string, unknown>) =>
  rig.rpc("update_agent", { agent_id: id, changes });

describe.each(Object.keys(ENGINES) as (keyof typeof ENGINES)[])("on %s", (engine) => {
  const broken: Record<string, [Record<string, unknown>, string]> = {
    // At once: one that is healthy for a moment has come up.
    "crashes": [{ environment: { CRASH_AFTER: "0" } }, "DEPLOYMENT_FAILED"],
    "fails its health check": [
      { environment: { UNHEALTHY_AFTER: "0" }, portainer: { health_checks: STRICT_CHECK } },
      "CONTAINER_UNHEALTHY",
    ],
    "has no such health endpoint": [
      { portainer: { template: "no-health", health_checks: STRICT_CHECK } },
      "CONTAINER_UNHEALTHY",
    ],
    "has an image that does not exist": [
      { portainer: { template: "nowhere" } },
      "DEPLOYMENT_FAILED",
    ],
  };
  const agents = new Map<string, string>();
  beforeAll(async () => {
    // Side by side: most of the time is waiting for what does not come up.
    await Promise.all(
      Object.entries(broken).map(async ([what, [changes]]) => {
        const id = await rig.createAgent(engine, {
          name: `as before ${what}`.slice(0, 30),
          environment: { MODE: "good" },
          portainer: { health_checks: PATIENT_CHECK },
        });
        agents.set(what, id);
        await rig.finished(id, "deploy");
        await update(id, { ...changes, name: "changed" });
      }),
    );
  });
  afterAll(() => Promise.all([...agents.values()].map((id) => rig.discard(id))));

  it.each(Object.keys(broken))("an update that %s is taken back", async (what) => {
    const id = agents.get(what)!;
    const failed = await rig.finished(id, "update");
    expect(failed).toMatchObject({ state: "failed", error: { details: { rolled_back_to: 1 } } });
    // A Swarm goes back by itself at the first sign of trouble, whatever that is.
    if (engine === "compose") expect(failed.error!.code).toBe(broken[what]![1]);
    expect(await rig.finished(id, "rollback")).toMatchObject({
      state: "succeeded",
      error: null,
    });
    expect(await deploymentOf(id)).toMatchObject({ state: "running", revision: 3 });
    expect(await eventually(() => served(id), { what: "an answer" })).toMatchObject({
      name: `as before ${what}`.slice(0, 30),
      status: "running",
    });
    await eventually(async () => (await rig.runningContainers(id)).length === 1, {
      what: "one container",
    });
    const { data } = await rig.user.from("agent_revisions").select("revision, state")
      .eq("agent_id", id).order("revision");
    expect(data!.map((row) => row.state)).toEqual(["deployed", "failed", "deployed"]);
  });

  it("one that is brought blue-green never takes the address from what serves", async () => {
    const id = await rig.createAgent(engine, {
      name: "as before",
      portainer: { deployment_strategy: "blue-green", health_checks: PATIENT_CHECK },
    });
    expect(await rig.finished(id, "deploy")).toMatchObject({ state: "succeeded", error: null });
    await eventually(() => served(id), { what: "an answer" });
    await update(id, {
      name: "changed",
      environment: { UNHEALTHY_AFTER: "0" },
      portainer: { health_checks: STRICT_CHECK },
    });
    const answers = new Set<unknown>();
    const failed = await eventually(async () => {
      answers.add((await served(id))?.name);
      const operation = await rig.operation(id, "update");
      return operation.state === "failed" ? operation : null;
    }, { what: "the end of the update" });
    expect(failed.error!.details.rolled_back_to).toBe(1);
    expect(await rig.finished(id, "rollback")).toMatchObject({ state: "succeeded", error: null });
    expect([...answers]).toEqual(["as before"]);
    expect(await eventually(() => served(id), { what: "an answer" })).toMatchObject({
      name: "as before",
    });
    await eventually(async () => (await rig.runningContainers(id)).length === 1, {
      what: "one container",
    });
    await rig.discard(id);
  });

  /** How the engine was told to check the agent's container, times in nanoseconds. */
  async function engineCheckOf(id: string) {
    const filters = encodeURIComponent(
      JSON.stringify({ label: [`agent-launchpad.agent=${id}`] }),
    );
    const docker = `/api/endpoints/${ENGINES[engine]}/docker/containers`;
    const [container] = await (await rig.portainer(`${docker}/json?filters=${filters}`)).json();
    return (await (await rig.portainer(`${docker}/${container.Id}/json`)).json()).Config
      .Healthcheck;
  }

  it.each<[string, Record<string, unknown>, Record<string, unknown>]>([
    ["as asked for", { enabled: true, interval: "7s", timeout: "3s", retries: 5 }, {
      Test: ["CMD-SHELL", expect.stringContaining("http://127.0.0.1:3000/health")],
      Interval: 7e9,
      Timeout: 3e9,
      Retries: 5,
    }],
    ["every 30 seconds without a word", {}, { Interval: 30e9, Timeout: 10e9, Retries: 3 }],
    ["not at all", { enabled: false }, { Test: ["NONE"] }],
  ])("the engine checks the health %s", async (_, health_checks, expected) => {
    const id = await rig.createAgent(engine, { portainer: { health_checks } });
    expect(await rig.finished(id, "deploy")).toMatchObject({ state: "succeeded", error: null });
    expect(await engineCheckOf(id)).toMatchObject(expected);
    await rig.discard(id);
  });
});
