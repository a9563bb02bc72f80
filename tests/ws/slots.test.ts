import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { fileURLToPath } from "node:url";
import postgres from "postgres";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createSlots, type Slot, type Slots } from "../../functions/ws/slots.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { denoCommand } from "../support/deno.ts";

let database: TestDatabase;
const ends: (() => Promise<void>)[] = [];

beforeAll(async () => {
  database = await createTestDatabase();
  await database.sql`
    update public.settings set value = '3' where category = 'real_time' and key = 'connections_per_user'`;
});
afterAll(async () => {
  for (const end of ends) await end();
});

/** An instance of the function. */
function instance(): Slots {
  const sql = postgres(database.url(), { max: 4, onnotice: () => {} });
  const slots = createSlots({
    sql,
    openSession: (onclose) =>
      postgres(database.url(), {
        max: 1,
        onclose,
        idle_timeout: 0,
        connection: { application_name: "ws-session" },
      }),
    log: () => {},
  });
  ends.push(async () => {
    await slots.close();
    await sql.end({ timeout: 1 });
  });
  return slots;
}

const counted = async (user: string) => {
  const [row] = await database.sql`
    select count(*)::int as n from private.ws_connections where user_id = ${user}`;
  return row!.n;
};

test("a user has so many connections over all instances, and others have their own", async () => {
  const [one, other] = [instance(), instance()];
  const user = randomUUID();
  for (const slots of [one, other, one]) expect(await slots.take(user)).toHaveProperty("release");
  expect(await one.take(user)).toBe(3);
  expect(await other.take(user)).toBe(3);
  expect(await other.take(randomUUID())).toHaveProperty("release");
});

test("a connection that closes is free at once", async () => {
  const slots = instance();
  const user = randomUUID();
  const taken = [await slots.take(user), await slots.take(user), await slots.take(user)] as Slot[];
  taken[0]!.release();
  taken[0]!.release();
  await expect.poll(() => counted(user)).toBe(2);
  expect(await slots.take(user)).toHaveProperty("release");
  expect(await slots.take(user)).toBe(3);
});

test("of many that come at once no more are let in", async () => {
  const all = [instance(), instance(), instance()];
  const user = randomUUID();
  const taken = await Promise.all(
    Array.from({ length: 30 }, (_, index) => all[index % 3]!.take(user)),
  );
  expect(taken.filter((each) => typeof each !== "number")).toHaveLength(3);
});

test("the connections of an instance that is killed are free at once", async () => {
  const user = randomUUID();
  const deno = denoCommand();
  const script = fileURLToPath(new URL("./support/doomed-instance.ts", import.meta.url));
  const child = spawn(
    deno.command,
    [...deno.args, "run", "-A", "--quiet", script, database.url(), user, "3"],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  await new Promise((resolve) => child.stdout.once("data", resolve));
  const slots = instance();
  expect(await slots.take(user)).toBe(3);
  child.kill("SIGKILL");
  await expect.poll(async () => typeof await slots.take(user)).toBe("object");
});

test("what is open is counted anew after the session was lost", async () => {
  const slots = instance();
  const user = randomUUID();
  await slots.take(user);
  await slots.take(user);
  const instances = async () => {
    const rows = await database.sql`
      select instance_id as id from private.ws_connections where user_id = ${user}`;
    return rows.map(({ id }) => id);
  };
  const [before] = await instances();
  await database.sql`
    select pg_terminate_backend(pid) from pg_stat_activity
    where application_name = 'ws-session' and datname = current_database()`;
  await expect.poll(async () => (await instances()).includes(before)).toBe(false);
  await expect.poll(() => counted(user)).toBe(2);
  const other = instance();
  expect(await other.take(user)).toHaveProperty("release");
  expect(await other.take(user)).toBe(3);
});

test("an instance that has not been seen for long does not count, whoever holds its lock", async () => {
  const slots = instance();
  const user = randomUUID();
  for (let count = 0; count < 3; count++) await slots.take(user);
  await database.sql`update private.ws_instances set seen_at = now() - interval '2 minutes'`;
  expect(await instance().take(user)).toHaveProperty("release");
});

test("a changed setting holds for the next connection", async () => {
  const slots = instance();
  const user = randomUUID();
  for (let count = 0; count < 3; count++) await slots.take(user);
  await database.sql`update public.settings set value = '4' where key = 'connections_per_user'`;
  expect(await slots.take(user)).toHaveProperty("release");
  expect(await slots.take(user)).toBe(4);
});
