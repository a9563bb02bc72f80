import { get, type IncomingMessage } from "node:http";
import { expect, it } from "vitest";
import { residentMegabytes } from "../support/processes.ts";
import { until } from "../support/until.ts";
import {
  apiKey,
  demultiplex,
  type Frame,
  stackFile,
  standaloneEndpoint as endpoint,
  usePortainer,
} from "./support.ts";

const portainer = usePortainer();

async function runAgent(name: string, environment: Record<string, string>) {
  await portainer().createStack(endpoint, name, stackFile({ environment }));
  const [container] = await portainer().containers(endpoint, name);
  return container!.Id;
}

/** The number that the agent puts into each line, in the order of the frames. */
const numbers = (frames: Frame[]) =>
  frames.flatMap(({ text }) => /\): #(\d+) /.exec(text)?.[1] ?? []).map(Number);

const stampOf = (frame: Frame) => /^(\S+) /.exec(frame.text)![1]!;

/** A stamp as the fraction of Unix time that `since` takes. */
const unixOf = (stamp: string) =>
  `${Date.parse(stamp.slice(0, 19) + "Z") / 1000}.${stamp.slice(20, 29)}`;

it("frames both streams, with chunks that cut through frames", async () => {
  const id = await runAgent("framed", { LOG_RATE: "100" });
  await until(() => portainer().logs(endpoint, id, ""), (frames) => numbers(frames).length > 100);
  // Whoever reads later than they come gets chunks mended: `fetch` does, and a stream that waits.
  const target = `/api/endpoints/${endpoint}/docker/containers/${id}/logs?stdout=1&stderr=1`;
  const chunks: Uint8Array[] = [];
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    get(portainer().url + target, { headers: { "x-api-key": apiKey } }, (response) => {
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("end", () => resolve(response));
    }).on("error", reject);
  });
  expect(response.headers["content-type"]).toBe("application/vnd.docker.multiplexed-stream");
  expect(() => chunks.forEach(demultiplex)).toThrow();
  const frames = demultiplex(Buffer.concat(chunks));
  expect(new Set(frames.map(({ stream }) => stream))).toEqual(new Set([1, 2]));
  expect(frames.every(({ text }) => text.endsWith("\n"))).toBe(true);
});

it("gives one stream alone", async () => {
  const id = await runAgent("errors", { LOG_RATE: "100" });
  const frames = await until(async () => {
    const response = await portainer().fetch(
      "GET",
      `/api/endpoints/${endpoint}/docker/containers/${id}/logs?stderr=1`,
    );
    return demultiplex(new Uint8Array(await response.arrayBuffer()));
  }, (frames) => frames.length > 3);
  expect(frames.every(({ stream, text }) => stream === 2 && text.includes(" WARN "))).toBe(true);
});

it("refuses to log neither stream", async () => {
  const id = await runAgent("neither", {});
  const { status, body } = await portainer().docker(endpoint, "GET", `/containers/${id}/logs`);
  expect(status).toBe(400);
  expect(body["message"]).toBe("Bad parameters: you must choose at least one stream");
});

it("gives the last lines", async () => {
  const id = await runAgent("tailed", { LOG_RATE: "200" });
  await until(() => portainer().logs(endpoint, id, ""), (frames) => numbers(frames).length > 60);
  await portainer().docker(endpoint, "POST", `/containers/${id}/kill`);
  await until(() => portainer().inspect(endpoint, id), ({ State }) => !State.Running);
  const all = await portainer().logs(endpoint, id, "timestamps=1");
  const tail = await portainer().logs(endpoint, id, "timestamps=1&tail=10");
  expect(tail).toEqual(all.slice(-10));
  expect(await portainer().logs(endpoint, id, "tail=0")).toEqual([]);
});

