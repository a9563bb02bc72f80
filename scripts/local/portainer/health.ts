import { HOST } from "./ports.ts";
import { delay } from "./time.ts";
import { rfc3339 } from "./units.ts";
import type { Health, Healthcheck, HealthResult } from "./types.ts";

const DEFAULT_INTERVAL = 30e9;
const DEFAULT_TIMEOUT = 30e9;
/** Docker waits 5 s; here a deployment is watched by somebody, and a probe costs a millisecond. */
const DEFAULT_START_INTERVAL = 500e6;
const DEFAULT_RETRIES = 3;
const KEPT_RESULTS = 5;
const LONGEST_OUTPUT = 4096;

/** What a probe may know of its container. */
export interface ProbeTarget {
  /** The port as the container's own world numbers it, and where the process really listens. */
  containerPort: number;
  processPort: number;
  env: Record<string, string>;
}

interface ProbeResult {
  exitCode: number;
  output: string;
}

/** Whether the check runs at all. */
export function isChecked(check: Healthcheck | null): check is Healthcheck {
  return check !== null && check.Test.length > 1 && check.Test[0] !== "NONE";
}

function commandText(check: Healthcheck): string {
  return check.Test.slice(1).join(" ");
}

/**
 * Runs one probe. A command that fetches a loopback address (wget, curl, or fetch in a script) becomes a real
 * HTTP request of ours, because the container's ports are other ones on this machine; any other command runs
 * in a shell with the container's environment.
 */
