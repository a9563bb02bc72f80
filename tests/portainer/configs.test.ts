import { expect, it } from "vitest";
import { standaloneEndpoint, swarmEndpoint, usePortainer } from "./support.ts";

const portainer = usePortainer();

interface Config {
  ID: string;
  Version: { Index: number };
  CreatedAt: string;
  Spec: { Name: string; Labels: Record<string, string>; Data: string };
}

const call = <T = Config>(method: string, target: string, body?: unknown) =>
  portainer().docker<T & { message?: string }>(swarmEndpoint, method, target, body);

const create = (name: string, labels: Record<string, string> = {}) =>
  call("POST", "/configs/create", { Name: name, Labels: labels, Data: btoa("text") });

async function list(filters: Record<string, string[]>): Promise<string[]> {
  const query = encodeURIComponent(JSON.stringify(filters));
  const { body } = await call<Config[]>("GET", `/configs?filters=${query}`);
  return body.map(({ Spec }) => Spec.Name);
}

it("creates a config and shows it by id, name and beginning of its id", async () => {
  const { status, body: { ID } } = await create("made", { owner: "one" });
  expect(status).toBe(201);
  expect(ID).toMatch(/^[0-9a-z]{25}$/);
  const shown = await call("GET", `/configs/${ID}`);
  expect(shown.status).toBe(200);
  expect(shown.body).toMatchObject({
    ID,
    Version: { Index: expect.any(Number) },
    Spec: { Name: "made", Labels: { owner: "one" }, Data: btoa("text") },
  });
  expect(await call("GET", "/configs/made")).toEqual(shown);
  expect(await call("GET", `/configs/${ID.slice(0, 12)}`)).toEqual(shown);
});

it("refuses a name that exists", async () => {
  await create("taken");
  for (const name of ["taken", "TAKEN"]) {
    expect(await create(name)).toEqual({
      status: 409,
      body: { message: `rpc error: code = AlreadyExists desc = config ${name} already exists` },
    });
  }
});

it("lets one of many creates at the same moment have the name", async () => {
  const answers = await Promise.all(Array.from({ length: 10 }, () => create("contested")));
  expect(answers.map(({ status }) => status).toSorted())
    .toEqual([201, ...Array.from({ length: 9 }, () => 409)]);
});

it.each([
  [{ Data: btoa("text") }, /name must be provided/],
  [{ Name: "a/b", Data: btoa("text") }, /invalid name, only 64 \[a-zA-Z0-9-_\.\] characters/],
  [{ Name: "x".repeat(65), Data: btoa("text") }, /invalid name, only 64/],
  [{ Name: "empty" }, /config data must be larger than 0 and less than 1024000 bytes/],
  [{ Name: "odd", Data: "%" }, /invalid JSON: illegal base64 data/],
])("refuses %j", async (body, message) => {
  const answer = await call("POST", "/configs/create", body);
  expect(answer.status).toBe(400);
  expect(answer.body.message).toMatch(message);
});

it("lists by beginning of name or id, by whole name and by label", async () => {
  const { body: { ID } } = await create("listed-one", { team: "red" });
  await create("listed-two", { team: "blue" });
  expect(await list({ name: ["listed"] })).toEqual(["listed-one", "listed-two"]);
  expect(await list({ names: ["listed", "listed-two"] })).toEqual(["listed-two"]);
  expect(await list({ id: [ID.slice(0, 20)] })).toEqual(["listed-one"]);
  expect(await list({ label: ["team=blue"] })).toEqual(["listed-two"]);
  expect(await list({ id: [ID], label: ["team=blue"] })).toEqual([]);
});

it("refuses filters that it does not know", async () => {
  const answer = await call("GET", `/configs?filters=${encodeURIComponent('{"size":["1"]}')}`);
  expect(answer).toEqual({ status: 400, body: { message: "invalid filter 'size'" } });
});

it("removes a config, and says when there is none", async () => {
  const { body: { ID } } = await create("removed");
  expect((await call("DELETE", `/configs/${ID}`)).status).toBe(204);
  for (const method of ["GET", "DELETE"]) {
    expect(await call(method, `/configs/${ID}`)).toEqual({
      status: 404,
      body: { message: `config ${ID} not found` },
    });
  }
  expect((await create("removed")).status).toBe(201);
});

it("keeps a config while a service asks for it", async () => {
  const { body: { ID } } = await create("asked");
  const service = await call("POST", "/services/create", {
    Name: "asking",
    TaskTemplate: {
      ContainerSpec: {
        Image: "elizaos/eliza:latest",
        Configs: [{ ConfigID: ID, ConfigName: "asked" }],
      },
    },
    Mode: { Replicated: { Replicas: 0 } },
  });
  expect(await call("DELETE", "/configs/asked")).toEqual({
    status: 400,
    body: {
      message: "rpc error: code = InvalidArgument desc = config 'asked' is in use by the " +
        "following service: asking",
    },
  });
  await call("DELETE", `/services/${service.body.ID}`);
  expect((await call("DELETE", "/configs/asked")).status).toBe(204);
});

it("has a config on disk before it answers", async () => {
  const { body: { ID } } = await create("lasting", { owner: "one" });
  const shown = await call("GET", `/configs/${ID}`);
  await create("passing");
  await call("DELETE", "/configs/passing");
  await portainer().kill();
  await portainer().launch();
  expect(await call("GET", "/configs/lasting")).toEqual(shown);
  expect((await call("GET", "/configs/passing")).status).toBe(404);
});

it("answers 503 on an engine that is in no Swarm", async () => {
  const answer = await portainer().docker(standaloneEndpoint, "POST", "/configs/create", {});
  expect(answer.status).toBe(503);
  expect(answer.body["message"]).toMatch(/^This node is not a swarm manager\./);
});
