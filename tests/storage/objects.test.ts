import { createHash, randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import { beforeAll, describe, expect, it } from "vitest";
import { must, NOT_FOUND, refused, type StorageStack, useStorage } from "./support.ts";

let test: StorageStack;
let bucket: string;
beforeAll(async () => {
  test = await useStorage();
  bucket = await test.bucket();
});

const files = (name = bucket) => test.admin.from(name);
const textOf = async (path: string, name = bucket) =>
  await must(await files(name).download(path)).text();

describe("an upload", () => {
  it("of text, bytes, a Blob, a form and a stream comes back as it went", async () => {
    const form = new FormData();
    form.append("", new Blob(["from a form"]), "ignored.txt");
    const bodies = {
      text: "some text",
      bytes: new TextEncoder().encode("some bytes"),
      blob: new Blob(["a blob"], { type: "image/png" }),
      form,
      stream: Readable.from([Buffer.from("a "), Buffer.from("stream")]),
    };
    for (const [name, body] of Object.entries(bodies)) {
      must(await files().upload(`kinds/${name}`, body, { duplex: "half" }));
    }
    const read = await Promise.all(Object.keys(bodies).map((name) => textOf(`kinds/${name}`)));
    expect(read).toEqual(["some text", "some bytes", "a blob", "from a form", "a stream"]);
  });

  it("of millions of random bytes in a form is not cut where they look like its boundary", async () => {
    const parts = Array.from({ length: 40 }, () => [randomBytes(70_001), "\r\n--", "\r\n------"]);
    const blob = new Blob(parts.flat());
    must(await files().upload("random", blob));
    const back = Buffer.from(await must(await files().download("random")).arrayBuffer());
    expect(back.equals(Buffer.from(await blob.arrayBuffer()))).toBe(true);
  });

  it("answers with id, path and full path", async () => {
    expect(must(await files().upload("answer/a.txt", "x"))).toEqual({
      id: expect.stringMatching(/^[0-9a-f-]{36}$/),
      path: "answer/a.txt",
      fullPath: `${bucket}/answer/a.txt`,
    });
  });

  it("keeps type, cache control and the sender's own metadata", async () => {
    const metadata = { camera: "näive", shots: 3 };
    const options = { contentType: "text/csv", cacheControl: "60", metadata };
    must(await files().upload("meta/raw.csv", "a,b", options));
    must(await files().upload("meta/form.csv", new Blob(["a,b"], { type: "text/csv" }), options));
    for (const path of ["meta/raw.csv", "meta/form.csv"]) {
      expect(must(await files().info(path))).toEqual({
        id: expect.any(String),
        name: path,
        version: expect.any(String),
        bucketId: bucket,
        size: 3,
        contentType: "text/csv",
        cacheControl: "max-age=60",
        etag: `"${createHash("md5").update("a,b").digest("hex")}"`,
        metadata,
        lastModified: expect.any(String),
        createdAt: expect.any(String),
      });
    }
  });

  it("takes a name once, and again with upsert or as an update", async () => {
    must(await files().upload("once", "first"));
    expect(refused(await files().upload("once", "second"))).toEqual({
      statusCode: "409",
      message: "The resource already exists",
    });
    expect(await textOf("once")).toBe("first");
    must(await files().upload("once", "third", { upsert: true }));
    expect(await textOf("once")).toBe("third");
    must(await files().update("once", "fourth"));
    expect(await textOf("once")).toBe("fourth");
  });

  it("of one name by many at once is won by one", async () => {
    const answers = await Promise.all(
      Array.from({ length: 8 }, (_, index) => files().upload("race", `number ${index}`)),
    );
    const winners = answers.flatMap(({ data }, index) => data ? [index] : []);
    expect(winners).toHaveLength(1);
    expect(await textOf("race")).toBe(`number ${winners[0]}`);
    const losers = answers.filter(({ error }) => error !== null);
    expect(losers.map((answer) => refused(answer).statusCode)).toEqual(Array(7).fill("409"));
  });

  it("keeps to the limits of the bucket", async () => {
    const small = await test.bucket({
      public: false,
      fileSizeLimit: 10,
      allowedMimeTypes: ["image/*"],
    });
    const png = { contentType: "image/png" };
    const tooLarge = {
      statusCode: "413",
      message: "The object exceeded the maximum allowed size",
    };
    must(await files(small).upload("fits", "0123456789", png));
    expect(refused(await files(small).upload("raw", "0123456789a", png))).toEqual(tooLarge);
    const blob = new Blob(["0123456789a"], { type: "image/png" });
    expect(refused(await files(small).upload("form", blob))).toEqual(tooLarge);
    const stream = Readable.from([Buffer.from("01234"), Buffer.from("56789a")]);
    expect(refused(await files(small).upload("stream", stream, { ...png, duplex: "half" })))
      .toEqual(tooLarge);
    expect(refused(await files(small).upload("kind", "x", { contentType: "text/plain" }))).toEqual({
      statusCode: "415",
      message: "mime type text/plain is not supported",
    });
    expect(must(await files(small).list()).map(({ name }) => name)).toEqual(["fits"]);
  });

  it("larger than the project allows hears so, though it is cut off", async () => {
    const answer = await files().upload("huge", new Blob([new Uint8Array(60 * 1024 * 1024)]));
    expect(refused(answer).statusCode).toBe("413");
  });

  it.each(["umläut.txt", "a\\b", "tab\there", "per%cent", "q#a"])(
    "is not named %j",
    async (name) => {
      const path = `/object/${bucket}/${encodeURIComponent(name)}`;
      const answer = await test.request(path, { method: "POST", body: "x" });
      expect(answer.status).toBe(400);
      expect(await answer.json()).toEqual({
        statusCode: "400",
        error: "InvalidKey",
        code: "InvalidKey",
        message: `Invalid key: ${name}`,
      });
    },
  );

  it("may have every character that S3 takes in its name", async () => {
    const name = "folder/a !-_.*'() &$=@;:+,b?.txt";
    must(await files().upload(name.replace("?", encodeURIComponent("?")), "odd"));
    expect(must(await files().list("folder")).map((file) => file.name)).toEqual([name.slice(7)]);
  });

  it("may not name a type or a time that no header could carry", async () => {
    for (const field of ["contentType", "cacheControl"]) {
      const form = new FormData();
      form.append(field, "text/plain\r\nset-cookie: a=b");
      form.append("", new Blob(["x"]), "x");
      expect(refused(await files().upload("split", form)).message)
        .toMatch(/^Invalid character in response header/);
    }
    await test.sql`
      insert into storage.objects (bucket_id, name, metadata)
      values (${bucket}, 'by-hand', ${test.sql.json({ mimetype: "a\nb" })})`;
    const head = await test.request(`/object/${bucket}/by-hand`, { method: "HEAD" });
    expect(head.status).toBe(400);
  });

  it("whose form ends too early leaves nothing", async () => {
    const answer = await test.request(`/object/${bucket}/broken`, {
      method: "POST",
      headers: { "content-type": "multipart/form-data; boundary=xyz" },
      body: '--xyz\r\ncontent-disposition: form-data; name=""; filename="a"\r\n\r\nhalf of it',
    });
    expect(await answer.json()).toMatchObject({ code: "InvalidRequest" });
    expect(must(await files().list("", { search: "broken" }))).toEqual([]);
  });

  it("into a bucket that is not there is refused", async () => {
    expect(refused(await files("nope").upload("a", "x")).message).toBe("Bucket not found");
  });
});

describe("a download", () => {
  const path = () => `/object/${bucket}/down.txt`;
  const get = (headers: Record<string, string> = {}, query = "") =>
    test.request(path() + query, { headers });
  beforeAll(async () => {
    must(await files().upload("down.txt", "0123456789", { contentType: "text/plain" }));
  });

  it("has the headers that caches and browsers go by", async () => {
    const answer = await get();
    expect(Object.fromEntries(answer.headers)).toMatchObject({
      "accept-ranges": "bytes",
      "content-length": "10",
      "content-type": "text/plain",
      "cache-control": "max-age=3600",
      etag: `"${createHash("md5").update("0123456789").digest("hex")}"`,
      "x-robots-tag": "none",
      "access-control-allow-origin": "*",
    });
    expect(Date.parse(answer.headers.get("last-modified")!)).toBeGreaterThan(Date.now() - 60_000);
  });

  it.each([
    ["bytes=2-4", "234", "bytes 2-4/10"],
    ["bytes=7-", "789", "bytes 7-9/10"],
    ["bytes=-2", "89", "bytes 8-9/10"],
    ["bytes=5-100", "56789", "bytes 5-9/10"],
  ])("of %s is that part", async (range, part, shown) => {
    const answer = await get({ range });
    expect(answer.status).toBe(206);
    expect(answer.headers.get("content-range")).toBe(shown);
    expect(await answer.text()).toBe(part);
  });

  it.each(["bytes=10-", "bytes=4-2", "bytes=-0", "lines=1-2", "bytes=1-2,4-5"])(
    "of %s is refused",
    async (range) => {
      const answer = await get({ range });
      expect(answer.status).toBe(416);
      expect(await answer.json()).toMatchObject({ statusCode: "416", code: "InvalidRange" });
    },
  );

  it("of what the client has already is 304 without a body", async () => {
    const etag = (await get()).headers.get("etag")!;
    for (const tags of [etag, `W/${etag}`, `"other", ${etag}`, "*"]) {
      const answer = await get({ "if-none-match": tags });
      expect([answer.status, await answer.text()]).toEqual([304, ""]);
    }
    expect((await get({ "if-none-match": '"other"' })).status).toBe(200);
    const future = new Date(Date.now() + 5000).toUTCString();
    expect((await get({ "if-modified-since": future })).status).toBe(304);
    expect((await get({ "if-modified-since": new Date(0).toUTCString() })).status).toBe(200);
  });

  it("of the rest is whole when the beginning is of another version", async () => {
    expect((await get({ range: "bytes=5-", "if-range": '"other"' })).status).toBe(200);
  });

  it("is saved under the name that is asked for", async () => {
    const header = async (query: string) =>
      (await get({}, query)).headers.get("content-disposition");
    expect(await header("?download")).toBe("attachment;");
    expect(await header("?download=my%20r%C3%A9sum%C3%A9.pdf"))
      .toBe(
        "attachment; filename=my%20r%C3%A9sum%C3%A9.pdf; filename*=UTF-8''my%20r%C3%A9sum%C3%A9.pdf",
      );
    expect(await header("")).toBeNull();
  });

  it("of a page is shown as text: it would run under the project's address", async () => {
    must(await files().upload("page.html", "<script>", { contentType: "text/html" }));
    const answer = await test.request(`/object/${bucket}/page.html`);
    expect(answer.headers.get("content-type")).toBe("text/plain");
    expect(must(await files().info("page.html")).contentType).toBe("text/html");
  });

  it("of an empty file is empty", async () => {
    must(await files().upload("empty", new Blob([])));
    expect(await textOf("empty")).toBe("");
  });

  it("of nothing says so, as exists() and info() do", async () => {
    expect(refused(await files().download("nothing"))).toEqual(NOT_FOUND);
    expect(refused(await files().info("nothing"))).toEqual(NOT_FOUND);
    expect((await files().exists("nothing")).data).toBe(false);
    expect((await files().exists("down.txt")).data).toBe(true);
  });

  it("of a row without a file says that too", async () => {
    await test.sql`insert into storage.objects (bucket_id, name) values (${bucket}, 'row only')`;
    expect(refused(await files().download("row only")).message).toBe("The resource was not found");
  });

  it("while the file is replaced gives one whole version", async () => {
    must(await files().upload("busy", "0".repeat(500_000)));
    const writing = (async () => {
      for (const digit of "123456789") must(await files().update("busy", digit.repeat(500_000)));
    })();
    for (let round = 0; round < 20; round++) {
      const text = await textOf("busy");
      expect(text).toBe(text[0]!.repeat(500_000));
    }
    await writing;
  });
});

describe("a public bucket", () => {
  it("is read by everybody who has the address, and written by nobody", async () => {
    const open = await test.bucket({ public: true });
    must(await files(open).upload("a b.txt", "for all"));
    const url = files(open).getPublicUrl("a b.txt").data.publicUrl;
    const answer = await fetch(url);
    expect([answer.status, await answer.text()]).toEqual([200, "for all"]);
    expect((await fetch(url, { method: "HEAD" })).headers.get("content-length")).toBe("7");
    expect((await test.request(`/object/${open}/a%20b.txt`, { token: null })).status).toBe(200);
    expect((await test.request(`/object/info/public/${open}/a%20b.txt`, { token: null })).status)
      .toBe(200);
    expect(refused(await test.anonymous.from(open).upload("b", "x")).statusCode).toBe("403");
    expect(must(await test.anonymous.from(open).list())).toEqual([]);
  });

  it("is none that is private: its objects are not even there", async () => {
    must(await files().upload("secret", "x"));
    for (const path of [`public/${bucket}`, `info/public/${bucket}`, bucket, `info/${bucket}`]) {
      const answer = await test.request(`/object/${path}/secret`, { token: null });
      expect([answer.status, (await answer.json()).message]).toEqual([400, "Bucket not found"]);
    }
  });
});

describe("copy, move and remove", () => {
  it("copies with type and metadata, and the copy lives alone", async () => {
    must(await files().upload("c/from", "one", { contentType: "text/css", metadata: { a: 1 } }));
    expect(must(await files().copy("c/from", "c/to"))).toEqual({ path: `${bucket}/c/to` });
    must(await files().update("c/from", "two"));
    expect(await textOf("c/to")).toBe("one");
    expect(must(await files().info("c/to"))).toMatchObject({
      contentType: "text/css",
      metadata: { a: 1 },
    });
    expect(refused(await files().copy("c/from", "c/to")).statusCode).toBe("409");
    expect(refused(await files().copy("c/none", "c/new"))).toEqual(NOT_FOUND);
  });

  it("copies to one name by many at once: one wins, and no bytes are mixed up", async () => {
    const sources = Array.from({ length: 5 }, (_, index) => `c/many-${index}`);
    for (const source of sources) must(await files().upload(source, source));
    const answers = await Promise.all(sources.map((source) => files().copy(source, "c/one")));
    const winner = sources.filter((_, index) => answers[index]!.error === null);
    expect(winner).toHaveLength(1);
    expect(await textOf("c/one")).toBe(winner[0]);
  });

  it("moves within a bucket and to another, keeping id and bytes", async () => {
    const other = await test.bucket();
    const { id } = must(await files().upload("m/from", "moved"));
    must(await files().move("m/from", "m/to"));
    must(await files().move("m/to", "deep/er", { destinationBucket: other }));
    expect(await textOf("deep/er", other)).toBe("moved");
    expect(must(await files(other).info("deep/er")).id).toBe(id);
    expect(refused(await files().download("m/to"))).toEqual(NOT_FOUND);
    must(await files().upload("m/to", "new"));
    expect(
      refused(await files(other).move("deep/er", "m/to", { destinationBucket: bucket })).statusCode,
    )
      .toBe("409");
    expect(await textOf("m/to")).toBe("new");
  });

  it("removes what is there of many names, and tells which", async () => {
    for (const name of ["r/1", "r/2", "r/3"]) must(await files().upload(name, name));
    const gone = must(await files().remove(["r/1", "r/3", "r/none"]));
    expect(gone.map(({ name }) => name).sort()).toEqual(["r/1", "r/3"]);
    expect(must(await files().list("r")).map(({ name }) => name)).toEqual(["2"]);
    expect(refused(await files().download("r/1"))).toEqual(NOT_FOUND);
  });

  it("removes one by its address", async () => {
    must(await files().upload("r/single", "x"));
    const remove = () => test.request(`/object/${bucket}/r/single`, { method: "DELETE" });
    expect(await (await remove()).json()).toEqual({ message: "Successfully deleted" });
    expect(await (await remove()).json()).toMatchObject({ code: "NoSuchKey" });
  });

  it("refuses more than a thousand names, and none", async () => {
    const remove = (prefixes: string[]) =>
      test.request(`/object/${bucket}`, { method: "DELETE", body: { prefixes } });
    expect((await remove(Array.from({ length: 1001 }, (_, index) => `n${index}`))).status).toBe(
      400,
    );
    expect((await remove([])).status).toBe(400);
  });
});
