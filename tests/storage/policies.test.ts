import { beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { SignedIn } from "../auth/support.ts";
import { must, NOT_ALLOWED, NOT_FOUND, refused, type StorageStack, useStorage } from "./support.ts";

let test: StorageStack;
let owner: SignedIn;
let stranger: SignedIn;
beforeAll(async () => {
  test = await useStorage();
  [owner, stranger] = await Promise.all([test.signUp(), test.signUp()]);
});

const OWN = "bucket_id = $bucket and (storage.foldername(name))[1] = auth.uid()::text";

describe("with policies that give everybody a folder of their own", () => {
  let bucket: string;
  let path: string;
  beforeEach(async () => {
    bucket = await test.bucket();
    await test.policies(
      bucket,
      `select to authenticated using (${OWN})`,
      `insert to authenticated with check (${OWN})`,
      `update to authenticated using (${OWN}) with check (${OWN})`,
      `delete to authenticated using (${OWN})`,
    );
    path = `${owner.id}/notes.txt`;
    must(await owner.client.storage.from(bucket).upload(path, "mine"));
  });

  const as = (person: SignedIn) => person.client.storage.from(bucket);
  const content = async () => await must(await test.admin.from(bucket).download(path)).text();

  it("owners read, list, replace, copy, move, sign and remove", async () => {
    const files = as(owner);
    expect(await must(await files.download(path)).text()).toBe("mine");
    must(await files.upload(path, "newer", { upsert: true }));
    must(await files.update(path, "newest"));
    must(await files.copy(path, `${owner.id}/copy.txt`));
    must(await files.move(`${owner.id}/copy.txt`, `${owner.id}/moved.txt`));
    must(await files.createSignedUrl(path, 60));
    expect(must(await files.list(owner.id)).map(({ name }) => name)).toEqual([
      "moved.txt",
      "notes.txt",
    ]);
    expect(must(await files.remove([path]))).toHaveLength(1);
  });

  it("belong to who uploaded them", async () => {
    const [row] = await test.sql`
      select owner, owner_id from storage.objects where bucket_id = ${bucket} and name = ${path}`;
    expect(row).toEqual({ owner: owner.id, owner_id: owner.id });
  });

  it("a stranger sees nothing of it", async () => {
    const files = as(stranger);
    expect(refused(await files.download(path))).toEqual(NOT_FOUND);
    expect(refused(await files.info(path))).toEqual(NOT_FOUND);
    expect((await files.exists(path)).data).toBe(false);
    expect(must(await files.list())).toEqual([]);
    expect(must(await files.list(owner.id))).toEqual([]);
    expect(must(await files.listV2({ prefix: owner.id }))).toMatchObject({
      objects: [],
      folders: [],
    });
    expect(refused(await files.createSignedUrl(path, 60))).toEqual(NOT_FOUND);
    expect(refused(await files.copy(path, `${stranger.id}/stolen`))).toEqual(NOT_FOUND);
    expect(refused(await files.move(path, `${stranger.id}/stolen`))).toEqual(NOT_FOUND);
  });

  it("a stranger changes nothing of it", async () => {
    const files = as(stranger);
    expect(refused(await files.upload(`${owner.id}/planted`, "x"))).toEqual(NOT_ALLOWED);
    expect(refused(await files.upload(path, "x", { upsert: true }))).toEqual(NOT_ALLOWED);
    expect(refused(await files.update(path, "x"))).toEqual(NOT_ALLOWED);
    expect(must(await files.remove([path]))).toEqual([]);
    const answer = await test.request(`/object/${bucket}/${path}`, {
      method: "DELETE",
      token: stranger.accessToken,
    });
    expect(await answer.json()).toMatchObject({ code: "AccessDenied" });
    must(await files.upload(`${stranger.id}/own`, "x"));
    expect(refused(await files.move(`${stranger.id}/own`, `${owner.id}/planted`))).toEqual(
      NOT_ALLOWED,
    );
    expect(refused(await files.copy(`${stranger.id}/own`, `${owner.id}/planted`))).toEqual(
      NOT_ALLOWED,
    );
    expect(await content()).toBe("mine");
    expect(must(await test.admin.from(bucket).list(owner.id))).toHaveLength(1);
  });

  it("nobody without an account sees or changes anything", async () => {
    const files = test.anonymous.from(bucket);
    expect(refused(await files.download(path))).toEqual(NOT_FOUND);
    expect(refused(await files.upload("x", "x"))).toEqual(NOT_ALLOWED);
    expect(must(await files.remove([path]))).toEqual([]);
    expect(await content()).toBe("mine");
  });

  it("a name that climbs out of the folder is a name in no folder", async () => {
    // The client and every URL parser resolve dots, so this one is sent as bytes that they leave alone.
    const climbing = `${stranger.id}/..%2F${owner.id}%2Fplanted`;
    const answer = await test.request(`/object/${bucket}/${climbing}`, {
      method: "POST",
      token: stranger.accessToken,
      body: "x",
    });
    // It is in the stranger's own folder, whatever it looks like.
    expect(await answer.json()).toMatchObject({
      Key: `${bucket}/${stranger.id}/../${owner.id}/planted`,
    });
    expect(must(await as(owner).list(owner.id)).map(({ name }) => name)).toEqual(["notes.txt"]);
  });
});

it("replacing asks for update, inserting for insert, and reading does neither", async () => {
  const bucket = await test.bucket();
  await test.policies(bucket, "insert to authenticated with check (bucket_id = $bucket)");
  const files = owner.client.storage.from(bucket);
  must(await files.upload("a", "x"));
  expect(refused(await files.download("a"))).toEqual(NOT_FOUND);
  expect(refused(await files.upload("a", "y", { upsert: true }))).toEqual(NOT_ALLOWED);
  expect(refused(await files.update("a", "y"))).toEqual(NOT_ALLOWED);
});

it("policies hear the operation, the headers and what is uploaded", async () => {
  const bucket = await test.bucket();
  await test.policies(
    bucket,
    `insert to authenticated with check (
      bucket_id = $bucket and storage.allow_only_operation('object.upload')
      and metadata ->> 'mimetype' = 'text/plain' and (metadata ->> 'contentLength')::int < 10
      and user_metadata ->> 'colour' = 'red'
      and current_setting('request.headers')::json ->> 'x-pass' = 'yes')`,
  );
  const files = owner.client.storage.from(bucket);
  const good = {
    contentType: "text/plain",
    metadata: { colour: "red" },
    headers: { "x-pass": "yes" },
  };
  must(await files.upload("good", "x", good));
  for (
    const bad of [{ contentType: "text/css" }, { metadata: { colour: "blue" } }, { headers: {} }]
  ) {
    expect(refused(await files.upload("bad", "x", { ...good, ...bad }))).toEqual(NOT_ALLOWED);
  }
  expect(refused(await files.upload("bad", "0123456789", good))).toEqual(NOT_ALLOWED);
});

it("a row that claims somebody else's file finds none", async () => {
  const [theirs, mine] = [await test.bucket(), await test.bucket()];
  must(await test.admin.from(theirs).upload("secret", "secret"));
  await test.sql`
    insert into storage.objects (bucket_id, name, version)
    select ${mine}, 'stolen', version from storage.objects where bucket_id = ${theirs}`;
  await test.sql`
    insert into storage.objects (bucket_id, name, version) values
      (${mine}, 'climbing', '../../keys.json'), (${mine}, 'absolute', '/etc/passwd')`;
  for (const name of ["stolen", "climbing", "absolute"]) {
    expect(refused(await test.admin.from(mine).download(name)).message)
      .toBe("The resource was not found");
  }
});

it("rows are not deleted by hand, for their files would stay", async () => {
  await expect(test.sql`delete from storage.objects`).rejects.toMatchObject({
    code: "42501",
    message: expect.stringContaining("Use the Storage API instead"),
  });
});
