import { createClient } from "@supabase/supabase-js";
import { beforeAll, describe, expect, it } from "vitest";
import { must, NOT_ALLOWED, NOT_FOUND, refused, type StorageStack, useStorage } from "./support.ts";

let test: StorageStack;
let bucket: string;
beforeAll(async () => {
  test = await useStorage();
  bucket = await test.bucket();
  must(await test.admin.from(bucket).upload("folder/a file.txt", "signed"));
  must(await test.admin.from(bucket).upload("other.txt", "other"));
});

const files = () => test.admin.from(bucket);
const messageOf = async (answer: Response) => (await answer.json() as { message: string }).message;

describe("a signed URL", () => {
  it("is for whoever has it, with no key at all", async () => {
    const { signedUrl } = must(await files().createSignedUrl("folder/a file.txt", 60));
    const answer = await fetch(signedUrl);
    expect([answer.status, await answer.text()]).toEqual([200, "signed"]);
    // Kept by caches until it ends and no longer.
    const expires = Date.parse(answer.headers.get("expires")!);
    expect(expires).toBeGreaterThan(Date.now() + 50_000);
    expect(expires).toBeLessThan(Date.now() + 65_000);
  });

  it("names the file to save, and gives parts of it", async () => {
    const { signedUrl } = must(
      await files().createSignedUrl("other.txt", 60, { download: "mine.txt" }),
    );
    const answer = await fetch(signedUrl, { headers: { range: "bytes=1-2" } });
    expect(answer.headers.get("content-disposition")).toContain("mine.txt");
    expect([answer.status, await answer.text()]).toEqual([206, "th"]);
  });

  it("ends", async () => {
    const { signedUrl } = must(await files().createSignedUrl("other.txt", 1));
    await expect.poll(async () => (await fetch(signedUrl)).status).toBe(400);
    expect(await messageOf(await fetch(signedUrl))).toBe('"exp" claim timestamp check failed');
  });

  it("is for one object and one use", async () => {
    const { signedUrl } = must(await files().createSignedUrl("other.txt", 60));
    const elsewhere = signedUrl.replace("other.txt", "folder/a%20file.txt");
    expect(await messageOf(await fetch(elsewhere))).toBe("Invalid signature");
    const { token, path } = must(
      await files().createSignedUploadUrl("other.txt", { upsert: true }),
    );
    const read = await test.request(`/object/sign/${bucket}/${path}?token=${token}`);
    expect(await messageOf(read)).toBe("Token is not scoped for download");
    const reading = new URL(signedUrl).searchParams.get("token")!;
    expect(refused(await files().uploadToSignedUrl("other.txt", reading, "x")).message)
      .toBe("Token is not scoped for upload");
  });

  it("is no token of a user's, and a user's token is none of a URL's", async () => {
    const { signedUrl } = must(await files().createSignedUrl("other.txt", 60));
    const token = new URL(signedUrl).searchParams.get("token")!;
    for (const path of [`/object/${bucket}/other.txt`, "/bucket"]) {
      expect((await test.request(path, { token })).status).toBe(400);
    }
    const rest = await fetch(`${test.access.apiUrl}/rest/v1/agents`, {
      headers: { apikey: test.access.publishableKey, authorization: `Bearer ${token}` },
    });
    expect(rest.status).toBe(401);
    const { accessToken } = await test.signUp();
    for (const wrong of [accessToken, test.access.serviceRoleKey, "x", ""]) {
      const answer = await fetch(
        `${test.access.apiUrl}/storage/v1/object/sign/${bucket}/other.txt?token=${wrong}`,
      );
      expect(answer.status).toBe(400);
    }
  });

  it("is made for what one may read", async () => {
    const { client } = await test.signUp();
    expect(refused(await client.storage.from(bucket).createSignedUrl("other.txt", 60)))
      .toEqual(NOT_FOUND);
    expect(must(await client.storage.from(bucket).createSignedUrls(["other.txt"], 60))).toEqual([{
      path: "other.txt",
      signedURL: null,
      signedUrl: null,
      error: "Either the object does not exist or you do not have access to it",
    }]);
    await test.policies(bucket, "select to authenticated using (bucket_id = $bucket)");
    const urls = must(
      await client.storage.from(bucket).createSignedUrls(["other.txt", "none"], 60),
    );
    expect(urls.map(({ error }) => error === null)).toEqual([true, false]);
    expect(await (await fetch(urls[0]!.signedUrl!)).text()).toBe("other");
  });

  it("lasts a whole number of seconds", async () => {
    for (const expiresIn of [0, -1, 1.5, "soon"]) {
      const body = { expiresIn };
      const answer = await test.request(`/object/sign/${bucket}/other.txt`, {
        method: "POST",
        body,
      });
      expect(answer.status).toBe(400);
    }
  });
});

describe("a signed upload URL", () => {
  it("lets whoever has it upload once, for the user who signed it", async () => {
    const own = await test.bucket();
    await test.policies(own, "insert to authenticated with check (bucket_id = $bucket)");
    const { client, id } = await test.signUp();
    const { token, path } = must(await client.storage.from(own).createSignedUploadUrl("up.txt"));
    const put = () => test.anonymous.from(own).uploadToSignedUrl(path, token, "by URL");
    expect(must(await put())).toEqual({ path: "up.txt", fullPath: `${own}/up.txt` });
    expect(refused(await put()).statusCode).toBe("409");
    const [row] = await test.sql`
      select owner, owner_id from storage.objects where bucket_id = ${own} and name = 'up.txt'`;
    expect(row).toEqual({ owner: id, owner_id: id });
  });

  it("replaces only when it was signed so", async () => {
    must(await files().upload("taken", "old"));
    expect(refused(await files().createSignedUploadUrl("taken")).statusCode).toBe("409");
    const { token } = must(await files().createSignedUploadUrl("taken", { upsert: true }));
    must(await test.anonymous.from(bucket).uploadToSignedUrl("taken", token, "new"));
    expect(await must(await files().download("taken")).text()).toBe("new");
  });

  it("is signed for those who may upload", async () => {
    const { client } = await test.signUp();
    expect(refused(await client.storage.from(bucket).createSignedUploadUrl("x"))).toEqual(
      NOT_ALLOWED,
    );
  });

  it("keeps to the limits of the bucket", async () => {
    const small = await test.bucket({ public: false, fileSizeLimit: 3 });
    const { token } = must(await test.admin.from(small).createSignedUploadUrl("x"));
    expect(refused(await test.admin.from(small).uploadToSignedUrl("x", token, "long")).statusCode)
      .toBe("413");
  });
});

it("a client with another project's key signs nothing", async () => {
  const wrong = createClient(test.access.apiUrl, "sb_publishable_wrong", {
    auth: { persistSession: false },
    realtime: { transport: class {} as unknown as typeof WebSocket },
  });
  expect((await wrong.storage.from(bucket).createSignedUrl("other.txt", 60)).error).not.toBeNull();
});
