import type { Container } from "./container.ts";
import { noSuchImage } from "./errors.ts";
import { swarmId } from "./ids.ts";
import { splitReference } from "./images.ts";
import type { Swarm } from "./swarm.ts";
import {
  isTerminal,
  isWanted,
  sameSpec,
  type Service,
  type Task,
  type TaskState,
} from "./swarm_types.ts";
import { delay } from "./time.ts";
import { rfc3339 } from "./units.ts";

const DEFAULT_RESTART_DELAY = 5e9;
const DEFAULT_STOP_GRACE = 10e9;
const UNHEALTHY = "dockerexec: unhealthy container";

/** Carries tasks through their states: prepares, starts and watches their containers, replaces those that end. */
export class TaskRunner {
  readonly #swarm: Swarm;
  readonly #unhealthy = new Set<string>();

  constructor(swarm: Swarm) {
    this.#swarm = swarm;
    swarm.engine.onExit((container) => this.#exited(container));
    swarm.engine.onChange(() => this.#checkHealth());
  }

  /** Makes the task of a slot and starts it after `delayMs`, or when the promise comes. */
  create(
    service: Service,
    slot: number,
    options: { delayMs?: number; after?: Promise<void> } = {},
  ) {
    const now = rfc3339(Date.now());
    const task: Task = {
      ID: swarmId(),
      Version: { Index: 0 },
      CreatedAt: now,
      UpdatedAt: now,
      Labels: {},
      Spec: structuredClone(service.Spec.TaskTemplate),
      ServiceID: service.ID,
      Slot: slot,
      NodeID: this.#swarm.record.nodeId,
      Status: { Timestamp: now, State: "new", Message: "created", PortStatus: {} },
      DesiredState: options.delayMs || options.after ? "ready" : "running",
    };
    this.#swarm.record.tasks.push(task);
    this.#run(service, task, options);
    return task;
  }

  async #run(
    service: Service,
    task: Task,
    { delayMs = 0, after }: { delayMs?: number; after?: Promise<void> },
  ): Promise<void> {
    // Whoever made the task gets hold of it before anything can happen to it.
    await Promise.resolve();
    // Before it is prepared: an image that is not there would otherwise be refused over and over without a pause.
    if (delayMs > 0) await delay(delayMs);
    if (this.#isOver(task)) return;
    this.#move(task, "preparing", "preparing");
    let container: Container;
    try {
      container = this.#prepare(service, task);
    } catch (error) {
      this.#move(task, "rejected", "preparing", (error as Error).message);
      this.#replace(task);
      return;
    }
    await after;
    if (this.#isOver(task)) return;
    task.DesiredState = "running";
    await this.#start(task, container);
  }

  /** Whether a task was given up before it was started. */
  #isOver(task: Task): boolean {
    if (this.#swarm.isLeaving || !this.#swarm.record.tasks.includes(task)) return true;
    if (isWanted(task)) return false;
    if (!isTerminal(task)) this.#move(task, "shutdown", "shutdown");
    return true;
  }

  #prepare(service: Service, task: Task): Container {
    const spec = task.Spec.ContainerSpec;
    if (!this.#swarm.engine.images.find(spec.Image)) {
      const { repository, tag } = splitReference(spec.Image);
      throw noSuchImage(`${repository}:${tag}`);
    }
    const limits = task.Spec.Resources?.Limits;
    const check = spec.Healthcheck;
    const container = this.#swarm.engine.create({
      name: `${service.Spec.Name}.${
        service.Spec.Mode.Global ? this.#swarm.record.nodeId : task.Slot
      }.${task.ID}`,
      image: spec.Image,
      command: spec.Args ?? [],
      entrypoint: spec.Command ?? null,
      env: spec.Env ?? [],
      labels: {
        ...spec.Labels,
        "com.docker.swarm.node.id": task.NodeID,
        "com.docker.swarm.service.id": service.ID,
        "com.docker.swarm.service.name": service.Spec.Name,
        "com.docker.swarm.task": "",
        "com.docker.swarm.task.id": task.ID,
        "com.docker.swarm.task.name": `${service.Spec.Name}.${task.Slot}.${task.ID}`,
      },
      ports: (service.Endpoint.Ports ?? []).map((port) => ({
        target: port.TargetPort,
        published: port.PublishMode === "host" ? port.PublishedPort ?? 0 : null,
        protocol: port.Protocol === "udp" ? "udp" : "tcp",
      })),
      restart: { Name: "no", MaximumRetryCount: 0 },
      memory: limits?.MemoryBytes ?? 0,
      nanoCpus: limits?.NanoCPUs ?? 0,
      healthcheck: check?.Test?.length
        ? {
          Test: check.Test,
          Interval: check.Interval ?? 0,
          Timeout: check.Timeout ?? 0,
          StartPeriod: check.StartPeriod ?? 0,
          StartInterval: check.StartInterval ?? 0,
          Retries: check.Retries ?? 0,
        }
        : null,
      networks: (task.Spec.Networks ?? []).map(({ Target }) =>
        this.#swarm.engine.networks().find(({ id, name }) => id === Target || name === Target)
          ?.name ?? Target
      ),
      mounts: (spec.Mounts ?? []).map((mount) => ({
        type: mount.Type === "bind" || mount.Type === "tmpfs" ? mount.Type : "volume",
        source: mount.Source ?? "",
        target: mount.Target,
        readOnly: mount.ReadOnly ?? false,
      })),
      stopGraceMs: (spec.StopGracePeriod ?? DEFAULT_STOP_GRACE) / 1e6,
      stopSignal: spec.StopSignal ?? "SIGTERM",
      hostname: spec.Hostname ?? "",
    });
    task.Status.ContainerStatus = { ContainerID: container.id, PID: 0, ExitCode: 0 };
    this.#move(task, "ready", "prepared");
    return container;
  }

