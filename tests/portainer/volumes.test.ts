import { expect, it } from "vitest";
import { stackFile, standaloneEndpoint, swarmEndpoint, usePortainer } from "./support.ts";

const portainer = usePortainer();

interface Volume {
  Name: string;
  Driver: string;
  Labels: Record<string, string>;
  CreatedAt: string;
  Scope: string;
}

const call = <T = Volume>(method: string, target: string, body?: unknown) =>
  portainer().docker<T & { message?: string }>(standaloneEndpoint, method, target, body);

const create = (name: string, labels: Record<string, string> = {}) =>
  call("POST", "/volumes/create", { Name: name, Labels: labels });

async function list(filters: Record<string, string[]>): Promise<string[]> {
  const query = encodeURIComponent(JSON.stringify(filters));
  const { body } = await call<{ Volumes: Volume[] }>("GET", `/volumes?filters=${query}`);
  return body.Volumes.map(({ Name }) => Name);
}

it("creates a volume with labels", async () => {
  const { status, body } = await create("made", { owner: "one" });
  expect(status).toBe(201);
  expect(body).toMatchObject({
    Name: "made",
    Driver: "local",
    Scope: "local",
    Labels: { owner: "one" },
  });
  expect(body.CreatedAt).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
});

it("answers a repeated name with the volume that is there", async () => {
  const first = await create("repeated", { owner: "one" });
  const second = await create("repeated", { owner: "two" });
  expect(second.status).toBe(201);
  expect(second.body).toEqual(first.body);
  expect(await list({ name: ["repeated"] })).toEqual(["repeated"]);
});

it("lets one of many creates at the same moment have the name", async () => {
  const answers = await Promise.all(
    Array.from({ length: 10 }, (_, index) => create("contested", { owner: String(index) })),
  );
  expect(new Set(answers.map(({ body }) => body.Labels["owner"])).size).toBe(1);
});

it("names a volume that was given no name", async () => {
  const { status, body } = await call("POST", "/volumes/create", {});
  expect(status).toBe(201);
  expect(body.Name).toMatch(/^[0-9a-f]{64}$/);
  expect(body.Labels).toEqual({ "com.docker.volume.anonymous": "" });
});

it.each([
  [{ Name: "a/b" }, 400, /"a\/b" includes invalid characters for a local volume name/],
  [{ Name: "a" }, 400, /volume name is too short/],
  [{ Name: 7 }, 400, /invalid JSON/],
  [{ Name: "labelled", Labels: { a: 1 } }, 400, /invalid JSON/],
  [{ Name: "driven", Driver: "nfs" }, 404, /plugin "nfs" not found/],
])("refuses %j", async (body, status, message) => {
  const answer = await call("POST", "/volumes/create", body);
  expect(answer.status).toBe(status);
  expect(answer.body.message).toMatch(message);
});

it("shows one volume, or that there is none", async () => {
  const { body } = await create("shown");
  expect(await call("GET", "/volumes/shown")).toEqual({ status: 200, body });
  expect(await call("GET", "/volumes/unknown")).toEqual({
    status: 404,
    body: { message: "get unknown: no such volume" },
  });
  expect(await portainer().docker(swarmEndpoint, "GET", "/volumes/unknown")).toEqual({
    status: 404,
    body: { message: "volume unknown not found" },
  });
});

it("lists by label, name and use", async () => {
  await create("listed-one", { team: "red", spare: "" });
  await create("listed-two", { team: "blue" });
  expect(await list({ label: ["team=red"] })).toEqual(["listed-one"]);
  expect(await list({ label: ["team", "spare"] })).toEqual(["listed-one"]);
  expect(await list({ name: ["sted-tw"] })).toEqual(["listed-two"]);
  expect(await list({ name: ["listed"], dangling: ["false"] })).toEqual([]);
  expect(await list({ name: ["listed"], driver: ["local"], dangling: ["true"] }))
    .toEqual(["listed-one", "listed-two"]);
});

it("refuses filters that it does not know", async () => {
  const answer = await call("GET", `/volumes?filters=${encodeURIComponent('{"size":["1"]}')}`);
  expect(answer).toEqual({ status: 400, body: { message: "invalid filter 'size'" } });
});

it("removes a volume, and says when there is none", async () => {
  await create("removed");
  expect((await call("DELETE", "/volumes/removed")).status).toBe(204);
  expect(await call("DELETE", "/volumes/removed")).toEqual({
    status: 404,
    body: { message: "get removed: no such volume" },
  });
  expect((await call("DELETE", "/volumes/removed?force=true")).status).toBe(204);
});

it("keeps a volume while a container has it, running or not", async () => {
  const file = stackFile({ service: 'volumes: ["data:/data"]' }) + "volumes:\n  data: {}\n";
  const stack = await portainer().createStack(standaloneEndpoint, "using", file);
  const [container] = await portainer().containers(standaloneEndpoint, "using");
  const inUse = {
    status: 409,
    body: { message: `remove using_data: volume is in use - [${container!.Id}]` },
  };
  expect(await call("DELETE", "/volumes/using_data")).toEqual(inUse);
  await call("POST", `/containers/${container!.Id}/stop?t=0`);
  expect(await call("DELETE", "/volumes/using_data?force=true")).toEqual(inUse);
  expect(await list({ name: ["using"], dangling: ["false"] })).toEqual(["using_data"]);
  await portainer().call("DELETE", `/api/stacks/${stack.body.Id}?endpointId=2`);
  expect((await call("DELETE", "/volumes/using_data")).status).toBe(204);
});

it("has a volume on disk before it answers", async () => {
  const { body } = await create("lasting", { owner: "one" });
  await create("passing");
  await call("DELETE", "/volumes/passing");
  await portainer().kill();
  await portainer().launch();
  expect(await call("GET", "/volumes/lasting")).toEqual({ status: 200, body });
  expect((await call("GET", "/volumes/passing")).status).toBe(404);
});
