import { createServer } from "node:net";
import { once } from "node:events";
import { expect, it } from "vitest";
import { freePorts } from "../../scripts/free-ports.ts";
import { until } from "../support/until.ts";
import {
  type Stack,
  stackFile,
  standaloneEndpoint,
  swarmEndpoint,
  usePortainer,
} from "./support.ts";

const portainer = usePortainer();

it("answers a new standalone stack when its container runs", async () => {
  const { status, body } = await portainer().createStack(
    standaloneEndpoint,
    "My Stack!",
    stackFile(),
  );
  expect(status).toBe(200);
  expect(body).toMatchObject({ Name: "mystack", Type: 2, Status: 1 });
  const [container] = await portainer().containers(standaloneEndpoint, "mystack");
  expect(container).toMatchObject({ Names: ["/mystack-agent-1"], State: "running" });
  expect(container!.Id).toMatch(/^[0-9a-f]{64}$/);
});

it("keeps names unique within an environment", async () => {
  await portainer().createStack(standaloneEndpoint, "taken", stackFile());
  const { status, body } = await portainer().createStack(
    standaloneEndpoint,
    "Taken",
    stackFile(),
  );
  expect(status).toBe(409);
  expect(body.message).toBe("A stack with the normalized name 'taken' already exists");
  expect((await portainer().containers(standaloneEndpoint, "taken")).length).toBe(1);
});

it("refuses a file that is no YAML", async () => {
  const { status } = await portainer().createStack(standaloneEndpoint, "broken", "services: [");
  expect(status).toBe(400);
});

it("refuses a required variable that is missing, and forgets the stack", async () => {
  const file = stackFile({ environment: { TOKEN: "${TOKEN:?give one}" } });
  const { status, body } = await portainer().createStack(standaloneEndpoint, "needy", file);
  expect(status).toBe(500);
  expect(body.message).toContain("required variable TOKEN is missing a value: give one");
  const stacks = await portainer().call<Stack[]>("GET", "/api/stacks");
  expect(stacks.body.map(({ Name }) => Name)).not.toContain("needy");
});

it("says of an unknown image on a standalone engine what Docker says", async () => {
  const { status, body } = await portainer().createStack(
    standaloneEndpoint,
    "unknown",
    stackFile({ image: "nobody/nothing:1" }),
  );
  expect(status).toBe(500);
  expect(body.message).toContain(
    "pull access denied for nobody/nothing, repository does not exist",
  );
  expect(await portainer().containers(standaloneEndpoint, "unknown")).toEqual([]);
});

it("says of a host port that another program holds what Docker says", async () => {
  const [port] = await freePorts(1);
  const other = createServer().listen(port, "127.0.0.1");
  await once(other, "listening");
  try {
    const { status, body } = await portainer().createStack(
      standaloneEndpoint,
      "blocked",
      stackFile({ service: `ports: ["${port}:3000"]` }),
    );
    expect(status).toBe(500);
    expect(body.message).toContain(`${port} failed: port is already allocated`);
    expect(await portainer().containers(standaloneEndpoint, "blocked")).toEqual([]);
  } finally {
    other.close();
  }
});

it("gives the stack file back with references and not with values", async () => {
  const file = stackFile({ environment: { TOKEN: "${TOKEN}" } });
  const { body } = await portainer().createStack(standaloneEndpoint, "secretive", file, {
    TOKEN: "very-secret",
  });
  const answer = await portainer().call<{ StackFileContent: string }>(
    "GET",
    `/api/stacks/${body.Id}/file`,
  );
  expect(answer.body.StackFileContent).toBe(file);
  const [container] = await portainer().containers(standaloneEndpoint, "secretive");
  const { body: details } = await portainer().docker<{ Config: { Env: string[] } }>(
    standaloneEndpoint,
    "GET",
    `/containers/${container!.Id}/json`,
  );
  expect(details.Config.Env).toContain("TOKEN=very-secret");
  expect(portainer().output).not.toContain("very-secret");
});

it("forgets variables that an update does not send again", async () => {
  const file = stackFile({ environment: { NAME: "${NAME:-nobody}" } });
  const { body } = await portainer().createStack(standaloneEndpoint, "forgetful", file, {
    NAME: "somebody",
  });
  const before = await portainer().containers(standaloneEndpoint, "forgetful");
  const updated = await portainer().call<Stack>(
    "PUT",
    `/api/stacks/${body.Id}?endpointId=${standaloneEndpoint}`,
    { StackFileContent: file },
  );
  expect(updated.body.Env).toBeNull();
  const after = await portainer().containers(standaloneEndpoint, "forgetful");
  expect(after.map(({ Id }) => Id)).not.toEqual(before.map(({ Id }) => Id));
});

it("leaves containers alone that an update does not change, and scales", async () => {
  const { body } = await portainer().createStack(standaloneEndpoint, "steady", stackFile());
  const [before] = await portainer().containers(standaloneEndpoint, "steady");
  const update = (replicas: number) =>
    portainer().call("PUT", `/api/stacks/${body.Id}?endpointId=${standaloneEndpoint}`, {
      StackFileContent: stackFile({ deploy: `replicas: ${replicas}` }),
    });
  expect((await update(3)).status).toBe(200);
  const after = await portainer().containers(standaloneEndpoint, "steady");
  expect(after.map(({ Names }) => Names[0]).toSorted()).toEqual([
    "/steady-agent-1",
    "/steady-agent-2",
    "/steady-agent-3",
  ]);
  expect(after.map(({ Id }) => Id)).toContain(before!.Id);
  await update(1);
  expect((await portainer().containers(standaloneEndpoint, "steady")).map(({ Id }) => Id))
    .toEqual([before!.Id]);
});