  async #start(task: Task, container: Container): Promise<void> {
    this.#move(task, "starting", "starting");
    try {
      await container.start();
    } catch (error) {
      if (isTerminal(task)) return;
      this.#move(task, "failed", "starting", (error as Error).message);
      this.#replace(task);
      return;
    }
    task.Status.ContainerStatus!.PID = container.state.pid;
    this.#checkHealth();
  }

  /** A task with a health check runs only once it is healthy, and ends when it no longer is. */
  #checkHealth(): void {
    for (const task of this.#swarm.record.tasks) {
      if (task.Status.State !== "starting" && task.Status.State !== "running") continue;
      const container = this.#containerOf(task);
      if (!container?.isRunning) continue;
      const health = container.state.health?.Status ?? "healthy";
      if (health === "healthy" && task.Status.State === "starting") {
        this.#move(task, "running", "started");
      } else if (health === "unhealthy" && !this.#unhealthy.has(task.ID)) {
        this.#unhealthy.add(task.ID);
        container.stop();
      }
    }
  }

  #containerOf(task: Task): Container | null {
    const id = task.Status.ContainerStatus?.ContainerID;
    try {
      return id ? this.#swarm.engine.find(id) : null;
    } catch {
      return null;
    }
  }

  #exited(container: Container): void {
    const id = container.config.labels["com.docker.swarm.task.id"];
    const task = this.#swarm.record.tasks.find(({ ID }) => ID === id);
    if (!task || isTerminal(task)) return;
    const { exitCode } = container.state;
    task.Status.ContainerStatus = { ContainerID: container.id, PID: 0, ExitCode: exitCode };
    if (!isWanted(task)) this.#move(task, "shutdown", "shutdown");
    else if (this.#unhealthy.delete(task.ID)) {
      this.#move(task, "failed", "started", `task: non-zero exit (${exitCode}): ${UNHEALTHY}`);
    } else if (exitCode === 0) this.#move(task, "complete", "finished");
    else this.#move(task, "failed", "started", `task: non-zero exit (${exitCode})`);
    this.#replace(task);
  }

  #move(task: Task, state: TaskState, message: string, error?: string): void {
    const { ContainerStatus } = task.Status;
    task.Status = {
      Timestamp: rfc3339(Date.now()),
      State: state,
      Message: message,
      ...(error === undefined ? {} : { Err: error }),
      ...(ContainerStatus ? { ContainerStatus } : {}),
      PortStatus: this.#hostPorts(task),
    };
    this.#swarm.touch(task);
  }

  /** The ports that a task has on the host for itself. */
  #hostPorts(task: Task): Task["Status"]["PortStatus"] {
    const container = this.#containerOf(task);
    const ports = (container?.config.ports ?? []).flatMap((port, index) => {
      const published = container!.isRunning ? container!.state.publishedPorts[index] : null;
      return published
        ? [{
          Protocol: port.protocol,
          TargetPort: port.target,
          PublishedPort: published,
          PublishMode: "host",
        }]
        : [];
    });
    return ports.length > 0 ? { Ports: ports } : {};
  }

  /** What follows the end of a task that was meant to live: the restart policy's decision. */
  #replace(task: Task): void {
    const service = this.#swarm.services().find(({ ID }) => ID === task.ServiceID);
    if (!service || !isWanted(task)) return;
    task.DesiredState = "shutdown";
    const policy = task.Spec.RestartPolicy;
    const condition = policy?.Condition ?? "any";
    const applies = condition === "any" ||
      (condition === "on-failure" && task.Status.State !== "complete");
    // As when an update was halted and is taken back: what is wanted is there, and one is enough.
    const isHeld = this.#swarm.tasks(service).some((other) =>
      other.Slot === task.Slot && isWanted(other) &&
      sameSpec(other.Spec, service.Spec.TaskTemplate)
    );
    if (!isHeld && applies && !this.#exhausted(service, task)) {
      this.create(service, task.Slot, { delayMs: (policy?.Delay ?? DEFAULT_RESTART_DELAY) / 1e6 });
    } else if (!isHeld) {
      // The slot stays filled by the ended task: reconciling must not fill it against the policy.
      task.DesiredState = "running";
    }
    this.#swarm.pruneHistory(service, task.Slot);
    this.#swarm.touch(task);
  }

  #exhausted(service: Service, task: Task): boolean {
    const { MaxAttempts = 0, Window } = task.Spec.RestartPolicy ?? {};
    if (MaxAttempts === 0) return false;
    const since = Window ? Date.now() - Window / 1e6 : 0;
    const attempts = this.#swarm.tasks(service).filter((other) =>
      other.Slot === task.Slot && isTerminal(other) && sameSpec(other.Spec, task.Spec) &&
      Date.parse(other.CreatedAt) >= since
    );
    return attempts.length > MaxAttempts;
  }

  /** Ends a task; resolves when its process is gone. */
  async stop(task: Task): Promise<void> {
    task.DesiredState = "shutdown";
    this.#swarm.touch(task);
    const container = this.#containerOf(task);
    if (container?.isRunning) await container.stop();
    else if (!isTerminal(task)) this.#move(task, "shutdown", "shutdown");
  }

  /** Ends a task and leaves nothing of it. */
  async discard(task: Task): Promise<void> {
    await this.stop(task);
    const container = this.#containerOf(task);
    if (container) await this.#swarm.engine.remove(container, true);
    this.#swarm.forget(task);
  }

  /** Brings a task of an earlier life in line with what became of its container. */
  resume(task: Task): void {
    const service = this.#swarm.services().find(({ ID }) => ID === task.ServiceID);
    if (!service) {
      this.discard(task);
      return;
    }
    const container = this.#containerOf(task);
    if (!isWanted(task)) {
      if (!isTerminal(task)) this.stop(task);
      return;
    }
    if (isTerminal(task)) return;
    if (container?.isRunning) {
      task.Status.ContainerStatus!.PID = container.state.pid;
      this.#move(task, "starting", "starting");
      this.#checkHealth();
    } else if (container?.state.status === "created") {
      task.DesiredState = "running";
      this.#start(task, container);
    } else if (!container) {
      // It had not come far enough to have failed: its slot is filled anew, and at once.
      this.#swarm.forget(task);
    } else {
      this.#move(task, "failed", "started", "task: the engine was stopped");
      this.#replace(task);
    }
  }
}
