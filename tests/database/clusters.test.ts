import { beforeAll, expect, test } from "vitest";
import { createWorld, type Person, type World } from "./support.ts";

let world: World;
let admin: Person;
let id: string;

beforeAll(async () => {
  world = await createWorld();
  admin = await world.person("admin");
  const [cluster] = await admin.do((t) =>
    t`insert into clusters (name, kind, url, endpoint_id)
      values ('moving', 'portainer', 'https://portainer.example.com', 1) returning id`
  );
  id = cluster!.id as string;
});

const setCredential = () => admin.do((t) => t`select set_cluster_credential(${id}, 'ptr_secret')`);
const move = (url: string) => admin.do((t) => t`update clusters set url = ${url} where id = ${id}`);

/** What the worker is given of the cluster to call it with. */
async function credential(): Promise<string | null> {
  await world.sql`delete from private.health_rounds`;
  const [row] = await world.sql`select private.claim_health_checks() as due`;
  const clusters = row!.due.clusters as { id: string; credential: string | null }[];
  return clusters.find((cluster) => cluster.id === id)!.credential;
}

test.each([
  "https://evil.example.com",
  "https://portainer.example.com:8443",
  "http://portainer.example.com",
  "https://portainer.example.com@evil.example.com",
  "https://portainer.example.com.evil.example.com/api",
])("a credential is not sent to another server: %s", async (url) => {
  await move("https://portainer.example.com");
  await setCredential();
  expect(await credential()).toBe("ptr_secret");
  await move(url);
  expect(await credential()).toBeNull();
  const [kept] = await world
    .sql`select count(*)::int as number from vault.secrets where name = ${`cluster:${id}`}`;
  expect(kept!.number).toBe(0);
});

test("another path of the same server keeps it, and so does another name", async () => {
  await move("https://portainer.example.com");
  await setCredential();
  await move("https://PORTAINER.example.com/behind/a/proxy");
  await admin.do((t) => t`update clusters set name = 'moved' where id = ${id}`);
  expect(await credential()).toBe("ptr_secret");
});

test("the worker's environment moves its cluster together with the credential", async () => {
  const register = (url: string) =>
    world
      .sql`select private.register_default_cluster('portainer', 'test', ${url}, 1, null, 'ptr_new', '{}')`;
  await register("http://127.0.0.1:9");
  await register("http://127.0.0.1:10");
  await world.sql`delete from private.health_rounds`;
  const [row] = await world.sql`select private.claim_health_checks() as due`;
  expect(row!.due.clusters).toContainEqual(
    expect.objectContaining({ name: "test", url: "http://127.0.0.1:10", credential: "ptr_new" }),
  );
});
