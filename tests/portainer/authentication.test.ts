import { expect, it } from "vitest";
import { apiKey, usePortainer } from "./support.ts";

const portainer = usePortainer();

const withHeaders = (headers: Record<string, string>) =>
  fetch(`${portainer().url}/api/stacks`, { headers });

it("tells its version to anybody", async () => {
  const response = await fetch(`${portainer().url}/api/system/status`);
  expect(response.status).toBe(200);
  expect(await response.json()).toEqual({
    Version: expect.stringMatching(/^\d+\.\d+\.\d+$/),
    InstanceID: expect.any(String),
  });
});

it("refuses a request without a key", async () => {
  const response = await withHeaders({});
  expect(response.status).toBe(401);
  expect(await response.json()).toEqual({
    message: "A valid authorization token is missing",
    details: "Unauthorized",
  });
});

it("refuses a key that is not its own", async () => {
  expect((await withHeaders({ "x-api-key": apiKey.replace(/.$/, "?") })).status).toBe(401);
  expect((await withHeaders({ "x-api-key": apiKey + "x" })).status).toBe(401);
});

it("refuses the right key beside an Authorization header", async () => {
  const response = await withHeaders({ "x-api-key": apiKey, authorization: `Bearer ${apiKey}` });
  expect(response.status).toBe(401);
});

it("takes the right key", async () => {
  expect((await withHeaders({ "x-api-key": apiKey })).status).toBe(200);
});

it("lists its environments in pages", async () => {
  const all = await portainer().fetch("GET", "/api/endpoints?excludeSnapshots=true");
  const endpoints = await all.json() as { Id: number; Type: number; Snapshots: unknown[] }[];
  expect(endpoints.map(({ Id, Type }) => ({ Id, Type }))).toEqual([
    { Id: 1, Type: 1 },
    { Id: 2, Type: 1 },
  ]);
  expect(endpoints[0]!.Snapshots).toEqual([]);
  const second = await portainer().fetch("GET", "/api/endpoints?start=2&limit=1");
  expect((await second.json() as { Id: number }[]).map(({ Id }) => Id)).toEqual([2]);
  expect(second.headers.get("x-total-count")).toBe("2");
});

it("says which environment is a Swarm", async () => {
  const swarm = await portainer().docker<{ ID: string }>(1, "GET", "/swarm");
  expect(swarm.body.ID).toMatch(/^[a-z0-9]{25}$/);
  const none = await portainer().docker(2, "GET", "/swarm");
  expect(none.status).toBe(503);
  expect(none.body["message"]).toContain("This node is not a swarm manager");
});
