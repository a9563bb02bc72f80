import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { expect, it } from "vitest";
import { freePorts } from "../../scripts/free-ports.ts";
import { until } from "../support/until.ts";
import {
  healthcheck,
  stackFile,
  strictHealthcheck,
  swarmEndpoint,
  type Task,
  type TestPortainer,
  usePortainer,
} from "./support.ts";

const portainer = usePortainer();

async function deploy(
  name: string,
  deployLines: string,
  options: Parameters<typeof stackFile>[0] = {},
  restartDelay = "200ms",
) {
  const quickRestart = `restart_policy: { condition: any, delay: ${restartDelay} }`;
  const made = await portainer().createStack(
    swarmEndpoint,
    name,
    stackFile({ ...options, deploy: `${quickRestart}\n${deployLines}` }),
  );
  expect(made.status).toBe(200);
  return made.body;
}

const running = (stack: string, count: number) =>
  until(() => portainer().runningTasks(stack), (tasks) => tasks.length === count);

/** The fewest and most running tasks that were seen until the update ended, and its end. */
async function watchUpdate(stack: string, target: TestPortainer) {
  let fewest = Infinity;
  let most = 0;
  const state = await until(async () => {
    const service = await target.service(stack);
    const count = (await target.runningTasks(stack)).length;
    fewest = Math.min(fewest, count);
    most = Math.max(most, count);
    return service.UpdateStatus?.State;
  }, (state) => state !== undefined && state !== "updating" && state !== "rollback_started");
  return { fewest, most, state };
}

it("names containers and tasks as Swarm does", async () => {
  await deploy("named", "replicas: 2");
  const tasks = await running("named", 2);
  const containers = await portainer().containers(swarmEndpoint, "named");
  expect(containers.flatMap(({ Names }) => Names).toSorted()).toEqual(
    tasks.map((task: Task) => `/named_agent.${task.Slot}.${task.ID}`).toSorted(),
  );
});

it("replaces a task whose process is killed from outside", async () => {
  await deploy("killed", "replicas: 2");
  const [victim] = await running("killed", 2);
  process.kill(victim!.Status.ContainerStatus!.PID, "SIGKILL");
  const tasks = await until(
    () => portainer().tasks("killed"),
    (tasks) =>
      tasks.find(({ ID }) => ID === victim!.ID)?.Status.State === "failed" &&
      tasks.filter(({ Status }) => Status.State === "running").length === 2,
  );
  expect(tasks.find(({ ID }) => ID === victim!.ID)!.Status.Err).toBe("task: non-zero exit (137)");
  const heir = tasks.find(({ Slot, Status }) =>
    Slot === victim!.Slot && Status.State === "running"
  );
  expect(heir!.Status.ContainerStatus!.ContainerID)
    .not.toBe(victim!.Status.ContainerStatus!.ContainerID);
});

it("scales up and down without touching the tasks that stay", async () => {
  await deploy("scaled", "replicas: 2");
  const before = await running("scaled", 2);
  const scale = (replicas: number) =>
    portainer().updateService("scaled", (spec) => spec.Mode.Replicated.Replicas = replicas);
  expect((await scale(4)).status).toBe(200);
  const after = await running("scaled", 4);
  expect(after.map(({ ID }) => ID)).toEqual(
    expect.arrayContaining(before.map(({ ID }) => ID)),
  );
  await scale(1);
  expect((await running("scaled", 1)).map(({ Slot }) => Slot)).toEqual([1]);
});

it("refuses an update of a version that is not the current one", async () => {
  await deploy("stale", "replicas: 1");
  const service = await portainer().service("stale");
  const target = `/services/${service.ID}/update?version=${service.Version.Index}`;
  expect((await portainer().docker(swarmEndpoint, "POST", target, service.Spec)).status).toBe(200);
  const second = await portainer().docker(swarmEndpoint, "POST", target, service.Spec);
  expect(second.status).toBe(500);
  expect(second.body["message"]).toContain("update out of sequence");
});

it("never has fewer tasks than replicas when it rolls start-first", async () => {
  await deploy(
    "rolling",
    "replicas: 3\nupdate_config: { parallelism: 1, order: start-first, monitor: 200ms }",
    { service: healthcheck },
  );
  const before = await running("rolling", 3);
  await portainer().updateService("rolling", (spec) => spec.TaskTemplate.ForceUpdate++);
  const { fewest, most, state } = await watchUpdate("rolling", portainer());
  expect(state).toBe("completed");
  expect(fewest).toBe(3);
  expect(most).toBeLessThanOrEqual(4);
  const after = await running("rolling", 3);
  for (const { ID } of before) expect(after.map((task) => task.ID)).not.toContain(ID);
});

it("takes no more tasks away at once than parallelism allows when it rolls stop-first", async () => {
  const folder = await mkdtemp(path.join(tmpdir(), "agent-launchpad-gate-"));
  const gate = path.join(folder, "open");
  await deploy(
    "stopping",
    "replicas: 4\nupdate_config: { parallelism: 2, order: stop-first, monitor: 200ms }",
    {
      environment: { GATE: "/" },
      service: healthcheck.replace(/test: .*/, () => `test: ["CMD-SHELL", 'test -e "$$GATE"']`),
    },
  );
  await running("stopping", 4);
  await portainer().updateService("stopping", (spec) => {
    spec.TaskTemplate.ContainerSpec.Env = [`GATE=${gate}`];
  });
  // Nothing new becomes healthy before the gate is there.
  await running("stopping", 2);
  await writeFile(gate, "");
  const { fewest, most, state } = await watchUpdate("stopping", portainer());
  expect(state).toBe("completed");
  expect(fewest).toBeGreaterThanOrEqual(2);
  expect(most).toBeLessThanOrEqual(4);
  await rm(folder, { recursive: true });
});

