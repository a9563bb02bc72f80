import { createHash } from "node:crypto";
import { type FileHandle, link, mkdir, open, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";

/** One stored state of an object: a name keeps its bytes under a new version each time they change. */
export interface FileRef {
  bucket: string;
  name: string;
  version: string | null;
}

/** Bytes that have arrived and belong to no object yet. */
export interface Draft {
  path: string;
  size: number;
  /** Quoted MD5, as S3 gives it to what came in one piece. */
  eTag: string;
}

/** More bytes came than may. */
export class TooManyBytes extends Error {
  override readonly name = "TooManyBytes";
}

export interface FileStore {
  /**
   * Writes what `chunks` gives as it comes, and sees it on the disk.
   *
   * @throws {TooManyBytes} and what the disk or `chunks` throws; nothing is left then
   */
  receive(chunks: AsyncIterable<Uint8Array>, mostBytes: number): Promise<Draft>;
  /** Makes the draft the file of `ref`. On return it outlives a power cut. */
  keep(draft: Draft, ref: FileRef): Promise<void>;
  discard(draft: Draft): Promise<void>;
  /** The file, open for reading and the caller's to close; null when there is none. */
  open(ref: FileRef): Promise<FileHandle | null>;
  /** Gives `to` the bytes of `from`, without copying them. False when there are none. */
  share(from: FileRef, to: FileRef): Promise<boolean>;
  /** Takes files away; those that are gone already are as good. */
  remove(refs: FileRef[]): Promise<void>;
  /**
   * Takes away what an interrupted process left: its drafts, and files that `known` does not name.
   * What this store has taken in since it was made stays. To be called once.
   *
   * @returns how many files it took away
   */
  sweep(known: () => AsyncIterable<FileRef>): Promise<number>;
}

/** Chunks come by 16 KiB and in crumbs; a write of each costs more than copying it. */
const BATCH_BYTES = 512 * 1024;

const VERSION = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/**
 * Keeps files under `root`. A file is named for a version that this side made and a digest of bucket
 * and object name: no name of a client ever becomes a path, and a row that claims somebody else's
 * version finds nothing.
 */
export async function createFileStore(root: string): Promise<FileStore> {
  const drafts = join(root, "drafts");
  const objects = join(root, "objects");
  await mkdir(drafts, { recursive: true, mode: 0o700 });
  await mkdir(objects, { recursive: true, mode: 0o700 });
  // Not by times: clocks jump, and not every disk notes when a file was linked.
  let own: Set<string> | null = new Set();

  async function receive(chunks: AsyncIterable<Uint8Array>, mostBytes: number): Promise<Draft> {
    const path = join(drafts, crypto.randomUUID());
    own?.add(path);
    const digest = createHash("md5");
    let size = 0;
    const batch = new Uint8Array(BATCH_BYTES);
    let held = 0;
    const file = await open(path, "wx", 0o600);
    const add = async (bytes: Uint8Array): Promise<void> => {
      digest.update(bytes);
      await writeWhole(file, bytes);
    };
    try {
      for await (const chunk of chunks) {
        size += chunk.byteLength;
        if (size > mostBytes) throw new TooManyBytes(`more than ${mostBytes} bytes`);
        for (let at = 0; at < chunk.byteLength;) {
          const taken = Math.min(BATCH_BYTES - held, chunk.byteLength - at);
          batch.set(chunk.subarray(at, at + taken), held);
          at += taken;
          held += taken;
          if (held < BATCH_BYTES) continue;
          await add(batch);
          held = 0;
        }
      }
      await add(batch.subarray(0, held));
      await file.sync();
    } catch (error) {
      await file.close();
      await rm(path, { force: true });
      throw error;
    }
    await file.close();
    return { path, size, eTag: `"${digest.digest("hex")}"` };
  }

  async function prepare(ref: FileRef): Promise<string> {
    const path = pathOf(objects, ref);
    if (path === null) throw new Error(`${ref.version} is no version of a file`);
    own?.add(path);
    const folder = join(path, "..");
    if (await mkdir(folder, { recursive: true, mode: 0o700 }) !== undefined) await sync(objects);
    return path;
  }

  return {
    receive,
    async keep(draft, ref) {
      const path = await prepare(ref);
      await rename(draft.path, path);
      await sync(join(path, ".."));
    },
    discard: (draft) => rm(draft.path, { force: true }),
    async open(ref) {
      const path = pathOf(objects, ref);
      return path === null ? null : await unlessMissing(open(path, "r"));
    },
    async share(from, to) {
      const source = pathOf(objects, from);
      const path = await prepare(to);
      // Files are never written to again, so two names for the same bytes are as good as a copy.
      const shared = source !== null && await unlessMissing(link(source, path)) !== null;
      if (shared) await sync(join(path, ".."));
      return shared;
    },
    async remove(refs) {
      for (const ref of refs) {
        const path = pathOf(objects, ref);
        if (path !== null) await rm(path, { force: true });
      }
    },
    async sweep(known) {
      const strays = new Set<string>();
      for (const folder of await readdir(objects)) {
        for (const name of await readdir(join(objects, folder))) {
          strays.add(join(objects, folder, name));
        }
      }
      if (strays.size > 0) {
        for await (const ref of known()) {
          const path = pathOf(objects, ref);
          if (path !== null) strays.delete(path);
        }
      }
      for (const name of await readdir(drafts)) strays.add(join(drafts, name));
      const left = [...strays].filter((path) => !own?.has(path));
      for (const path of left) await rm(path, { force: true });
      own = null;
      return left.length;
    },
  };
}

function pathOf(objects: string, { bucket, name, version }: FileRef): string | null {
  if (version === null || !VERSION.test(version)) return null;
  const digest = createHash("sha256").update(`${bucket}/${name}`).digest("hex").slice(0, 32);
  return join(objects, version.slice(0, 2), `${version}.${digest}`);
}

async function writeWhole(file: FileHandle, chunk: Uint8Array): Promise<void> {
  for (let at = 0; at < chunk.byteLength;) {
    const { bytesWritten } = await file.write(chunk, at, chunk.byteLength - at);
    at += bytesWritten;
  }
}

/** Of a new name only the folder tells, so the folder has to reach the disk too. */
async function sync(folder: string): Promise<void> {
  const handle = await open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** The result, `undefined` included; null when the file is not there. */
async function unlessMissing<T>(work: Promise<T>): Promise<T | null> {
  try {
    return await work;
  } catch (error) {
    if ((error as { code?: string }).code === "ENOENT") return null;
    throw error;
  }
}
