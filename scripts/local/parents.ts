import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import process from "node:process";
import { commandLine, isAlive } from "./processes.ts";

/** npm, its shell, and the `deno` script of npm where the package did not put the binary there. */
const MOST_GENERATIONS = 4;

/**
 * The processes between the person and us: our parent and so on up to npm. Empty when npm has not
 * started us. None of them hands a signal on, and `kill -9` gives none the chance, so whoever wants
 * to end with npm has to watch them.
 */
export function npmProcesses(env: { has(name: string): boolean } = Deno.env): number[] {
  if (!env.has("npm_lifecycle_event")) return [];
  const line: number[] = [];
  for (let pid = process.ppid; pid > 1 && line.length < MOST_GENERATIONS; pid = parentOf(pid)) {
    line.push(pid);
    if (/\bnp[mx]\b/.test(commandLine(pid) ?? "")) return line;
  }
  // Somebody else set the variable: only the parent is known to belong to us.
  return line.slice(0, 1);
}

/** Whether all of them are there, and the first is still our parent. */
export function arePresent(pids: number[]): boolean {
  return pids.length === 0 || (process.ppid === pids[0] && pids.every(isAlive));
}

function parentOf(pid: number): number {
  if (process.platform === "linux") {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
      // The second field is the command in parentheses and may hold spaces; the parent is the 4th.
      return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
    } catch {
      return 0;
    }
  }
  const listed = spawnSync("ps", ["-o", "ppid=", "-p", String(pid)], { encoding: "utf8" });
  return Number(listed.stdout.trim()) || 0;
}
