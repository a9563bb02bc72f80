import { beforeAll, describe, expect, it } from "vitest";
import { must, type StorageStack, useStorage } from "./support.ts";

let test: StorageStack;
let bucket: string;
beforeAll(async () => {
  test = await useStorage();
  bucket = await test.bucket();
  for (const name of ["b.txt", "a.txt", "docs/one.txt", "docs/Two.txt", "docs/deep/x", "zoo/z"]) {
    must(await test.admin.from(bucket).upload(name, name));
  }
});

type Options = Parameters<ReturnType<StorageStack["admin"]["from"]>["list"]>[1];

describe("list()", () => {
  const names = async (path?: string, options?: Options) =>
    must(await test.admin.from(bucket).list(path, options)).map(({ name }) => name);

  it("shows files and folders of one level", async () => {
    expect(await names()).toEqual(["a.txt", "b.txt", "docs", "zoo"]);
    expect(await names("docs")).toEqual(["deep", "one.txt", "Two.txt"]);
    expect(await names("docs/")).toEqual(["deep", "one.txt", "Two.txt"]);
    expect(await names("nothing")).toEqual([]);
  });

  it("tells files from folders by their id", async () => {
    const [file, , folder] = must(await test.admin.from(bucket).list());
    expect(file).toMatchObject({ id: expect.any(String), metadata: { size: 5 } });
    expect(folder).toEqual({
      name: "docs",
      id: null,
      updated_at: null,
      created_at: null,
      last_accessed_at: null,
      metadata: null,
    });
  });

  it("sorts, pages and searches by the beginning of the name", async () => {
    expect(await names("", { sortBy: { column: "name", order: "desc" } }))
      .toEqual(["zoo", "docs", "b.txt", "a.txt"]);
    expect(await names("", { limit: 2, offset: 1 })).toEqual(["b.txt", "docs"]);
    expect(await names("docs", { search: "T" })).toEqual(["Two.txt"]);
    expect(await names("", { sortBy: { column: "created_at", order: "desc" } }))
      .toEqual(["zoo", "docs", "a.txt", "b.txt"]);
  });

  it("takes no character for others", async () => {
    expect(await names("", { search: "_" })).toEqual([]);
    expect(await names("", { search: "%" })).toEqual([]);
    expect(await names("", { search: "_", sortBy: { column: "created_at" } })).toEqual([]);
    expect(await names("\u{10FFFF}")).toEqual([]);
  });

  it("refuses a page that is none", async () => {
    const ask = (body: object) =>
      test.request(`/object/list/${bucket}`, { method: "POST", body }).then(async (answer) => [
        answer.status,
        (await answer.json()).message,
      ]);
    expect(await ask({})).toEqual([400, "body must have required property 'prefix'"]);
    expect((await ask({ prefix: "", limit: 0 }))[0]).toBe(400);
    expect((await ask({ prefix: "", sortBy: { column: "size" } }))[0]).toBe(400);
    expect((await ask({ prefix: "\0" }))[0]).toBe(400);
  });
});

describe("listV2()", () => {
  type Asked = Parameters<ReturnType<StorageStack["admin"]["from"]>["listV2"]>[0];

  /** All pages, each as its folders and files. */
  async function pages(options: Asked): Promise<string[]> {
    const found: string[] = [];
    let cursor: string | undefined;
    do {
      const page = must(
        await test.admin.from(bucket).listV2({ ...options, ...(cursor && { cursor }) }),
      );
      found.push([...page.folders, ...page.objects].map(({ name }) => name).join(" "));
      cursor = page.nextCursor;
      expect(page.hasNext).toBe(cursor !== undefined);
    } while (cursor !== undefined);
    return found;
  }

  it("shows all names below a prefix, or one level with a delimiter", async () => {
    expect(await pages({ prefix: "docs/" })).toEqual(["docs/Two.txt docs/deep/x docs/one.txt"]);
    expect(await pages({ prefix: "docs/", with_delimiter: true }))
      .toEqual(["docs/deep/ docs/Two.txt docs/one.txt"]);
    expect(await pages({ with_delimiter: true })).toEqual(["docs/ zoo/ a.txt b.txt"]);
  });

  it.each(["name", "created_at", "updated_at"] as const)(
    "pages by %s, both ways",
    async (column) => {
      const together = (order: "asc" | "desc", with_delimiter: boolean) =>
        pages({ limit: 1, with_delimiter, sortBy: { column, order } });
      for (const delimiter of [true, false]) {
        const up = await together("asc", delimiter);
        expect(up).toHaveLength(delimiter ? 4 : 6);
        expect(await together("desc", delimiter)).toEqual(up.toReversed());
      }
    },
  );

  it("refuses a cursor that it has not given", async () => {
    for (const cursor of ["xyz", btoa('["a","size","asc",""]')]) {
      const { error } = await test.admin.from(bucket).listV2({ cursor });
      expect(error?.message).toBe("Invalid Parameter continuation token");
    }
  });
});
