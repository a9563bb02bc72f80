import { DockerError } from "./errors.ts";
import { HealthMonitor, isChecked } from "./health.ts";
import type { Image } from "./images.ts";
import { LogFile, type LogLimits } from "./log_file.ts";
import {
  type Backend,
  freeProcessPort,
  noTraffic,
  PortTaken,
  PublishedPort,
  releaseProcessPort,
} from "./ports.ts";
import { processStart } from "./proc.ts";
import { delay } from "./time.ts";
import type { ContainerConfig, ContainerRecord, ContainerState } from "./types.ts";
import { NEVER, rfc3339 } from "./units.ts";

/** What a container needs of its engine. */
export interface ContainerHost {
  image: Image;
  logDirectory: string;
  logLimits: LogLimits;
  /** Where Deno children keep what they compile. */
  cacheDirectory: string;
  /** Ports are given from here upward when the mapping names none. */
  firstPublishedPort: number;
  emit(container: Container, action: string, attributes?: Record<string, string>): void;
  /** Something that outlives this process changed. */
  changed(): void;
  /** The process ended, for good or until the restart policy starts it again. */
  exited(container: Container): void;
}

const FIRST_BACKOFF_MS = 100;
const LONGEST_BACKOFF_MS = 60_000;
/** A container that ran for so long starts its back-off anew. */
const STEADY_MS = 10_000;

export const freshState = (): ContainerState => ({
  status: "created",
  pid: 0,
  pidStart: null,
  exitCode: 0,
  oomKilled: false,
  error: "",
  startedAt: NEVER,
  finishedAt: NEVER,
  restartCount: 0,
  manuallyStopped: false,
  health: null,
  publishedPorts: [],
});

const SIGNAL_NUMBERS: Partial<Record<Deno.Signal, number>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGQUIT: 3,
  SIGABRT: 6,
  SIGKILL: 9,
  SIGUSR1: 10,
  SIGUSR2: 12,
  SIGTERM: 15,
  SIGCONT: 18,
  SIGSTOP: 19,
};

/**
 * `9`, `KILL` and `SIGKILL` name the same signal.
 * @throws DockerError 400
 */
export function parseSignal(text: string): Deno.Signal {
  const name = /^\d+$/.test(text)
    ? Object.entries(SIGNAL_NUMBERS).find(([, number]) => number === Number(text))?.[0]
    : `SIG${text.toUpperCase().replace(/^SIG/, "")}`;
  if (!name || !(name in SIGNAL_NUMBERS)) throw new DockerError(400, `Invalid signal: ${text}`);
  return name as Deno.Signal;
}

/** A container: one process of the operating system, with what Docker knows about it. */
export class Container {
  readonly config: ContainerConfig;
  readonly state: ContainerState;
  readonly log: LogFile;
  readonly traffic = noTraffic();
  readonly #host: ContainerHost;
  #process: Deno.ChildProcess | null = null;
  #processPort = 0;
  #health: HealthMonitor | null = null;
  #published: PublishedPort[] = [];
  #exited: Promise<void> = Promise.resolve();
  #restartTimer: ReturnType<typeof setTimeout> | null = null;
  #backoff = 0;
  #leaving = false;

  constructor(record: ContainerRecord, host: ContainerHost) {
    this.config = record.config;
    this.state = record.state;
    this.#host = host;
    this.log = new LogFile(host.logDirectory, host.logLimits);
  }

  get id(): string {
    return this.config.id;
  }

  get name(): string {
    return this.config.name;
  }

  get isRunning(): boolean {
    return this.state.status === "running" || this.state.status === "paused";
  }

