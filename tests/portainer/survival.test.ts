import { afterEach, beforeEach, expect, it } from "vitest";
import { until } from "../support/until.ts";
import { isAlive, stackFile, standaloneEndpoint, swarmEndpoint, TestPortainer } from "./support.ts";

let portainer: TestPortainer;
beforeEach(async () => {
  portainer = await TestPortainer.start();
  await portainer.createStack(
    swarmEndpoint,
    "fleet",
    stackFile({ service: 'ports: ["3000"]', deploy: "replicas: 2" }),
  );
  await portainer.createStack(
    standaloneEndpoint,
    "single",
    stackFile({ service: 'ports: ["3000"]\nrestart: always' }),
  );
  await until(() => portainer.runningTasks("fleet"), (tasks) => tasks.length === 2);
});
afterEach(() => portainer.discard());

async function facts() {
  const containers = [
    ...await portainer.containers(swarmEndpoint, "fleet"),
    ...await portainer.containers(standaloneEndpoint, "single"),
  ];
  const [swarmIds, single] = [containers.slice(0, -1), containers.at(-1)!];
  const details = await Promise.all([
    ...swarmIds.map(({ Id }) => portainer.inspect(swarmEndpoint, Id)),
    portainer.inspect(standaloneEndpoint, single.Id),
  ]);
  return {
    stacks: (await portainer.call("GET", "/api/stacks")).body,
    ids: containers.map(({ Id }) => Id).toSorted(),
    pids: details.map(({ State }) => State.Pid),
    ports: [
      (await portainer.service("fleet")).Endpoint.Ports![0]!.PublishedPort,
      single.Ports[0]!.PublicPort,
    ],
  };
}

it.each(["kill", "close"] as const)("comes back with all its stacks after %s", async (end) => {
  const before = await facts();
  await portainer[end]();
  // Whoever held their standard input is gone.
  await until(async () => await before.pids.filter(isAlive), (alive) => alive.length === 0);

  await portainer.launch();
  await until(() => portainer.runningTasks("fleet"), (tasks) => tasks.length === 2);
  const after = await facts();
  expect(after.stacks).toEqual(before.stacks);
  expect(after.ids).toEqual(before.ids);
  expect(after.ports).toEqual(before.ports);
  expect(after.pids.every((pid) => pid > 0 && isAlive(pid))).toBe(true);
  expect(after.pids.some((pid) => before.pids.includes(pid))).toBe(false);
});

it("keeps the logs of the life before", async () => {
  const { Id } = (await portainer.containers(standaloneEndpoint, "single"))[0]!;
  await until(() => portainer.logs(standaloneEndpoint, Id, ""), (frames) => frames.length >= 2);
  await portainer.kill();
  await portainer.launch();
  const frames = await until(
    () => portainer.logs(standaloneEndpoint, Id, ""),
    (frames) => frames.filter(({ text }) => text.includes("Starting agent")).length === 2,
  );
  expect(frames.length).toBeGreaterThan(2);
});

it("ends a container that outlived it, and no other process", async () => {
  const { Id } = (await portainer.containers(standaloneEndpoint, "single"))[0]!;
  const { State: { Pid } } = await portainer.inspect(standaloneEndpoint, Id);
  // A stopped process does not see the end of its standard input.
  process.kill(Pid, "SIGSTOP");
  await portainer.kill();
  expect(isAlive(Pid)).toBe(true);
  await portainer.launch();
  await until(() => Promise.resolve(isAlive(Pid)), (alive) => !alive);
  expect((await portainer.inspect(standaloneEndpoint, Id)).State.Running).toBe(true);
});

it("lets a stopped stack rest over a restart", async () => {
  const { body } = await portainer.call<{ Id: number; Name: string }[]>("GET", "/api/stacks");
  const { Id } = body.find(({ Name }) => Name === "single")!;
  await portainer.call("POST", `/api/stacks/${Id}/stop?endpointId=2`);
  await portainer.kill();
  await portainer.launch();
  expect((await portainer.call<{ Status: number }>("GET", `/api/stacks/${Id}`)).body.Status)
    .toBe(2);
  expect(await portainer.containers(standaloneEndpoint, "single")).toEqual([]);
});

it("takes up a deployment that was cut off before it was recorded", async () => {
  const { body } = await portainer.call<{ Id: number; Name: string }[]>("GET", "/api/stacks");
  const { Id } = body.find(({ Name }) => Name === "single")!;
  await portainer.call("POST", `/api/stacks/${Id}/stop?endpointId=2`);
  const file = stackFile({ environment: { STARTUP_MS: "0" }, deploy: "replicas: 3" });
  const made = portainer.createStack(standaloneEndpoint, "cut", file).catch(() => null);
  await until(
    () => portainer.containers(standaloneEndpoint, "cut"),
    (containers) => containers.length > 0,
  );
  await portainer.kill();
  await made;
  await portainer.launch();
  const { status } = await portainer.createStack(standaloneEndpoint, "cut", file);
  expect([200, 409]).toContain(status);
  const containers = await portainer.containers(standaloneEndpoint, "cut");
  expect(containers.map(({ State }) => State)).toEqual(["running", "running", "running"]);
});

it.each(
  [
    ["port", /port \d+ is in use/],
    ["directory", /is in use by another local Portainer/],
  ] as const,
)("does not start twice on the same %s", async (same, words) => {
  const before = await facts();
  const second = await portainer.second(same);
  expect(second.code).toBe(1);
  expect(second.words).toMatch(words);
  expect(await facts()).toEqual(before);
});

it("waits for a predecessor that is on its way out", async () => {
  const leaving = portainer.close();
  await portainer.launch();
  await leaving;
  await until(() => portainer.runningTasks("fleet"), (tasks) => tasks.length === 2);
});