async function probe(check: Healthcheck, target: ProbeTarget, signal: AbortSignal) {
  const text = commandText(check);
  const url =
    /https?:\/\/(?:127\.0\.0\.1|localhost|\[::1\]|0\.0\.0\.0)(?::(\d+|\$\{?PORT\}?))?(\/[^\s"'`|;)]*)?/
      .exec(text);
  if (url && /\b(wget|curl|fetch)\b/.test(text)) {
    const port = url[1]?.startsWith("$") ? target.containerPort : Number(url[1] ?? 80);
    return await fetchProbe(text, port, url[2] ?? "/", target, signal);
  }
  return await shellProbe(check, target, signal);
}

async function fetchProbe(
  command: string,
  port: number,
  path: string,
  target: ProbeTarget,
  signal: AbortSignal,
): Promise<ProbeResult> {
  // Commands that try several tools name first the one that they would take.
  const tool = /\b(curl|wget|fetch)\b/.exec(command)?.[1] ?? "wget";
  const refused = tool === "curl"
    ? { exitCode: 7, output: `curl: (7) Failed to connect to localhost port ${port}` }
    : { exitCode: 1, output: `wget: can't connect to remote host: Connection refused` };
  if (port !== target.containerPort) return refused;
  let response: Response;
  let body: string;
  try {
    response = await fetch(`http://${HOST}:${target.processPort}${path}`, {
      signal,
      redirect: "follow",
      headers: { "user-agent": tool },
    });
    body = await response.text();
  } catch (error) {
    if (signal.aborted) throw error;
    return refused;
  }
  const quiet = /\s(--spider|-o\s*\/dev\/null|-O\s*\/dev\/null)\b/.test(command);
  if (response.ok) return { exitCode: 0, output: quiet ? "" : body };
  // Scripts see the body of an error; wget and plain curl -f do not show it.
  if (tool === "fetch" || /--fail-with-body/.test(command)) {
    return { exitCode: 1, output: body };
  }
  if (tool === "wget") {
    return {
      exitCode: 1,
      output: `wget: server returned error: HTTP/1.1 ${response.status} ${response.statusText}`,
    };
  }
  return /\s(-\w*f\w*|--fail)\b/.test(command)
    ? {
      exitCode: 22,
      output: `curl: (22) The requested URL returned error: ${response.status}`,
    }
    : { exitCode: 0, output: body };
}

async function shellProbe(
  check: Healthcheck,
  target: ProbeTarget,
  signal: AbortSignal,
): Promise<ProbeResult> {
  const [kind, ...words] = check.Test;
  const [program, args] = kind === "CMD-SHELL"
    ? ["/bin/sh", ["-c", words.join(" ")]]
    : [words[0]!, words.slice(1)];
  try {
    const child = new Deno.Command(program, {
      args,
      clearEnv: true,
      env: { PATH: Deno.env.get("PATH") ?? "", ...target.env, PORT: String(target.processPort) },
      stdin: "null",
      signal,
    });
    const { code, stdout, stderr } = await child.output();
    if (signal.aborted) throw new Error("timed out");
    const decoder = new TextDecoder();
    return { exitCode: code, output: decoder.decode(stdout) + decoder.decode(stderr) };
  } catch (error) {
    if (signal.aborted) throw error;
    return { exitCode: 127, output: `exec failed: ${(error as Error).message}` };
  }
}

/** Runs a container's check in Docker's rhythm until it is stopped. */
export class HealthMonitor {
  readonly state: Health = { Status: "starting", FailingStreak: 0, Log: [] };
  readonly #check: Healthcheck;
  readonly #target: ProbeTarget;
  readonly #onStatus: (status: Health["Status"]) => void;
  readonly #startedAt = Date.now();
  readonly #stopped = new AbortController();

  constructor(
    check: Healthcheck,
    target: ProbeTarget,
    onStatus: (status: Health["Status"]) => void,
  ) {
    this.#check = check;
    this.#target = target;
    this.#onStatus = onStatus;
    this.#run();
  }

  stop(): void {
    this.#stopped.abort();
  }

  #inStartPeriod(): boolean {
    return (Date.now() - this.#startedAt) * 1e6 < this.#check.StartPeriod;
  }

  #interval(): number {
    const nanoseconds = this.#inStartPeriod() && this.state.Status === "starting"
      ? this.#check.StartInterval || DEFAULT_START_INTERVAL
      : this.#check.Interval || DEFAULT_INTERVAL;
    return nanoseconds / 1e6;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopped;
    while (!signal.aborted) {
      await delay(this.#interval(), signal);
      if (signal.aborted) return;
      const result = await this.#probe(signal);
      if (!signal.aborted) this.#take(result);
    }
  }

  async #probe(stopped: AbortSignal): Promise<HealthResult> {
    const began = Date.now();
    const from = performance.now();
    const limit = this.#check.Timeout || DEFAULT_TIMEOUT;
    let result: ProbeResult;
    const timeout = new AbortController();
    const timer = setTimeout(() => timeout.abort(), limit / 1e6);
    try {
      result = await probe(
        this.#check,
        this.#target,
        AbortSignal.any([stopped, timeout.signal]),
      );
    } catch {
      result = { exitCode: -1, output: `Health check exceeded timeout (${limit / 1e9}s)` };
    } finally {
      clearTimeout(timer);
    }
    // The clock has milliseconds only, and a probe takes about one.
    const microseconds = Math.round((performance.now() - from) * 1000);
    return {
      Start: rfc3339(began),
      End: rfc3339(began + Math.floor(microseconds / 1000), (microseconds % 1000) * 1000),
      ExitCode: result.exitCode,
      Output: result.output.slice(0, LONGEST_OUTPUT),
    };
  }

  #take(result: HealthResult): void {
    const before = this.state.Status;
    this.state.Log = [...this.state.Log.slice(1 - KEPT_RESULTS), result];
    if (result.ExitCode === 0) {
      this.state.FailingStreak = 0;
      this.state.Status = "healthy";
    } else if (before !== "starting" || !this.#inStartPeriod()) {
      this.state.FailingStreak++;
      if (this.state.FailingStreak >= (this.#check.Retries || DEFAULT_RETRIES)) {
        this.state.Status = "unhealthy";
      }
    }
    if (this.state.Status !== before) this.#onStatus(this.state.Status);
  }
}
