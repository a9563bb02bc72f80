import { readFile } from "node:fs/promises";
import { expect, it } from "vitest";
import { until } from "../support/until.ts";
import {
  healthcheck,
  stackFile,
  standaloneEndpoint as endpoint,
  strictHealthcheck,
  usePortainer,
} from "./support.ts";

const portainer = usePortainer();

async function run(name: string, options: Parameters<typeof stackFile>[0] = {}): Promise<string> {
  const made = await portainer().createStack(endpoint, name, stackFile(options));
  expect(made.status).toBe(200);
  const [container] = await portainer().containers(endpoint, name);
  return container!.Id;
}

const inspect = (id: string) => portainer().inspect(endpoint, id);
const act = (id: string, action: string) =>
  portainer().docker(endpoint, "POST", `/containers/${id}/${action}`);

it("starts a process again that is killed from outside, and counts it", async () => {
  const id = await run("revived", { service: "restart: unless-stopped" });
  const { State: { Pid } } = await inspect(id);
  process.kill(Pid, "SIGKILL");
  const after = await until(
    () => inspect(id),
    ({ State, RestartCount }) => State.Status === "running" && RestartCount === 1,
  );
  expect(after.State.Pid).not.toBe(Pid);
});

it("waits longer with each failure", async () => {
  const id = await run("failing", {
    environment: { CRASH_AFTER: "0.01" },
    service: "restart: always",
  });
  const starts = new Set<string>();
  await until(async () => {
    starts.add((await inspect(id)).State.StartedAt);
    return starts.size;
  }, (count) => count === 5);
  const times = [...starts].map((time) => Date.parse(time));
  const gaps = times.slice(1).map((time, index) => time - times[index]!);
  expect(gaps[0]!).toBeGreaterThanOrEqual(100);
  expect(gaps[3]!).toBeGreaterThanOrEqual(800);
});

it("restarts on failure no more often than told", async () => {
  const id = await run("limited", {
    environment: { CRASH_AFTER: "0.01", EXIT_CODE: "7" },
    service: 'restart: "on-failure:2"',
  });
  const details = await until(() => inspect(id), ({ State }) => State.Status === "exited");
  expect(details).toMatchObject({ RestartCount: 2, State: { ExitCode: 7 } });
});

it("leaves a container down that a user killed", async () => {
  const id = await run("put-down", { service: "restart: always" });
  expect((await act(id, "kill")).status).toBe(204);
  const details = await until(() => inspect(id), ({ State }) => !State.Running);
  expect(details.State).toMatchObject({ Status: "exited", ExitCode: 137 });
  expect((await act(id, "kill")).status).toBe(409);
});

it("stops politely, and answers 304 when there is nothing to do", async () => {
  const id = await run("polite");
  await until(() => portainer().logs(endpoint, id, ""), (frames) => frames.length > 0);
  expect((await act(id, "start")).status).toBe(304);
  expect((await act(id, "stop")).status).toBe(204);
  expect((await inspect(id)).State).toMatchObject({ Status: "exited", ExitCode: 0 });
  expect((await act(id, "stop")).status).toBe(304);
  expect((await act(id, "start")).status).toBe(204);
  expect((await inspect(id)).State.Running).toBe(true);
});

it("kills what does not end within its grace period", async () => {
  const id = await run("stubborn", {
    environment: { IGNORE_SIGTERM: "1" },
    service: "stop_grace_period: 3s",
  });
  await until(() => portainer().logs(endpoint, id, ""), (frames) => frames.length >= 2);
  await act(id, "stop");
  expect((await inspect(id)).State).toMatchObject({ Status: "exited", ExitCode: 137 });
  const frames = await portainer().logs(endpoint, id, "");
  expect(frames.some(({ text }) => text.includes("SIGTERM ignored"))).toBe(true);
});

it("ends a process that uses more memory than it may", async () => {
  const id = await run("greedy", {
    environment: { MEMORY_MB: "300" },
    service: "mem_limit: 200m",
  });
  const { State } = await until(() => inspect(id), ({ State }) => !State.Running);
  expect(State).toMatchObject({ OOMKilled: true, ExitCode: 137 });
});

