/** Processes of this machine; from `/proc` on Linux, where a slim image has no `ps`. */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { commandLine } from "../../scripts/local/processes.ts";

const onLinux = process.platform === "linux";
const ps = (...args: string[]) => execFileSync("ps", args, { encoding: "utf8" });

/** The command line of every process, behind its id. */
export function commandLines(): string[] {
  if (!onLinux) return ps("-eo", "pid=,args=").split("\n");
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name))
    .map((pid) => `${pid} ${commandLine(Number(pid)) ?? ""}`);
}

/** What a process keeps in memory. */
export function residentMegabytes(pid: number): number {
  const kilobytes = onLinux
    ? /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]
    : ps("-o", "rss=", "-p", String(pid));
  return Number(kilobytes) / 1024;
}
