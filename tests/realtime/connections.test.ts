import { randomUUID } from "node:crypto";
import { beforeAll, expect, test } from "vitest";
import { POLL } from "./support/listen.ts";
import { spawnClient } from "./support/present.ts";
import { startRealtime, type TestRealtime } from "./support/realtime.ts";
import { openWire, type Wire } from "./support/wire.ts";

let realtime: TestRealtime;
beforeAll(async () => {
  realtime = await startRealtime({
    schema:
      `update public.settings set value = '3' where category = 'real_time' and key = 'connections_per_user'`,
  });
});

const TOO_MANY = {
  status: "error",
  response: { reason: "ConnectionRateLimitReached: Too many connected users" },
};

/** A connection with the project's key, as supabase-js opens it. */
const connect = () => openWire(realtime.url, realtime.anonKey);

async function joined(token: string): Promise<Wire> {
  const wire = await connect();
  expect(await wire.join("realtime:room", {}, token)).toMatchObject({ status: "ok" });
  return wire;
}

/** Lets the limit be reached. */
async function full(user: string): Promise<{ token: string; wires: Wire[] }> {
  const token = await realtime.userToken(user);
  const wires: Wire[] = [];
  for (let count = 0; count < 3; count++) wires.push(await joined(token));
  return { token, wires };
}

test("a user joins on so many connections and is refused on the next, in Realtime's words", async () => {
  const { token } = await full(randomUUID());
  expect(await (await connect()).join("realtime:room", {}, token)).toEqual(TOO_MANY);
});

test("many channels of one connection count once", async () => {
  const token = await realtime.userToken(randomUUID());
  const wire = await joined(token);
  for (let count = 0; count < 5; count++) {
    expect(await wire.join(`realtime:room-${count}`, {}, token)).toMatchObject({ status: "ok" });
  }
});

test("others have connections of their own, and who is not signed in has no such limit", async () => {
  await full(randomUUID());
  await joined(await realtime.userToken(randomUUID()));
  for (let count = 0; count < 5; count++) await joined(realtime.anonKey);
});

test("a connection that is opened with the user's own token is refused with 429", async () => {
  const { token } = await full(randomUUID());
  const answer = await fetch(
    `${realtime.url}/realtime/v1/websocket?apikey=${token}&vsn=1.0.0`,
    { headers: { upgrade: "websocket" } },
  ).then((response) => response.status, () => null);
  // fetch may not be let to ask for an upgrade; then the WebSocket tells that it was refused.
  if (answer !== null) expect([400, 429]).toContain(answer);
  await expect(openWire(realtime.url, token)).rejects.toThrow("refused");
});

/** Waits until the user has room again. */
async function room(token: string): Promise<void> {
  await expect.poll(async () => {
    const { status } = await (await connect()).join("realtime:room", {}, token);
    return status;
  }, POLL).toBe("ok");
}

test("a connection that is closed is free at once", async () => {
  const { token, wires } = await full(randomUUID());
  wires[0]!.socket.close();
  await room(token);
});

test("a connection whose process is killed is free at once", async () => {
  const user = randomUUID();
  const token = await realtime.userToken(user);
  const client = spawnClient(realtime, token, "room", "killed");
  await client.ready;
  for (let count = 0; count < 2; count++) await joined(token);
  expect(await (await connect()).join("realtime:room", {}, token)).toEqual(TOO_MANY);
  client.kill();
  await room(token);
});

test("supabase-js hears why it is refused", async () => {
  const user = randomUUID();
  await full(user);
  const client = realtime.client(user);
  await client.realtime.setAuth();
  const heard = await new Promise<string | undefined>((resolve) => {
    client.channel("room").subscribe((status, error) => {
      if (status === "CHANNEL_ERROR") resolve(error?.message);
    });
  });
  expect(heard).toBe("ConnectionRateLimitReached: Too many connected users");
});