it("runs health probes and keeps what they said", async () => {
  const id = await run("probed", { service: healthcheck });
  const { State } = await until(
    () => inspect(id),
    ({ State }) => State.Health?.Status === "healthy",
  );
  const entry = State.Health!.Log.at(-1);
  expect(entry!.ExitCode).toBe(0);
  expect(Date.parse(entry!.End)).toBeGreaterThanOrEqual(Date.parse(entry!.Start));
  expect(JSON.parse(entry!.Output)).toEqual({
    status: "healthy",
    uptime_seconds: expect.any(Number),
    checks: expect.arrayContaining([
      { name: "http_health", status: "passing", response_time_ms: expect.any(Number) },
    ]),
    requests: { total: 0, failed: 0, average_response_time_ms: null },
  });
});

it("reports a container as unhealthy and leaves it running", async () => {
  const id = await run("unwell", {
    environment: { UNHEALTHY_AFTER: "0.5" },
    service: strictHealthcheck,
  });
  const { State } = await until(
    () => inspect(id),
    ({ State }) =>
      State.Health?.Status === "unhealthy" && State.Health.Log.at(-1)!.Output.includes("503"),
  );
  expect(State.Running).toBe(true);
  expect(State.Health!.FailingStreak).toBeGreaterThanOrEqual(2);
  const list = await portainer().containers(endpoint, "unwell");
  expect(list[0]!.Status).toMatch(/^Up .* \(unhealthy\)$/);
});

it("fails a probe of a port that nothing listens on", async () => {
  const id = await run("deaf", { service: strictHealthcheck.replace("3000", "3999") });
  const { State } = await until(
    () => inspect(id),
    ({ State }) => State.Health?.Status === "unhealthy",
  );
  expect(State.Health!.Log.at(-1)!.Output).toContain("refused");
});

it("runs other probes in a shell, and gives up on one that takes too long", async () => {
  const check = (test: string, timeout = "30s") =>
    strictHealthcheck.replace(/test: .*/, () => `test: ${test}`).replace("30s", timeout);
  const works = await run("shell", { service: check('["CMD-SHELL", "echo port $$PORT"]') });
  const healthy = await until(
    () => inspect(works),
    ({ State }) => State.Health?.Status === "healthy",
  );
  expect(healthy.State.Health!.Log.at(-1)!.Output).toMatch(/^port \d+\n$/);
  const slow = await run("slow", { service: check('["CMD-SHELL", "sleep 60"]', "300ms") });
  const { State } = await until(
    () => inspect(slow),
    ({ State }) => State.Health?.Status === "unhealthy",
  );
  expect(State.Health!.Log.at(-1)).toMatchObject({
    ExitCode: -1,
    Output: expect.stringContaining("Health check exceeded timeout"),
  });
});

interface Stats {
  read: string;
  preread: string;
  cpu_stats: { cpu_usage: { total_usage: number }; system_cpu_usage: number; online_cpus: number };
  /** Without `system_cpu_usage` when there is no reading to compare with yet. */
  precpu_stats: { cpu_usage: { total_usage: number }; system_cpu_usage: number };
  memory_stats: { usage: number; limit: number; stats: { inactive_file: number } };
  networks?: { eth0: { rx_bytes: number; tx_bytes: number } };
}

const stats = async (id: string) =>
  (await portainer().docker<Stats>(endpoint, "GET", `/containers/${id}/stats?stream=false`)).body;

