/** What the operating system says of one process. Memory in bytes, processor time in nanoseconds. */
export interface Usage {
  rss: number;
  anonymous: number;
  file: number;
  shared: number;
  cpuUser: number;
  cpuSystem: number;
  threads: number;
}

const onLinux = Deno.build.os === "linux";
/** USER_HZ: 100 on every Linux that Deno runs on. */
const NANOSECONDS_PER_TICK = 1e7;

function statFields(pid: number): string[] | null {
  try {
    const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
    // The command may hold spaces and parentheses: the fields start behind the last one.
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  } catch {
    return null;
  }
}

function readLinux(pid: number): Usage | null {
  const fields = statFields(pid);
  if (!fields || fields[0] === "Z") return null;
  let status: string;
  try {
    status = Deno.readTextFileSync(`/proc/${pid}/status`);
  } catch {
    return null;
  }
  const kilobytes = (name: string) =>
    Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(status)?.[1] ?? 0) * 1024;
  return {
    rss: kilobytes("VmRSS"),
    anonymous: kilobytes("RssAnon"),
    file: kilobytes("RssFile"),
    shared: kilobytes("RssShmem"),
    cpuUser: Number(fields[11]) * NANOSECONDS_PER_TICK,
    cpuSystem: Number(fields[12]) * NANOSECONDS_PER_TICK,
    threads: Number(fields[17]),
  };
}

async function ps(format: string, pids: number[]): Promise<string[]> {
  const { stdout } = await new Deno.Command("ps", {
    args: ["-o", format, "-p", pids.join(",")],
    stdin: "null",
    stderr: "null",
  }).output();
  return new TextDecoder().decode(stdout).split("\n").filter((line) => line.trim());
}

/** `ps` prints processor time as `[[days-]hours:]minutes:seconds.hundredths`. */
function clockToNanoseconds(text: string): number {
  const [days, clock] = text.includes("-") ? text.split("-") : ["0", text];
  const seconds = clock!.split(":").reduce((sum, part) => sum * 60 + Number(part), 0);
  return Math.round((Number(days) * 86400 + seconds) * 1e9);
}

async function readWithPs(pids: number[]): Promise<Map<number, Usage>> {
  const usages = new Map<number, Usage>();
  for (const line of await ps("pid=,rss=,utime=,time=", pids)) {
    const [pid, rss, user, total] = line.trim().split(/\s+/);
    const cpuUser = clockToNanoseconds(user!);
    usages.set(Number(pid), {
      rss: Number(rss) * 1024,
      anonymous: Number(rss) * 1024,
      file: 0,
      shared: 0,
      cpuUser,
      cpuSystem: Math.max(0, clockToNanoseconds(total!) - cpuUser),
      threads: 1,
    });
  }
  return usages;
}

/** Figures of the processes that still live; from `/proc` on Linux, from `ps` elsewhere. */
export async function readUsage(pids: number[]): Promise<Map<number, Usage>> {
  if (pids.length === 0) return new Map();
  if (!onLinux) return await readWithPs(pids);
  const usages = new Map<number, Usage>();
  for (const pid of pids) {
    const usage = readLinux(pid);
    if (usage) usages.set(pid, usage);
  }
  return usages;
}

/** Processor time that the whole machine had so far, in nanoseconds: the figure that shares are taken of. */
export function systemCpu(): number {
  if (onLinux) {
    const first = Deno.readTextFileSync("/proc/stat").split("\n", 1)[0]!;
    // guest times are already part of user times
    const ticks = first.trim().split(/\s+/).slice(1, 9).reduce(
      (sum, part) => sum + Number(part),
      0,
    );
    return ticks * NANOSECONDS_PER_TICK;
  }
  return Math.round(performance.now() * 1e6) * navigator.hardwareConcurrency;
}

/** Start time of a process in the system's own spelling, or null when there is none with that pid. */
export async function processStart(pid: number): Promise<string | null> {
  if (onLinux) return statFields(pid)?.[19] ?? null;
  return (await ps("lstart=", [pid]))[0]?.trim() ?? null;
}
