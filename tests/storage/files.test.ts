import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { refusalOf } from "../../scripts/local/storage/upload.ts";
import {
  createFileStore,
  type FileRef,
  type FileStore,
  TooManyBytes,
} from "../../scripts/local/storage/files.ts";

let root: string;
let store: FileStore;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "agent-launchpad-files-"));
  store = await createFileStore(root);
});
afterEach(() => rm(root, { recursive: true, force: true }));

const refOf = (name: string): FileRef => ({ bucket: "b", name, version: crypto.randomUUID() });

async function* chunksOf(...texts: string[]): AsyncGenerator<Uint8Array> {
  for (const text of texts) yield new TextEncoder().encode(text);
}

async function put(ref: FileRef, text = "text"): Promise<void> {
  await store.keep(await store.receive(chunksOf(text), 100), ref);
}

async function read(ref: FileRef): Promise<string | null> {
  const file = await store.open(ref);
  if (file === null) return null;
  const text = await file.readFile("utf8");
  await file.close();
  return text;
}

async function filesOnDisk(): Promise<string[]> {
  const names = await readdir(root, { recursive: true });
  const files = await Promise.all(
    names.map(async (name) => (await stat(join(root, name))).isFile() ? name : null),
  );
  return files.filter((name) => name !== null);
}

it("keeps what has arrived, for its owner's eyes only", async () => {
  const ref = refOf("a/b.txt");
  const draft = await store.receive(chunksOf("one ", "two"), 100);
  expect(draft).toMatchObject({ size: 7, eTag: '"aae2c33a105ad3f28f39402d67a24b20"' });
  expect(await read(ref)).toBeNull();
  await store.keep(draft, ref);
  expect(await read(ref)).toBe("one two");
  const [file] = await filesOnDisk();
  expect((await stat(join(root, file!))).mode & 0o077).toBe(0);
});

it("names no file after what a client calls it", async () => {
  await put(refOf("../../../etc/cron.d/evil"));
  expect(await filesOnDisk()).toEqual([
    expect.stringMatching(/^objects\/[0-9a-f]{2}\/[0-9a-f.-]+$/),
  ]);
});

it("opens no version that it has not made", async () => {
  await writeFile(join(root, "secret"), "secret");
  for (const version of ["../secret", "..", "/etc/passwd", "", null]) {
    expect(await store.open({ bucket: "b", name: "n", version })).toBeNull();
  }
});

it("gives a version to its own name only", async () => {
  const ref = refOf("mine");
  await put(ref);
  expect(await read({ ...ref, name: "yours" })).toBeNull();
  expect(await read({ ...ref, bucket: "c" })).toBeNull();
});

it("shares bytes between names, and each is removed alone", async () => {
  const [from, to] = [refOf("from"), refOf("to")];
  await put(from, "shared");
  expect(await store.share(from, to)).toBe(true);
  await store.remove([from, refOf("never there")]);
  expect([await read(from), await read(to)]).toEqual([null, "shared"]);
  expect(await store.share(from, refOf("late"))).toBe(false);
});

describe("leaves nothing", () => {
  it("of too many bytes", async () => {
    await expect(store.receive(chunksOf("12345", "6"), 5)).rejects.toThrow(TooManyBytes);
    expect(await filesOnDisk()).toEqual([]);
  });

  it("of a sender who goes away", async () => {
    async function* broken() {
      yield new Uint8Array(10);
      throw new Error("gone");
    }
    await expect(store.receive(broken(), 100)).rejects.toThrow("gone");
    expect(await filesOnDisk()).toEqual([]);
  });
});

describe("the sweep", () => {
  const knowing = (...refs: FileRef[]) =>
    async function* () {
      yield* refs;
    };

  it("takes away drafts and what no row names, and nothing else", async () => {
    const [kept, stray] = [refOf("kept"), refOf("stray")];
    await put(kept);
    await put(stray);
    await store.receive(chunksOf("half an upload"), 100);
    expect(await (await createFileStore(root)).sweep(knowing(kept))).toBe(2);
    expect([await read(kept), await read(stray)]).toEqual(["text", null]);
    expect(await filesOnDisk()).toHaveLength(1);
  });

  it("leaves alone what arrives while it looks", async () => {
    const next = await createFileStore(root);
    const [uploaded, shared] = [refOf("uploaded"), refOf("shared")];
    await next.keep(await next.receive(chunksOf("new"), 100), uploaded);
    await next.share(uploaded, shared);
    const draft = await next.receive(chunksOf("draft"), 100);
    expect(await next.sweep(knowing())).toBe(0);
    expect([await read(uploaded), await read(shared)]).toEqual(["new", "new"]);
    expect(await readFile(draft.path, "utf8")).toBe("draft");
  });
});

it("a full disk is told as such", () => {
  const full = Object.assign(new Error("no space left on device"), { code: "ENOSPC" });
  expect(refusalOf(full)).toMatchObject({
    status: 507,
    http: 507,
    code: "InsufficientStorage",
    message: expect.stringContaining("full: free some room"),
  });
});
