import { createHash } from "node:crypto";
import { beforeAll, expect, test } from "vitest";
import { createRunningAgent, createWorld, type Person, refusal, type World } from "./support.ts";

let world: World;
let owner: Person;
let agentId: string;

beforeAll(async () => {
  world = await createWorld();
  owner = await world.person();
  agentId = await createRunningAgent(world, owner);
});

const generate = async (
  person: Person,
  options: { role?: string; permissions?: string[]; email?: string; username?: string } = {},
) => {
  const rows = await person.do((t) =>
    t`select generate_api_key('k', ${options.role ?? null}, ${options.permissions ?? null}, null, ${
      options.email ?? null
    }, ${options.username ?? null}) as key`
  );
  return rows[0]?.key as { api_key: string; key_id: string; user_id: string; role: string };
};

test("a key is alk_ and 192 random bits, and only its digest is kept", async () => {
  const key = await generate(owner);
  expect(key.api_key).toMatch(/^alk_[0-9a-f]{48}$/);
  const digest = createHash("sha256").update(key.api_key).digest();
  const [found] = await world.sql`select private.authenticate_api_key(${digest}) as key`;
  expect(found?.key).toMatchObject({ key_id: key.key_id, user_id: owner.id, revoked_at: null });
  const [kept] = await world
    .sql`select to_jsonb(k)::text as text from api_keys k where id = ${key.key_id}`;
  expect(kept?.text).not.toContain(key.api_key);
});

test("a narrowed key reads, and may do no more", async () => {
  const reader = await world.withKey(owner, ["agents:read"]);
  expect(await reader.do((t) => t`select id from agents`)).toHaveLength(1);
  expect(await refusal(reader.do((t) => t`select scale_agent(${agentId}, 2)`)))
    .toMatchObject({ code: "PERMISSION_DENIED", status: 403 });
  expect(await refusal(reader.do((t) => t`insert into agents (name) values ('x')`))).toMatchObject({
    code: "42501",
  });
  expect(await reader.do((t) => t`delete from agents returning id`)).toHaveLength(0);
});

test("a revoked key is worth nothing, at once", async () => {
  const reader = await world.withKey(owner, ["agents:read"]);
  await owner.do((t) => t`select revoke_api_key(${reader.keyId})`);
  expect(await reader.do((t) => t`select id from agents`)).toHaveLength(0);
  expect(await refusal(reader.do((t) => t`select agent_snapshot(${agentId})`))).toMatchObject({
    code: "PERMISSION_DENIED",
  });
});

test("an expired key is worth nothing", async () => {
  const reader = await world.withKey(owner, ["agents:read"]);
  await world
    .sql`update api_keys set expires_at = now() - interval '1 second' where id = ${reader.keyId}`;
  expect(await reader.do((t) => t`select id from agents`)).toHaveLength(0);
});

const WRITING = ["agents:read", "agents:write"];

test("a key cannot make a key that can do more", async () => {
  const writer = await world.withKey(owner, WRITING);
  expect(await refusal(generate(writer, { permissions: ["containers:manage"] }))).toMatchObject({
    code: "PERMISSION_DENIED",
    status: 403,
  });
});

test("a key that may only read makes no keys", async () => {
  const reader = await world.withKey(owner, ["agents:read", "monitoring:read"]);
  expect(await refusal(generate(reader, { permissions: ["agents:read"] }))).toMatchObject({
    code: "PERMISSION_DENIED",
    status: 403,
  });
  const writer = await world.withKey(owner, ["agents:read", "agents:write"]);
  expect(await generate(writer, { permissions: ["agents:read"] })).toMatchObject({
    user_id: owner.id,
  });
});