it.each([
  ["standalone", standaloneEndpoint],
  ["swarm", swarmEndpoint],
])("stops and starts a %s stack once", async (kind, endpoint) => {
  const { body } = await portainer().createStack(endpoint, `switch${kind}`, stackFile());
  const act = (action: string) =>
    portainer().call<Stack>("POST", `/api/stacks/${body.Id}/${action}?endpointId=${endpoint}`);
  expect(await act("start")).toMatchObject({
    status: 400,
    body: { message: "Stack is already active" },
  });
  expect(await act("stop")).toMatchObject({ status: 200, body: { Status: 2 } });
  await until(() => portainer().containers(endpoint, body.Name), (found) => found.length === 0);
  expect(await act("stop")).toMatchObject({
    status: 400,
    body: { message: "Stack is already inactive" },
  });
  expect(await act("start")).toMatchObject({ status: 200, body: { Status: 1 } });
  await until(
    () => portainer().containers(endpoint, body.Name),
    (found) => found.length === 1 && found[0]!.State === "running",
  );
});

it("deletes a stack with its containers and networks", async () => {
  const { body } = await portainer().createStack(standaloneEndpoint, "doomed", stackFile());
  const target = `/api/stacks/${body.Id}?endpointId=${standaloneEndpoint}`;
  expect((await portainer().call("DELETE", target)).status).toBe(204);
  expect(await portainer().containers(standaloneEndpoint, "doomed")).toEqual([]);
  const networks = await portainer().docker<{ Name: string }[]>(
    standaloneEndpoint,
    "GET",
    "/networks",
  );
  expect(networks.body.map(({ Name }) => Name)).not.toContain("doomed_default");
  expect(await portainer().call("DELETE", target)).toMatchObject({
    status: 404,
    body: {
      message: "Unable to find a stack with the specified identifier inside the database",
    },
  });
});

it("finds Swarm stacks by SwarmID only, as Portainer does", async () => {
  await portainer().createStack(swarmEndpoint, "filtered", stackFile());
  const list = async (filters: unknown) => {
    const query = encodeURIComponent(JSON.stringify(filters));
    const { body } = await portainer().call<Stack[]>("GET", `/api/stacks?filters=${query}`);
    return body.map(({ Name }) => Name);
  };
  expect(await list({ EndpointID: swarmEndpoint })).not.toContain("filtered");
  expect(await list({ EndpointID: swarmEndpoint, SwarmID: "swarm" })).toContain("filtered");
});

it("runs a Compose stack on the Swarm's engine, too", async () => {
  const made = await portainer().call<Stack>(
    "POST",
    `/api/stacks/create/standalone/string?endpointId=${swarmEndpoint}`,
    { Name: "composed", StackFileContent: stackFile() },
  );
  expect(made).toMatchObject({ status: 200, body: { Type: 2 } });
  const label = JSON.stringify({ label: ["com.docker.compose.project=composed"] });
  const list = () =>
    portainer().docker<unknown[]>(
      swarmEndpoint,
      "GET",
      `/containers/json?filters=${encodeURIComponent(label)}`,
    );
  expect((await list()).body.length).toBe(1);
  await portainer().call("DELETE", `/api/stacks/${made.body.Id}?endpointId=${swarmEndpoint}`);
  expect((await list()).body.length).toBe(0);
});

it("refuses a Swarm stack on an engine that is in no Swarm", async () => {
  const { status, body } = await portainer().call(
    "POST",
    `/api/stacks/create/swarm/string?endpointId=${standaloneEndpoint}`,
    { Name: "lonely", SwarmID: "x", StackFileContent: stackFile() },
  );
  expect(status).toBe(500);
  expect(body["message"]).toContain("this node is not a swarm manager");
});

it("does the same stack once when two requests create it at the same time", async () => {
  const answers = await Promise.all(
    [1, 2, 3].map(() => portainer().createStack(standaloneEndpoint, "race", stackFile())),
  );
  expect(answers.map(({ status }) => status).toSorted()).toEqual([200, 409, 409]);
  expect((await portainer().containers(standaloneEndpoint, "race")).length).toBe(1);
});

it("keeps custom templates", async () => {
  const template = { Title: "An agent", Description: "One agent", FileContent: stackFile() };
  const refused = await portainer().call("POST", "/api/custom_templates/create/string", template);
  expect(refused.status).toBe(400);
  const made = await portainer().call<{ Id: number }>(
    "POST",
    "/api/custom_templates/create/string",
    { ...template, Type: 2, Platform: 1 },
  );
  expect(made.status).toBe(200);
  const { body } = await portainer().call<{ Id: number }[]>("GET", "/api/custom_templates?type=2");
  expect(body.map(({ Id }) => Id)).toEqual([made.body.Id]);
  expect((await portainer().call<unknown[]>("GET", "/api/custom_templates?type=1")).body).toEqual(
    [],
  );
});