it("rejects tasks of an unknown image, pauses, and takes the former one back", async () => {
  await deploy(
    "pausing",
    "replicas: 2\nupdate_config: { parallelism: 1, order: start-first, monitor: 200ms }\n" +
      "rollback_config: { parallelism: 0, monitor: 200ms }",
    {},
    // So that one is rejected also between the request to go back and its beginning.
    "5ms",
  );
  const before = await running("pausing", 2);
  await portainer().updateService("pausing", (spec) => {
    spec.TaskTemplate.ContainerSpec.Image = "nobody/nothing:1";
  });
  expect((await watchUpdate("pausing", portainer())).state).toBe("paused");
  const tasks = await portainer().tasks("pausing");
  expect(tasks.find(({ Status }) => Status.State === "rejected")!.Status.Err)
    .toBe("No such image: nobody/nothing:1");
  expect((await portainer().runningTasks("pausing")).length).toBe(2);

  const service = await portainer().service("pausing");
  await portainer().docker(
    swarmEndpoint,
    "POST",
    `/services/${service.ID}/update?version=${service.Version.Index}&rollback=previous`,
    service.Spec,
  );
  expect((await watchUpdate("pausing", portainer())).state).toBe("rollback_completed");
  const after = await running("pausing", 2);
  expect(after.map(({ ID }) => ID).toSorted()).toEqual(before.map(({ ID }) => ID).toSorted());
});

it("rolls back by itself when the failure action says so", async () => {
  await deploy(
    "reverting",
    "replicas: 1\nupdate_config: { failure_action: rollback, monitor: 600s }\n" +
      "rollback_config: { monitor: 100ms }",
  );
  await running("reverting", 1);
  await portainer().updateService("reverting", (spec) => {
    spec.TaskTemplate.ContainerSpec.Env = ["CRASH_AFTER=0.1"];
  });
  const service = await until(
    () => portainer().service("reverting"),
    ({ UpdateStatus }) => UpdateStatus?.State === "rollback_completed",
  );
  expect(service.Spec.TaskTemplate.ContainerSpec.Env).toEqual([]);
  await running("reverting", 1);
});

it("ends a task that turns unhealthy and starts another", async () => {
  await deploy("sick", "replicas: 1", {
    environment: { UNHEALTHY_AFTER: "1" },
    service: strictHealthcheck,
  });
  const tasks = await until(
    () => portainer().tasks("sick"),
    (tasks) => tasks.some(({ Status }) => Status.State === "failed"),
  );
  expect(tasks.find(({ Status }) => Status.State === "failed")!.Status.Err)
    .toContain("dockerexec: unhealthy container");
});

it("spreads connections of a published port over the healthy tasks", async () => {
  await deploy("spread", "replicas: 3", { service: `ports: ["3000"]\n${healthcheck}` });
  await running("spread", 3);
  const port = (await portainer().service("spread")).Endpoint.Ports![0]!.PublishedPort;
  expect(port).toBeGreaterThanOrEqual(30000);
  const names = new Set<string>();
  for (let index = 0; index < 6; index++) {
    const response = await fetch(`http://127.0.0.1:${port}/`, {
      headers: { connection: "close" },
    });
    names.add((await response.json() as { name: string }).name);
  }
  expect(names.size).toBe(3);
});

it("publishes for each task where the mode is host", async () => {
  await deploy("hosted", "replicas: 2", { service: "ports: [{ target: 3000, mode: host }]" });
  const tasks = await running("hosted", 2);
  const ports = tasks.map(({ Status }) => Status.PortStatus.Ports![0]!.PublishedPort);
  expect(new Set(ports).size).toBe(2);
  const answers = await Promise.all(ports.map((port) =>
    until(
      () => fetch(`http://127.0.0.1:${port}/`).then(({ status }) => status, () => 0),
      (status) => status === 200,
    )
  ));
  expect(answers).toEqual([200, 200]);
});

it("refuses a published port that another service has", async () => {
  const [port] = await freePorts(1);
  const service = `ports: ["${port}:3000"]`;
  await deploy("first", "replicas: 1", { service });
  const { status, body } = await portainer().createStack(
    swarmEndpoint,
    "second",
    stackFile({ service }),
  );
  expect(status).toBe(500);
  expect(body.message).toContain(`port '${port}' is already in use by service 'first_agent'`);
});

it("keeps no more than the last ended tasks of a slot", async () => {
  await deploy("crashing", "replicas: 1", { environment: { CRASH_AFTER: "0.05" } });
  await until(async () => {
    const tasks = await portainer().tasks("crashing");
    return { newest: tasks.at(-1)!.ID, count: tasks.length };
  }, ({ count }) => count >= 6);
  const first = (await portainer().tasks("crashing"))[0]!.ID;
  const later = await until(
    () => portainer().tasks("crashing"),
    (tasks) => tasks[0]!.ID !== first,
  );
  expect(later.length).toBeLessThanOrEqual(7);
});

it("serves the logs of all tasks of a service in order of time", async () => {
  await deploy("talkative", "replicas: 2", { environment: { LOG_RATE: "50" } });
  await running("talkative", 2);
  const service = await portainer().service("talkative");
  const read = async () => {
    const response = await portainer().fetch(
      "GET",
      `/api/endpoints/1/docker/services/${service.ID}/logs?stdout=1&stderr=1&timestamps=1`,
    );
    const text = Buffer.from(await response.arrayBuffer()).toString("latin1");
    return [...text.matchAll(/\d{4}-\d\d-\d\dT[\d:]{8}\.\d{9}Z/g)].map(([time]) => time);
  };
  const times = await until(read, (times) => times.length > 40);
  expect(times).toEqual(times.toSorted());
});
