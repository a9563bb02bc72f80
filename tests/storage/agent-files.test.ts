/** Files of agents on the running stack: supabase-js, the policies, and the worker that removes. */
import { beforeAll, expect, it } from "vitest";
import type { SignedIn } from "../auth/support.ts";
import { PATIENCE } from "../support/until.ts";
import { must, NOT_ALLOWED, NOT_FOUND, refused, type StorageStack, useStorage } from "./support.ts";

let test: StorageStack;
let owner: SignedIn;
let stranger: SignedIn;
const bucket = `agent-assets-${crypto.randomUUID().slice(0, 8)}`;
beforeAll(async () => {
  test = await useStorage();
  [owner, stranger] = await Promise.all([test.signUp(), test.signUp()]);
});

async function makeAgent(person: SignedIn, public_access: boolean): Promise<string> {
  const storage = { bucket, public_access };
  const { data, error } = await person.client.from("agents")
    .insert({ name: "with files", supabase_config: { storage } }).select("id").single();
  if (error) throw error;
  return data.id as string;
}

const files = (person: SignedIn) => person.client.storage.from(bucket);

it("an owner keeps files in the folder that agent_buckets names, and a stranger does not see them", async () => {
  const id = await makeAgent(owner, false);
  const { data } = await owner.client.from("agent_buckets").select("*").eq("agent_id", id).single();
  expect(data).toMatchObject({ bucket_id: bucket, public_access: false, retired_at: null });
  const path = `${data.prefix}memory/notes.txt`;
  must(await files(owner).upload(path, "remember", { upsert: true }));
  must(await files(owner).upload(path, "remember this", { upsert: true }));
  must(await files(owner).move(path, `${data.prefix}moved.txt`));
  expect(must(await files(owner).list(data.prefix)).map(({ name }) => name)).toEqual(["moved.txt"]);
  const { signedUrl } = must(await files(owner).createSignedUrl(`${data.prefix}moved.txt`, 60));
  expect(await (await fetch(signedUrl)).text()).toBe("remember this");

  await makeAgent(stranger, false);
  expect(refused(await files(stranger).download(`${data.prefix}moved.txt`))).toEqual(NOT_FOUND);
  expect(must(await files(stranger).list(data.prefix))).toEqual([]);
  expect(refused(await files(stranger).upload(`${data.prefix}x`, "x"))).toEqual(NOT_ALLOWED);
  expect(refused(await files(owner).upload("x", "x"))).toEqual(NOT_ALLOWED);
});

it("public_access opens the folder to everybody with the publishable key, and the bucket stays private", async () => {
  const id = await makeAgent(owner, true);
  const path = `${owner.id}/${id}/avatar.txt`;
  must(await files(owner).upload(path, "look"));
  const anonymous = test.anonymous.from(bucket);
  expect(await must(await anonymous.download(path)).text()).toBe("look");
  const read = await test.request(`/object/authenticated/${bucket}/${path}`, {
    token: test.access.publishableKey,
  });
  expect([read.status, await read.text()]).toEqual([200, "look"]);
  expect((await fetch(anonymous.getPublicUrl(path).data.publicUrl)).status).toBe(400);
  expect(refused(await anonymous.upload(`${owner.id}/${id}/x`, "x"))).toEqual(NOT_ALLOWED);
});

it("files go with the agent, and the profile tells what they weigh", async () => {
  const person = await test.signUp();
  const used = async () => {
    const { data } = await person.client.rpc("user_profile");
    return (data as { profile: { storage_used: number } }).profile.storage_used;
  };
  const id = await makeAgent(person, false);
  const prefix = `${person.id}/${id}`;
  for (const name of ["a", "b/c", "b/d/e"]) {
    must(await files(person).upload(`${prefix}/${name}`, "12345"));
  }
  expect(await used()).toBe(15);
  const { error } = await person.client.rpc("delete_agent", { agent_id: id });
  expect(error).toBeNull();
  expect(must(await files(person).list(prefix))).toEqual([]);
  await expect.poll(
    () => test.sql`select name from storage.objects where name like ${`${prefix}/%`}`,
    PATIENCE,
  )
    .toEqual([]);
  expect(await used()).toBe(0);
});
