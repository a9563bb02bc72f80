import { beforeAll, expect, test } from "vitest";
import { createWorld, type Person, type World } from "./support.ts";

let world: World;
let owner: Person;

beforeAll(async () => {
  world = await createWorld();
  owner = await world.person();
});

const take = async (subject: string, userId = owner.id, keyId: string | null = null) =>
  (await world.sql`select * from private.take_rate_limit(${subject}, ${userId}, ${keyId})`)[0];

test("the twenty-first request in a minute is refused, and not counted", async () => {
  const subject = "user:burst";
  for (let n = 0; n < 20; n++) expect((await take(subject))?.allowed).toBe(true);
  const refused = await take(subject);
  expect(refused).toMatchObject({
    allowed: false,
    burst_remaining: 0,
    window_remaining: 80,
    window_limit: 100,
  });
  expect(refused?.retry_after).toBeGreaterThan(0);
  expect(refused?.retry_after).toBeLessThanOrEqual(60);
});

test("requests at once are all counted", async () => {
  const taken = await Promise.all(Array.from({ length: 30 }, () => take("user:crowd")));
  expect(taken.filter((one) => one?.allowed)).toHaveLength(20);
});

test("a changed setting holds from the next request on", async () => {
  await world
    .sql`update settings set value = '3' where category = 'rate_limit' and key = 'burst_limit'`;
  try {
    expect(await take("user:setting")).toMatchObject({ burst_limit: 3, burst_remaining: 2 });
  } finally {
    await world
      .sql`update settings set value = '20' where category = 'rate_limit' and key = 'burst_limit'`;
  }
});

test("the limits of a user override the settings, those of a key override the user's", async () => {
  const person = await world.person();
  const { keyId } = await world.withKey(person, ["agents:read"]);
  await world.sql`update profiles set rate_limit = '{"window_limit": 7}' where id = ${person.id}`;
  await world.sql`update api_keys set rate_limit = '{"window_limit": 9}' where id = ${keyId}`;
  expect(await take("user:override", person.id)).toMatchObject({
    window_limit: 7,
    burst_limit: 20,
  });
  expect(await take("key:override", person.id, keyId)).toMatchObject({ window_limit: 9 });
});

const begin = async (key: string, body = "a") =>
  (await world.sql`select private.begin_idempotent(${owner.id}, ${key}, 'POST', '/api/agents', ${
    Buffer.from(body)
  }) as answer`)[0]?.answer;

test("an idempotency key is new once, in flight, then replays; another body is a mismatch", async () => {
  expect(await begin("k1")).toEqual({ state: "new" });
  expect(await begin("k1")).toMatchObject({ state: "in_flight" });
  expect(await begin("k1", "b")).toEqual({ state: "mismatch" });
  await world.sql`select private.finish_idempotent(${owner.id}, 'k1', 201, '{}', '{"ok": true}')`;
  expect(await begin("k1")).toMatchObject({ state: "replay", status: 201, body: { ok: true } });
});

test("the key of a process that died is free again", async () => {
  await begin("k2");
  await world.sql`update private.idempotency_keys set locked_until = now() where key = 'k2'`;
  expect(await begin("k2")).toEqual({ state: "new" });
});

test("a key is one user's own", async () => {
  await begin("k3");
  const other = await world.person();
  const [answer] = await world
    .sql`select private.begin_idempotent(${other.id}, 'k3', 'POST', '/', '') as answer`;
  expect(answer?.answer).toEqual({ state: "new" });
});
