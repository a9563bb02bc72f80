import { READY_MARK, STOP_COMMAND } from "./child-protocol.ts";
import { describeError, StackError } from "./errors.ts";
import type { Log } from "./log.ts";

export interface ChildOptions {
  name: string;
  command: string;
  args: string[];
  cwd: string;
  /** The child's whole environment; nothing else is passed on. */
  env: Record<string, string>;
  log: Log;
  /** What it prints, followed by its address, once it answers; by default our own mark. */
  readyMark?: string;
  /** Whether the end of its input, rather than a word on it, asks for an orderly end. */
  endsWithInput?: boolean;
  /** How long a start may take before it counts as failed. */
  startTimeoutMs?: number;
  /** How long an orderly end may take before the child is killed. */
  stopTimeoutMs?: number;
}

/**
 * - `starting`: a process runs and has not said where it listens
 * - `ready`: it answers at `address`
 * - `waiting`: it ended by itself; the next start is due after a pause
 * - `stopped`: on request
 */
export type ChildState = "starting" | "ready" | "waiting" | "stopped";

export interface SupervisedChild {
  readonly name: string;
  readonly state: ChildState;
  readonly pid: number | null;
  /** Where the running child listens, as it said itself. */
  readonly address: string | null;
  /**
   * The address, as soon as there is one: waits for a start that is under way.
   *
   * @throws {ChildDownError} when the start fails, or at once while the supervisor pauses
   */
  ready(): Promise<string>;
  /** Starts a new process and takes it into use once it answers; the old one ends in order. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

/** The child does not answer at present. */
export class ChildDownError extends Error {
  override readonly name = "ChildDownError";
  constructor(
    readonly child: string,
    /** Whether it ended before it ever listened, as with a syntax error. */
    readonly duringStart: boolean,
    readonly retryAfterSeconds: number,
  ) {
    super(`${child} is not running`);
  }
}

const START_TIMEOUT_MS = 20_000;
const STOP_TIMEOUT_MS = 8_000;
/** Up this long, and the next crash counts as the first again. */
const STEADY_MS = 10_000;
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 30_000;

/** Pause before the next start after `failures` ends in a row: none at first, then doubling. */
export function restartPause(failures: number): number {
  if (failures <= 1) return 0;
  return Math.min(FIRST_PAUSE_MS * 2 ** (failures - 2), LONGEST_PAUSE_MS);
}

/** Starts a child and keeps it running until `stop`. Its output goes to `log`, line by line. */
export function superviseChild(options: ChildOptions): SupervisedChild {
  return new Supervision(options);
}

class Supervision implements SupervisedChild {
  readonly name: string;
  state: ChildState = "starting";
  private current: ChildRun;
  private failures = 0;
  private failedDuringStart = false;
  private resumeAt = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private readonly draining = new Set<Promise<void>>();

  constructor(private readonly options: ChildOptions) {
    this.name = options.name;
    this.current = this.launch();
  }

  get pid(): number | null {
    return this.state === "starting" || this.state === "ready" ? this.current.pid : null;
  }

  get address(): string | null {
    return this.state === "ready" ? this.current.address : null;
  }

  async ready(): Promise<string> {
    if (this.state === "ready") return this.current.address!;
    if (this.state === "starting") {
      const run = this.current;
      const address = await run.listening;
      if (address !== null) return address;
      // A reload may have put another process in this one's place meanwhile.
      if (run !== this.current && this.isUnderWay()) return await this.ready();
    }
    const seconds = Math.max(1, Math.ceil((this.resumeAt - Date.now()) / 1000));
    throw new ChildDownError(this.name, this.failedDuringStart, seconds);
  }

  private isUnderWay(): boolean {
    return this.state === "starting" || this.state === "ready";
  }

  async restart(): Promise<void> {
    clearTimeout(this.timer);
    const old = this.current;
    this.failures = 0;
    this.current = this.launch();
    await this.current.listening;
    this.drain(old);
  }

  async stop(): Promise<void> {
    clearTimeout(this.timer);
    this.state = "stopped";
    this.drain(this.current);
    await Promise.all(this.draining);
  }

  private drain(run: ChildRun): void {
    const done = run.stop().finally(() => this.draining.delete(done));
    this.draining.add(done);
  }

  private launch(): ChildRun {
    const run = new ChildRun(this.options);
    this.state = "starting";
    void run.listening.then((address) => {
      if (run !== this.current || this.state !== "starting" || address === null) return;
      this.state = "ready";
    });
    void run.ended.then((status) => {
      if (run === this.current && this.state !== "stopped") this.recover(run, status);
    });
    return run;
  }