  /** The port that the program listens on, as its own world numbers it. */
  get containerPort(): number {
    return Number(this.#environment()["PORT"]) || this.#host.image.port;
  }

  /** Where connections for a port of this container go, when it can take them. */
  backend(target: number): Backend | null {
    const isReady = this.state.status === "running" &&
      (!this.state.health || this.state.health.Status === "healthy");
    return isReady && target === this.containerPort
      ? { port: this.#processPort, traffic: this.traffic }
      : null;
  }

  record(): ContainerRecord {
    return { config: this.config, state: this.state };
  }

  #environment(): Record<string, string> {
    return Object.fromEntries(this.config.env.map((entry) => {
      const at = entry.indexOf("=");
      return [entry.slice(0, at), entry.slice(at + 1)];
    }));
  }

  /**
   * Starts the process; does nothing when it runs.
   * @throws DockerError 500 when a published port is taken or the program cannot be run
   */
  async start(): Promise<void> {
    if (this.isRunning) return;
    this.#cancelRestart();
    this.state.manuallyStopped = false;
    this.#backoff = 0;
    await this.#launch();
  }

  async #launch(): Promise<void> {
    this.#publish();
    const port = freeProcessPort();
    // Whatever the file names as entrypoint or command, only the image's own program is run on this machine.
    const [program = "", ...entrypoint] = this.#host.image.entrypoint;
    const env = {
      PATH: Deno.env.get("PATH") ?? "/usr/local/bin:/usr/bin:/bin",
      HOME: "/",
      HOSTNAME: this.config.hostname,
      DENO_DIR: this.#host.cacheDirectory,
      DENO_NO_UPDATE_CHECK: "1",
      DENO_NO_PACKAGE_JSON: "1",
      NO_COLOR: "1",
      ...this.#environment(),
      PORT: String(port),
    };
    try {
      this.#process = new Deno.Command(program, {
        // The last argument marks the process as this container's, for a later life that looks for orphans.
        args: [...entrypoint, ...this.config.command, `--container=${this.id.slice(0, 12)}`],
        clearEnv: true,
        env,
        stdin: "piped",
        stdout: "piped",
        stderr: "piped",
      }).spawn();
    } catch (error) {
      releaseProcessPort(port);
      this.#unpublish();
      this.state.error = `failed to create task for container: ${(error as Error).message}`;
      this.state.exitCode = 127;
      this.#host.changed();
      throw new DockerError(500, this.state.error);
    }
    const child = this.#process;
    this.#processPort = port;
    Object.assign(this.state, {
      status: "running",
      pid: child.pid,
      pidStart: null,
      exitCode: 0,
      oomKilled: false,
      error: "",
      startedAt: rfc3339(Date.now()),
    });
    this.log.begin();
    this.#watchHealth();
    this.#exited = this.#follow(child, port);
    this.#host.emit(this, "start");
    const pidStart = await processStart(child.pid);
    if (this.state.pid === child.pid) this.state.pidStart = pidStart;
    this.#host.changed();
  }

  #publish(): void {
    this.state.publishedPorts = this.config.ports.map((mapping, index) => {
      if (mapping.published === null) return null;
      // A container that starts again keeps the port it was given.
      const wanted = mapping.published || this.state.publishedPorts[index] || 0;
      const backends = () => {
        const backend = this.backend(mapping.target);
        return backend ? [backend] : [];
      };
      let opened: PublishedPort;
      try {
        opened = this.#openPort(mapping.published, wanted, backends);
      } catch (error) {
        this.#unpublish();
        if (!(error instanceof PortTaken)) throw error;
        this.state.error = "driver failed programming external connectivity on endpoint " +
          `${this.name} (${this.id}): ${error.message}`;
        this.state.exitCode = 128;
        this.#host.changed();
        throw new DockerError(500, this.state.error);
      }
      this.#published.push(opened);
      return opened.port;
    });
  }

  #openPort(asked: number, wanted: number, backends: () => Backend[]): PublishedPort {
    try {
      return PublishedPort.open(wanted, this.#host.firstPublishedPort, backends);
    } catch (error) {
      if (asked !== 0 || wanted === 0) throw error;
      return PublishedPort.open(0, this.#host.firstPublishedPort, backends);
    }
  }

  #unpublish(): void {
    for (const port of this.#published) port.close();
    this.#published = [];
  }

  #watchHealth(): void {
    const check = this.config.healthcheck;
    if (!isChecked(check)) return;
    this.#health = new HealthMonitor(check, {
      containerPort: this.containerPort,
      processPort: this.#processPort,
      env: this.#environment(),
    }, (status) => {
      this.#host.emit(this, `health_status: ${status}`);
      this.#host.changed();
    });
    this.state.health = this.#health.state;
  }

  async #follow(child: Deno.ChildProcess, port: number): Promise<void> {
    const drained = Promise.all([
      this.#drain("stdout", child.stdout),
      this.#drain("stderr", child.stderr),
    ]);
    const { code } = await child.status;
    // A grandchild could hold the pipes open for ever.
    const patience = new AbortController();
    await Promise.race([drained, delay(2000, patience.signal)]);
    patience.abort();
    child.stdin.close().catch(() => {});
    releaseProcessPort(port);
    this.#health?.stop();
    this.#health = null;
    this.#unpublish();
    this.log.end();
    this.#process = null;
    this.#settle(code);
  }

  async #drain(stream: "stdout" | "stderr", pipe: ReadableStream<Uint8Array>): Promise<void> {
    for await (const chunk of pipe) {
      try {
        this.log.append(stream, chunk);
      } catch (error) {
        // A full disk must not stop the container: its pipe goes on being emptied.
        this.state.error = `log lost: ${(error as Error).message}`;
      }
    }
  }

  /** Records the exit and lets the restart policy decide. */
  #settle(exitCode: number): void {
    const ranFor = Date.now() - Date.parse(this.state.startedAt);
    Object.assign(this.state, {
      pid: 0,
      pidStart: null,
      exitCode,
      finishedAt: rfc3339(Date.now()),
    });
    if (this.#leaving) return;
    if (this.state.oomKilled) this.#host.emit(this, "oom");
    const restarts = this.#restarts(exitCode);
    this.state.status = restarts ? "restarting" : "exited";
    this.#host.emit(this, "die", {
      exitCode: String(exitCode),
      execDuration: String(Math.floor(ranFor / 1000)),
    });
    if (restarts) {
      this.state.restartCount++;
      this.#backoff = ranFor > STEADY_MS || this.#backoff === 0
        ? FIRST_BACKOFF_MS
        : Math.min(this.#backoff * 2, LONGEST_BACKOFF_MS);
      this.#restartTimer = setTimeout(() => this.#restartByPolicy(), this.#backoff);
    }
    this.#host.changed();
    this.#host.exited(this);
  }

  #restarts(exitCode: number): boolean {
    if (this.state.manuallyStopped) return false;
    const { Name, MaximumRetryCount } = this.config.restart;
    if (Name === "always" || Name === "unless-stopped") return true;
    return Name === "on-failure" && exitCode !== 0 &&
      (MaximumRetryCount === 0 || this.state.restartCount < MaximumRetryCount);
  }

  async #restartByPolicy(): Promise<void> {
    this.#restartTimer = null;
    try {
      await this.#launch();
    } catch (error) {
      this.state.status = "exited";
      this.state.error = (error as Error).message;
      this.#host.changed();
      this.#host.exited(this);
    }
  }

  #cancelRestart(): void {
    if (this.#restartTimer !== null) clearTimeout(this.#restartTimer);
    this.#restartTimer = null;
  }

  #signal(signal: Deno.Signal): void {
    try {
      this.#process?.kill(signal);
    } catch { /* it ended meanwhile */ }
  }

  /** Asks the process to end and kills it after the grace period. Resolves when it is gone. */
  async stop(graceMs = this.config.stopGraceMs): Promise<void> {
    this.state.manuallyStopped = true;
    if (this.state.status === "restarting") {
      this.#cancelRestart();
      this.state.status = "exited";
      this.#host.changed();
      this.#host.exited(this);
    }
    if (!this.isRunning) return;
    const signal = parseSignal(this.config.stopSignal);
    if (this.state.status === "paused") this.#signal("SIGCONT");
    this.#host.emit(this, "kill", { signal: String(SIGNAL_NUMBERS[signal]) });
    this.#signal(signal);
    const timer = setTimeout(() => {
      this.#host.emit(this, "kill", { signal: "9" });
      this.#signal("SIGKILL");
    }, graceMs);
    await this.#exited;
    clearTimeout(timer);
    this.#host.emit(this, "stop");
    this.#host.changed();
  }

  /** @throws DockerError 409 when it does not run */
  kill(signal: Deno.Signal): void {
    if (!this.isRunning) {
      throw new DockerError(
        409,
        `Cannot kill container: ${this.id}: container ${this.id} is not running`,
      );
    }
    // As in Docker: a signal that ends the container is a user's decision, and the policy respects it.
    if (signal === "SIGKILL" || signal === this.config.stopSignal) {
      this.state.manuallyStopped = true;
    }
    this.#host.emit(this, "kill", { signal: String(SIGNAL_NUMBERS[signal]) });
    this.#signal(signal);
    this.#host.changed();
  }

  async restart(graceMs?: number): Promise<void> {
    await this.stop(graceMs);
    await this.start();
    this.#host.emit(this, "restart");
  }

  /** @throws DockerError 409 */
  pause(paused: boolean): void {
    if (this.state.status !== (paused ? "running" : "paused")) {
      throw new DockerError(
        409,
        paused ? `Container ${this.id} is not running` : `Container ${this.id} is not paused`,
      );
    }
    this.#signal(paused ? "SIGSTOP" : "SIGCONT");
    this.state.status = paused ? "paused" : "running";
    this.#host.emit(this, paused ? "pause" : "unpause");
    this.#host.changed();
  }

  /** The kernel would have ended it: it uses more memory than it may. */
  killForMemory(): void {
    this.state.oomKilled = true;
    this.#signal("SIGKILL");
  }

  /** Resolves when the process that runs now has ended. */
  async ended(): Promise<void> {
    await this.#exited;
  }

  /** Ends the process without a trace in the state: it is to run again when the engine comes back. */
  async leave(graceMs: number): Promise<void> {
    this.#leaving = true;
    this.#cancelRestart();
    if (!this.#process) return;
    this.#signal("SIGCONT");
    this.#signal("SIGTERM");
    const timer = setTimeout(() => this.#signal("SIGKILL"), graceMs);
    await this.#exited;
    clearTimeout(timer);
  }
}