it("measures memory and processor time of the process", async () => {
  const id = await run("measured", {
    environment: { MEMORY_MB: "64", CPU_PERCENT: "40" },
    service: "mem_limit: 512m",
  });
  const used = async () => {
    if (process.platform !== "linux") return null;
    const stat = await readFile(`/proc/${(await inspect(id)).State.Pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return (Number(fields[11]) + Number(fields[12])) * 1e7;
  };
  const before = await used() ?? 0;
  const { cpu_stats: now, precpu_stats: last } = await until(
    () => stats(id),
    ({ cpu_stats, precpu_stats }) =>
      precpu_stats.system_cpu_usage > 0 &&
      cpu_stats.cpu_usage.total_usage > Math.max(before, precpu_stats.cpu_usage.total_usage),
  );
  expect(now.cpu_usage.total_usage).toBeLessThanOrEqual(await used() ?? Infinity);
  expect(now.system_cpu_usage).toBeGreaterThan(last.system_cpu_usage);
  const { memory_stats } = await until(
    () => stats(id),
    ({ memory_stats }) => memory_stats.usage > 64 * 1024 * 1024,
  );
  expect(memory_stats.limit).toBe(512 * 1024 * 1024);
  expect(memory_stats.usage).toBeLessThan(256 * 1024 * 1024);
});

it("counts the bytes that go through a published port", async () => {
  const id = await run("published", { service: 'ports: ["3000"]' });
  const [container] = await portainer().containers(endpoint, "published");
  await until(
    async () =>
      await fetch(`http://127.0.0.1:${container!.Ports[0]!.PublicPort}/`, {
        method: "POST",
        body: JSON.stringify({ message: "x".repeat(5000) }),
      }).then((response) => response.status, () => 0),
    (status) => status === 200,
  );
  const { networks } = await until(() => stats(id), ({ networks }) => networks!.eth0.tx_bytes > 0);
  expect(networks!.eth0.rx_bytes).toBeGreaterThan(5000);
});

it("streams figures", async () => {
  const id = await run("streamed");
  const response = await portainer().fetch(
    "GET",
    `/api/endpoints/${endpoint}/docker/containers/${id}/stats`,
  );
  let text = "";
  for await (const chunk of response.body!) {
    text += Buffer.from(chunk).toString();
    if (text.split("\n").length > 2) break;
  }
  const [first, second] = text.split("\n").map((line) => JSON.parse(line || "{}") as Stats);
  expect(Date.parse(second!.read)).toBeGreaterThan(Date.parse(first!.read));
});

it("gives empty figures for a container that does not run", async () => {
  const id = await run("still");
  await act(id, "stop");
  expect((await stats(id)).memory_stats).toEqual({});
});

it("says of an unknown container what Docker says", async () => {
  const { status, body } = await portainer().docker(endpoint, "GET", "/containers/nope/json");
  expect(status).toBe(404);
  expect(body).toEqual({ message: "No such container: nope" });
});

it("pulls the images it has and says of others what Docker says", async () => {
  const pull = (image: string) =>
    portainer().fetch(
      "POST",
      `/api/endpoints/${endpoint}/docker/images/create?fromImage=${image}&tag=latest`,
    );
  const known = await pull("elizaos/eliza");
  expect(known.status).toBe(200);
  expect(await known.text()).toContain("Status: Image is up to date for elizaos/eliza:latest");
  const unknown = await pull("nobody/nothing");
  expect(unknown.status).toBe(404);
  expect(await unknown.json()).toEqual({
    message:
      "pull access denied for nobody/nothing, repository does not exist or may require 'docker login': " +
      "denied: requested access to the resource is denied",
  });
});

it("reports the life of a container as events, kept and live", async () => {
  const since = Date.now() / 1000;
  const filters = encodeURIComponent(JSON.stringify({
    type: ["container"],
    label: ["com.docker.compose.project=eventful"],
  }));
  const response = await portainer().fetch(
    "GET",
    `/api/endpoints/${endpoint}/docker/events?filters=${filters}`,
  );
  const live = (async () => {
    let text = "";
    for await (const chunk of response.body!) {
      text += Buffer.from(chunk).toString();
      if (text.includes('"destroy"')) break;
    }
    return text;
  })();
  const made = await portainer().createStack(
    endpoint,
    "eventful",
    stackFile({ service: healthcheck }),
  );
  const [container] = await portainer().containers(endpoint, "eventful");
  await until(() => inspect(container!.Id), ({ State }) => State.Health?.Status === "healthy");
  await portainer().call("DELETE", `/api/stacks/${made.body.Id}?endpointId=${endpoint}`);
  const actions = (text: string) =>
    text.trim().split("\n").map((line) => (JSON.parse(line) as { Action: string }).Action);
  const expected = [
    "create",
    "start",
    "health_status: healthy",
    "kill",
    "die",
    "stop",
    "destroy",
  ];
  expect(actions(await live)).toEqual(expected);
  const kept = await portainer().fetch(
    "GET",
    `/api/endpoints/${endpoint}/docker/events?since=${since}&until=${
      Date.now() / 1000 + 0.1
    }&filters=${filters}`,
  );
  expect(actions(await kept.text())).toEqual(expected);
});