  private recover(run: ChildRun, status: string): void {
    const lived = Date.now() - run.startedAt;
    this.failedDuringStart = run.address === null;
    this.failures = !this.failedDuringStart && lived > STEADY_MS ? 1 : this.failures + 1;
    const pause = restartPause(this.failures);
    this.resumeAt = Date.now() + pause;
    const what = this.failedDuringStart ? "did not start" : "ended";
    this.options.log.error(`${what} (${status}); starting it again`, { pause_ms: pause });
    this.state = "waiting";
    if (pause === 0) this.relaunch();
    else this.timer = setTimeout(() => this.relaunch(), pause);
  }

  private relaunch(): void {
    try {
      this.current = this.launch();
    } catch (error) {
      this.options.log.error(describeError(error), { retry_in_ms: LONGEST_PAUSE_MS });
      this.state = "waiting";
      this.timer = setTimeout(() => this.relaunch(), LONGEST_PAUSE_MS);
    }
  }
}

/** One process, from its start to its end. */
class ChildRun {
  readonly startedAt = Date.now();
  readonly pid: number;
  address: string | null = null;
  /** The address, or null when the process ended, or was killed for being late, without one. */
  readonly listening: Promise<string | null>;
  /** How it ended, in words. */
  readonly ended: Promise<string>;
  private readonly process: Deno.ChildProcess;
  private readonly input: WritableStreamDefaultWriter<Uint8Array>;

  constructor(private readonly options: ChildOptions) {
    const readyMark = options.readyMark ?? READY_MARK;
    this.process = spawn(options);
    this.pid = this.process.pid;
    this.input = this.process.stdin.getWriter();
    this.input.closed.catch(() => {});
    const { promise, resolve } = Promise.withResolvers<string | null>();
    this.listening = promise;
    const late = setTimeout(() => {
      options.log.error("did not say where it listens", { after_ms: this.startTimeout });
      this.kill();
    }, this.startTimeout);
    const output = Promise.all([
      eachLine(this.process.stdout, (line) => {
        if (!line.startsWith(readyMark)) return options.log.info(line);
        clearTimeout(late);
        this.address = line.slice(readyMark.length);
        resolve(this.address);
      }),
      eachLine(this.process.stderr, (line) => options.log.info(line)),
    ]);
    this.ended = this.process.status.then(async (status) => {
      clearTimeout(late);
      // A grandchild may hold the pipes open; its output must not hold up the restart.
      await Promise.race([output, pause(200)]);
      resolve(null);
      return status.signal === null ? `exit code ${status.code}` : `signal ${status.signal}`;
    });
  }

  async stop(): Promise<void> {
    const late = setTimeout(() => this.kill(), this.options.stopTimeoutMs ?? STOP_TIMEOUT_MS);
    const asked = this.options.endsWithInput
      ? this.input.close()
      : this.input.write(new TextEncoder().encode(STOP_COMMAND));
    await asked.catch(() => {});
    await this.process.status;
    clearTimeout(late);
    await this.input.close().catch(() => {});
  }

  private get startTimeout(): number {
    return this.options.startTimeoutMs ?? START_TIMEOUT_MS;
  }

  private kill(): void {
    try {
      this.process.kill("SIGKILL");
    } catch {
      // It has ended already.
    }
  }
}

function spawn(options: ChildOptions): Deno.ChildProcess {
  try {
    return new Deno.Command(options.command, {
      args: options.args,
      cwd: options.cwd,
      env: options.env,
      clearEnv: true,
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
      // Ctrl-C goes to the terminal's whole process group; the supervisor alone decides what ends.
      detached: true,
    }).spawn();
  } catch (error) {
    throw new StackError(
      `${options.name} cannot be started: ${describeError(error)}.`,
      `Check that ${options.command} exists and may be executed; npm install brings it back.`,
      { cause: error },
    );
  }
}

/** Calls `take` for each line of `stream`, the last one even without a line end. */
async function eachLine(
  stream: ReadableStream<Uint8Array>,
  take: (line: string) => void,
): Promise<void> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const bytes of stream) {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
    rest = lines.pop()!;
    // A line without end must not fill the memory.
    if (rest.length > 65_536) lines.push(rest), rest = "";
    for (const line of lines) take(line.replace(/\r$/, ""));
  }
  if (rest !== "") take(rest);
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
