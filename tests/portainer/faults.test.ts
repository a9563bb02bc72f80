import { afterEach, expect, it } from "vitest";
import { until } from "../support/until.ts";
import { apiKey, stackFile, standaloneEndpoint, usePortainer } from "./support.ts";

const portainer = usePortainer();
afterEach(() => portainer().call("DELETE", "/__faults"));

const order = (path: string, fault: unknown, rule: Record<string, unknown> = {}) =>
  portainer().call("POST", "/__faults", { path, fault, ...rule });

const list = () => portainer().fetch("GET", "/api/stacks");

it("wants the key, too", async () => {
  const response = await fetch(`${portainer().url}/__faults`);
  expect(response.status).toBe(401);
});

it("refuses a rule that it does not understand", async () => {
  expect((await order("", { kind: "earthquake" })).status).toBe(400);
});

it("answers a status as often as told", async () => {
  await order("^/api/stacks$", { kind: "status", status: 409, body: { message: "no" } }, {
    times: 2,
  });
  const answers = [];
  for (let index = 0; index < 3; index++) answers.push((await list()).status);
  expect(answers).toEqual([409, 409, 200]);
  const { body } = await portainer().call<{ hits: number }[]>("GET", "/__faults");
  expect(body[0]!.hits).toBe(2);
});

it("waits before it answers", async () => {
  await order("^/api/stacks$", { kind: "delay", ms: 300 });
  const began = Date.now();
  expect((await list()).status).toBe(200);
  expect(Date.now() - began).toBeGreaterThanOrEqual(300);
});

it("answers as a proxy in front would", async () => {
  await order("", { kind: "html", status: 502 });
  const response = await list();
  expect(response.status).toBe(502);
  expect(await response.text()).toContain("<html>");
});

it("sends as much as told", async () => {
  await order("", { kind: "huge", bytes: 5_000_000 });
  let size = 0;
  for await (const chunk of (await list()).body!) size += chunk.length;
  expect(size).toBeGreaterThanOrEqual(5_000_000);
});

it("drops a request without doing it", async () => {
  await order("create", { kind: "drop" }, { method: "post" });
  await expect(portainer().createStack(standaloneEndpoint, "dropped", stackFile())).rejects
    .toThrow();
  expect(await portainer().containers(standaloneEndpoint, "dropped")).toEqual([]);
});

it("does the work and never answers", async () => {
  await order("create", { kind: "mute" });
  const giveUp = new AbortController();
  let settled = false;
  const request = fetch(`${portainer().url}/api/stacks/create/standalone/string?endpointId=2`, {
    method: "POST",
    headers: { "x-api-key": apiKey },
    body: JSON.stringify({ Name: "silent", StackFileContent: stackFile() }),
    signal: giveUp.signal,
  }).finally(() => settled = true);
  await until(
    async () =>
      (await portainer().call<{ Name: string; Status: number }[]>("GET", "/api/stacks")).body,
    (stacks) => stacks.some(({ Name }) => Name === "silent"),
  );
  await until(
    () => portainer().containers(standaloneEndpoint, "silent"),
    (containers) => containers.length === 1,
  );
  expect(settled).toBe(false);
  giveUp.abort();
  await expect(request).rejects.toThrow();
});

it("hangs and drops the connection", async () => {
  await order("", { kind: "hang", seconds: 0.3 });
  const began = Date.now();
  await expect(list()).rejects.toThrow();
  expect(Date.now() - began).toBeGreaterThanOrEqual(300);
});

it("is gone until it is cleared", async () => {
  await order("", { kind: "gone" });
  await expect(list()).rejects.toThrow();
  await expect(fetch(`${portainer().url}/api/system/status`)).rejects.toThrow();
  await portainer().call("DELETE", "/__faults");
  expect((await list()).status).toBe(200);
});
