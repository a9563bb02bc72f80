import { beforeAll, describe, expect, it } from "vitest";
import { must, refused, type StorageStack, useStorage } from "./support.ts";

let test: StorageStack;
beforeAll(async () => {
  test = await useStorage();
});

const freshName = () => `test-${crypto.randomUUID()}`;

describe("a bucket", () => {
  it("is made with its limits and shown with them", async () => {
    const name = freshName();
    const options = { public: true, fileSizeLimit: "1.5MB", allowedMimeTypes: ["image/*"] };
    expect(must(await test.admin.createBucket(name, options))).toEqual({ name });
    expect(must(await test.admin.getBucket(name))).toEqual({
      id: name,
      name,
      owner: "",
      public: true,
      file_size_limit: 1_500_000,
      allowed_mime_types: ["image/*"],
      created_at: expect.stringMatching(/^\d{4}-.+Z$/),
      updated_at: expect.stringMatching(/^\d{4}-.+Z$/),
    });
  });

  it("is made once", async () => {
    const name = await test.bucket();
    expect(refused(await test.admin.createBucket(name))).toEqual({
      statusCode: "409",
      message: "The resource already exists",
    });
  });

  it("is private unless said otherwise", async () => {
    expect(must(await test.admin.getBucket(await test.bucket())).public).toBe(false);
  });

  it("is changed in what is named and in nothing else", async () => {
    const name = await test.bucket({ public: false, fileSizeLimit: 1000 });
    must(await test.admin.updateBucket(name, { public: true, allowedMimeTypes: ["text/plain"] }));
    expect(must(await test.admin.getBucket(name))).toMatchObject({
      public: true,
      file_size_limit: 1000,
      allowed_mime_types: ["text/plain"],
    });
    must(await test.admin.updateBucket(name, { public: true, fileSizeLimit: null }));
    expect(must(await test.admin.getBucket(name)).file_size_limit).toBeNull();
  });

  it("that is not there is not found, changed or deleted", async () => {
    const gone = { statusCode: "404", message: "Bucket not found" };
    expect(refused(await test.admin.getBucket("nope"))).toEqual(gone);
    expect(refused(await test.admin.updateBucket("nope", { public: true }))).toEqual(gone);
    expect(refused(await test.admin.deleteBucket("nope"))).toEqual(gone);
    expect(refused(await test.admin.emptyBucket("nope"))).toEqual(gone);
  });

  it.each(["", "a/b", " padded", "x".repeat(101), "naïve"])("is not named %j", async (name) => {
    expect(refused(await test.admin.createBucket(name)).message).toBe("Bucket name invalid");
  });

  it("takes no larger limit than the project's, and no nonsense", async () => {
    const make = (options: object) =>
      test.request("/bucket", { method: "POST", body: { name: freshName(), ...options } })
        .then((response) => response.json());
    expect(await make({ file_size_limit: "1GB" })).toMatchObject({ statusCode: "413" });
    expect(await make({ file_size_limit: "much" })).toMatchObject({ statusCode: "400" });
    expect(await make({ file_size_limit: -1 })).toMatchObject({ statusCode: "400" });
    expect(await make({ allowed_mime_types: ["what ever"] })).toMatchObject({ statusCode: "415" });
    expect(await make({ type: "ANALYTICS" })).toMatchObject({ code: "FeatureNotEnabled" });
  });

  it("is deleted when it is empty, and emptied by the secret key alone", async () => {
    const name = await test.bucket();
    must(await test.admin.from(name).upload("a/b.txt", "text"));
    expect(refused(await test.admin.deleteBucket(name))).toEqual({
      statusCode: "409",
      message: "The bucket you tried to delete is not empty",
    });
    expect(refused(await test.anonymous.emptyBucket(name)).message)
      .toBe("Access denied: Invalid role");
    must(await test.admin.emptyBucket(name));
    expect(must(await test.admin.from(name).list())).toEqual([]);
    expect(must(await test.admin.deleteBucket(name))).toEqual({ message: "Successfully deleted" });
    expect(refused(await test.admin.getBucket(name)).statusCode).toBe("404");
  });
});

describe("the list of buckets", () => {
  it("is searched, sorted and paged", async () => {
    const mark = crypto.randomUUID();
    for (const name of [`b_${mark}`, `a-${mark}`, `c-${mark}`]) {
      must(await test.admin.createBucket(name));
    }
    const names = async (options: Parameters<typeof test.admin.listBuckets>[0]) =>
      must(await test.admin.listBuckets(options)).map(({ name }) => name[0]).join("");
    const sorted = { search: mark.toUpperCase(), sortColumn: "name", sortOrder: "desc" } as const;
    expect(await names(sorted)).toBe("cba");
    expect(await names({ ...sorted, limit: 1, offset: 1 })).toBe("b");
    // No character stands for others.
    expect(await names({ search: `_${mark}` })).toBe("b");
    expect(await names({ search: "%" })).toBe("");
  });

  it("shows a stranger none, for no policy lets them", async () => {
    const name = await test.bucket();
    const { client } = await test.signUp();
    expect(must(await client.storage.listBuckets())).toEqual([]);
    expect(refused(await client.storage.getBucket(name)).statusCode).toBe("404");
    expect(refused(await client.storage.createBucket(freshName())).statusCode).toBe("403");
    expect(refused(await client.storage.deleteBucket(name)).statusCode).toBe("404");
    expect(must(await test.admin.getBucket(name)).name).toBe(name);
  });
});