test("a key made with a key ends with it at the latest", async () => {
  const soon = new Date(Date.now() + 60_000);
  const maker = await world.withKey(owner, WRITING);
  await world.sql`update api_keys set expires_at = ${soon} where id = ${maker.keyId}`;
  const made = await generate(maker, { permissions: ["agents:read"] });
  const [row] = await world.sql`select expires_at from api_keys where id = ${made.key_id}`;
  expect(row?.expires_at).toEqual(soon);
  const later = maker.do((t) =>
    t`select generate_api_key(permissions => '{agents:read}', expires_at => ${new Date(
      soon.getTime() + 1000,
    )})`
  );
  expect(await refusal(later)).toMatchObject({ code: "PERMISSION_DENIED", status: 403 });
});

test("keys made with a key are revoked with it, however far down", async () => {
  const maker = await world.withKey(owner, WRITING);
  const child = await world.withKey(maker, WRITING);
  const grandchild = await world.withKey(child, WRITING);
  const other = await world.withKey(owner, WRITING);
  await owner.do((t) => t`select revoke_api_key(${maker.keyId})`);
  for (const key of [maker, child, grandchild]) {
    expect(await key.do((t) => t`select id from agents`)).toHaveLength(0);
  }
  expect(await other.do((t) => t`select id from agents`)).toHaveLength(1);
});

test("a key made with a key has that one's request limits", async () => {
  const maker = await world.withKey(owner, WRITING);
  await world.sql`update api_keys set rate_limit = '{"burst_limit": 1}' where id = ${maker.keyId}`;
  const { key_id } = await generate(maker, { permissions: ["agents:read"] });
  const [row] = await world.sql`select rate_limit from api_keys where id = ${key_id}`;
  expect(row?.rate_limit).toEqual({ burst_limit: 1 });
});

test("a key cannot have a role that its owner lacks", async () => {
  expect(await refusal(generate(owner, { role: "ADMIN" }))).toMatchObject({
    code: "PERMISSION_DENIED",
    status: 403,
  });
});

test("only administrators make keys for others", async () => {
  const other = await world.person();
  expect(await refusal(generate(owner, { email: other.email }))).toMatchObject({
    code: "PERMISSION_DENIED",
    status: 403,
  });
  const key = await generate(await world.person("admin"), { email: other.email, role: "USER" });
  expect(key).toMatchObject({ user_id: other.id, role: "user" });
});

test("a key is for the user whom the name names", async () => {
  const other = await world.person();
  const names = await world.sql<{ id: string; username: string }[]>`
    select id, username from profiles where id in ${world.sql([owner.id, other.id])}`;
  const nameOf = (person: Person) => names.find(({ id }) => id === person.id)!.username;
  expect(await generate(owner, { username: nameOf(owner).toUpperCase() }))
    .toMatchObject({ user_id: owner.id });
  for (const username of [nameOf(other), "nobody-of-this-name"]) {
    expect(await refusal(generate(owner, { username }))).toMatchObject({
      code: "PERMISSION_DENIED",
      status: 403,
    });
  }

  const admin = await world.person("admin");
  expect(await generate(admin, { username: nameOf(other), role: "USER" }))
    .toMatchObject({ user_id: other.id, role: "user" });
  expect(await refusal(generate(admin, { username: "nobody-of-this-name" }))).toMatchObject({
    code: "VALIDATION_ERROR",
    details: { username: "No user has this name" },
  });
});

test("name and address must be of one user", async () => {
  const other = await world.person();
  const [name] = await world.sql`select username from profiles where id = ${other.id}`;
  const both = { email: owner.email, username: name!.username as string };
  for (const person of [owner, await world.person("admin")]) {
    expect(await refusal(generate(person, both))).toMatchObject({
      code: "VALIDATION_ERROR",
      status: 400,
      details: { username: "Is not the name of the user with this email address" },
    });
  }
});

test("nobody revokes another user's key", async () => {
  const { key_id } = await generate(owner);
  const stranger = await world.person();
  expect(await refusal(stranger.do((t) => t`select revoke_api_key(${key_id})`))).toMatchObject({
    code: "API_KEY_NOT_FOUND",
    status: 404,
  });
});
