/** What a process and everything that it started keeps in memory. */
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import process from "node:process";

export interface ProcessMemory {
  pid: number;
  command: string;
  bytes: number;
}

/**
 * The process `root` and all that descend from it. On Linux a page that several of them share counts
 * once, for the first that has it; unlike the proportional set size this does not fall when others
 * on the machine run the same programs. Elsewhere it counts for each of them (resident set size),
 * which is more than is taken.
 */
export function measureTree(root: number): ProcessMemory[] {
  const linux = process.platform === "linux";
  const all = linux ? readProc() : askPs();
  const tree = [root];
  for (const pid of tree) {
    tree.push(...all.filter((each) => each.parent === pid).map((each) => each.pid));
  }
  const counted = new Map<string, number>();
  return all.filter(({ pid }) => tree.includes(pid)).map(({ pid, command }) => ({
    pid,
    command,
    bytes: linux ? sizeBeyond(counted, pid) : residentSize(pid),
  }));
}

interface Listed {
  pid: number;
  parent: number;
  command: string;
}

function readProc(): Listed[] {
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name)).flatMap((name) => {
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "utf8");
      // The command in parentheses may hold spaces; state and parent follow it.
      const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
      const command = readFileSync(`/proc/${name}/cmdline`, "utf8").replaceAll("\0", " ").trim();
      return [{ pid: Number(name), parent, command }];
    } catch {
      // It has ended since the folder was listed.
      return [];
    }
  });
}

/**
 * What a process has in memory and `counted` has not; adds to `counted` what others may share.
 * Shared pages are told apart by their file, or, where a process has them from its parent, by their
 * address; of each such place the most that one process has of it is counted.
 */
function sizeBeyond(counted: Map<string, number>, pid: number): number {
  let bytes = 0;
  for (const { place, own, shared } of mappings(pid)) {
    const known = counted.get(place) ?? 0;
    bytes += own + Math.max(0, shared - known);
    counted.set(place, Math.max(known, shared));
  }
  return bytes;
}

function mappings(pid: number): { place: string; own: number; shared: number }[] {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/smaps`, "utf8");
  } catch {
    // It has ended since it was listed.
    return [];
  }
  return text.split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m).map((section) => {
    const [range, , offset, device, inode] = section.split(/\s+/, 5);
    const size = (field: string) =>
      Number(new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(section)?.[1] ?? 0) * 1024;
    const own = size("Private_Clean") + size("Private_Dirty");
    return {
      place: inode === "0" ? range! : `${device} ${inode} ${offset}`,
      own,
      shared: size("Rss") - own,
    };
  });
}

function askPs(): Listed[] {
  return spawnSync("ps", ["-axo", "pid=,ppid=,command="], { encoding: "utf8" }).stdout
    .trim().split("\n").map((line) => {
      const [, pid, parent, command] = /^\s*(\d+)\s+(\d+)\s+(.*)$/.exec(line) ?? [];
      return { pid: Number(pid), parent: Number(parent), command: command ?? "" };
    });
}

function residentSize(pid: number): number {
  const { stdout } = spawnSync("ps", ["-o", "rss=", "-p", String(pid)], { encoding: "utf8" });
  return Number(stdout.trim() || 0) * 1024;
}