it("goes on at a time to the nanosecond, without loss and without doubling", async () => {
  const id = await runAgent("resumed", { LOG_RATE: "500" });
  await until(() => portainer().logs(endpoint, id, ""), (frames) => numbers(frames).length > 200);
  const seen: Frame[] = await portainer().logs(endpoint, id, "timestamps=1");
  const cut = seen[100]!;
  const later = await portainer().logs(endpoint, id, `timestamps=1&since=${unixOf(stampOf(cut))}`);
  expect(later[0]).toEqual(cut);
  expect(later.slice(0, seen.length - 100)).toEqual(seen.slice(100));
  expect(new Set(later.map(stampOf)).size).toBe(later.length);
});

it("stops at a time", async () => {
  const id = await runAgent("until", { LOG_RATE: "200" });
  await until(() => portainer().logs(endpoint, id, ""), (frames) => numbers(frames).length > 50);
  const all = await portainer().logs(endpoint, id, "timestamps=1");
  const cut = unixOf(stampOf(all[20]!));
  expect(await portainer().logs(endpoint, id, `timestamps=1&until=${cut}`)).toEqual(
    all.slice(0, 21),
  );
});

it("keeps the log of a container that ended", async () => {
  const id = await runAgent("mourned", { CRASH_AFTER: "0.1", EXIT_CODE: "3" });
  const details = await until(
    () => portainer().inspect(endpoint, id),
    ({ State }) => State.Status === "exited",
  );
  expect(details.State.ExitCode).toBe(3);
  const frames = await portainer().logs(endpoint, id, `since=${unixOf(details.State.StartedAt)}`);
  expect(frames.at(-1)!.text).toContain("FATAL (eliza-core): Unrecoverable error, exiting");
});

it("follows until the container ends", async () => {
  const id = await runAgent("followed", { LOG_RATE: "20" });
  const response = await portainer().fetch(
    "GET",
    `/api/endpoints/${endpoint}/docker/containers/${id}/logs?stdout=1&stderr=1&follow=1&tail=0`,
  );
  const chunks: Uint8Array[] = [];
  for await (const chunk of response.body!) {
    chunks.push(chunk);
    if (chunks.length === 8) {
      portainer().docker(endpoint, "POST", `/containers/${id}/stop`);
    }
  }
  const frames = demultiplex(Buffer.concat(chunks));
  expect(numbers(frames).length).toBeGreaterThan(2);
  expect(frames.at(-1)!.text).toContain("Bye");
});

it("writes lines as JSON when the agent is told so", async () => {
  const id = await runAgent("json", { LOG_FORMAT: "json" });
  const frames = await until(
    () => portainer().logs(endpoint, id, ""),
    (frames) => frames.length > 0,
  );
  expect(JSON.parse(frames[0]!.text)).toMatchObject({
    level: "info",
    source: "eliza-core",
    message: "Starting agent " + JSON.parse(frames[0]!.text).message.split(" ").at(-1),
  });
});

it("holds a flood of lines in order, none lost, and within bounded memory", async () => {
  const id = await runAgent("flood", { LOG_RATE: "10000" });
  const last = async () => numbers(await portainer().logs(endpoint, id, "tail=20")).at(-1) ?? 0;
  await until(last, (number) => number > 10_000);
  const before = residentMegabytes(portainer().pid);
  const from = await last();
  await until(last, (number) => number > from + 40_000);
  expect(residentMegabytes(portainer().pid) - before).toBeLessThan(60);
  await portainer().docker(endpoint, "POST", `/containers/${id}/stop`);
  const frames = await portainer().logs(endpoint, id, "");
  for (const stream of [1, 2]) {
    const own = numbers(frames.filter((frame) => frame.stream === stream));
    expect(own).toEqual(own.toSorted((a, b) => a - b));
  }
  const kept = numbers(frames);
  expect(kept.length).toBeGreaterThan(40_000);
  expect(new Set(kept).size).toBe(kept.length);
  // Nothing is missing in between; only at the ends may one pipe be ahead of the other.
  const gaps = Math.max(...kept) - Math.min(...kept) + 1 - kept.length;
  expect(gaps).toBeLessThan(1000);
});
