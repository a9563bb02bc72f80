import type { UpdateConfig } from "./compose_file.ts";
import type { Swarm } from "./swarm.ts";
import type { TaskRunner } from "./swarm_tasks.ts";
import {
  isTerminal,
  isWanted,
  sameSpec,
  type Service,
  type Task,
  type UpdateState,
} from "./swarm_types.ts";
import { delay } from "./time.ts";
import { rfc3339 } from "./units.ts";

const DEFAULTS: UpdateConfig = {
  Parallelism: 1,
  Delay: 0,
  FailureAction: "pause",
  Monitor: 5e9,
  MaxFailureRatio: 0,
  Order: "stop-first",
};

/** Replaces the tasks of a service that are not of its current specification, as Swarm's updater does. */
export class RollingUpdate {
  readonly #swarm: Swarm;
  readonly #runner: TaskRunner;
  readonly #service: Service;
  readonly #cancelled = new AbortController();
  /** The halt that a failure brings: no further slot is begun. */
  readonly #halted = new AbortController();

  constructor(swarm: Swarm, runner: TaskRunner, service: Service) {
    this.#swarm = swarm;
    this.#runner = runner;
    this.#service = service;
  }

  cancel(): void {
    this.#cancelled.abort();
    this.#halted.abort();
  }

  #isDirty(task: Task): boolean {
    return !sameSpec(task.Spec, this.#service.Spec.TaskTemplate);
  }

  /** Tasks of a slot that are meant to live: one, or two while a replacement comes up beside the old one. */
  #tasksIn(slot: number): Task[] {
    return this.#swarm.tasks(this.#service).filter((task) => task.Slot === slot && isWanted(task));
  }

  #dirtySlots(): number[] {
    const dirty = this.#swarm.tasks(this.#service)
      .filter((task) => isWanted(task) && this.#isDirty(task));
    return [...new Set(dirty.map(({ Slot }) => Slot))].toSorted((a, b) => a - b);
  }

  #setStatus(state: UpdateState, message: string): void {
    const now = rfc3339(Date.now());
    const isEnd = state !== "updating" && state !== "rollback_started";
    this.#service.UpdateStatus = {
      State: state,
      StartedAt: this.#service.UpdateStatus?.StartedAt ?? now,
      ...(isEnd ? { CompletedAt: now } : {}),
      Message: message,
    };
    this.#swarm.touch(this.#service);
  }

  async run(): Promise<void> {
    const state = this.#service.UpdateStatus?.State;
    if (state === "paused" || state === "rollback_paused") return;
    const isRollback = state === "rollback_started";
    const dirty = this.#dirtySlots();
    if (dirty.length === 0) {
      if (state === "updating" || isRollback) this.#complete(isRollback);
      return;
    }
    if (state === undefined || state === "completed" || state === "rollback_completed") {
      delete this.#service.UpdateStatus;
      this.#setStatus("updating", "update in progress");
    }
    const { Spec } = this.#service;
    const config = { ...DEFAULTS, ...(isRollback ? Spec.RollbackConfig : Spec.UpdateConfig) };
    const monitorMs = Math.max(
      (config.Monitor ?? DEFAULTS.Monitor!) / 1e6,
      config.Delay > 0 ? config.Delay / 1e6 + 1000 : 0,
    );
    const stopWatching = this.#watchFailures(config, monitorMs, dirty.length, isRollback);
    try {
      const queue = [...dirty];
      const workers = Math.min(config.Parallelism || queue.length, queue.length);
      await Promise.all(Array.from({ length: workers }, () => this.#work(queue, config)));
      await delay(monitorMs, this.#halted.signal);
      if (!this.#halted.signal.aborted) this.#complete(isRollback);
    } finally {
      stopWatching();
    }
  }

  #complete(isRollback: boolean): void {
    // Where a start-first replacement failed first and came up later, the old task still runs beside it.
    for (const slot of this.#dirtySlots()) {
      const tasks = this.#tasksIn(slot);
      if (tasks.some((task) => !this.#isDirty(task) && task.Status.State === "running")) {
        for (const old of tasks) if (this.#isDirty(old)) this.#runner.stop(old);
      }
    }
    if (isRollback) this.#setStatus("rollback_completed", "rollback completed");
    else this.#setStatus("completed", "update completed");
  }

  async #work(queue: number[], config: UpdateConfig): Promise<void> {
    for (let slot; !this.#halted.signal.aborted && (slot = queue.shift()) !== undefined;) {
      // It may have been renewed by the restart policy or scaled away since it was queued.
      if (!this.#tasksIn(slot).some((task) => this.#isDirty(task))) continue;
      await this.#renew(slot, config.Order);
      this.#swarm.pruneHistory(this.#service, slot);
      if (config.Delay > 0) await delay(config.Delay / 1e6, this.#halted.signal);
    }
  }

  async #renew(slot: number, order: UpdateConfig["Order"]): Promise<void> {
    const tasks = this.#tasksIn(slot);
    const old = tasks.filter((task) => this.#isDirty(task));
    const stopOld = () => Promise.all(old.map((task) => this.#runner.stop(task)));
    // As after a halted start-first update that is taken back: what is wanted never went away.
    if (tasks.some((task) => !this.#isDirty(task))) {
      await stopOld();
      return;
    }
    if (order === "start-first") {
      const fresh = this.#create(slot);
      await this.#untilSettled(fresh);
      // When a newer specification came meanwhile, what to do with both is its update's affair.
      if (!this.#cancelled.signal.aborted && fresh.Status.State === "running") await stopOld();
      return;
    }
    const stopped = stopOld().then(() => {});
    const fresh = this.#create(slot, stopped);
    await stopped;
    await this.#untilSettled(fresh);
  }

  #updated = new Map<string, number>();

  #create(slot: number, after?: Promise<void>): Task {
    const task = this.#runner.create(this.#service, slot, after ? { after } : {});
    this.#updated.set(task.ID, Date.now());
    return task;
  }

  #untilSettled(task: Task): Promise<void> {
    return new Promise((resolve) => {
      const finish = () => {
        stop();
        this.#cancelled.signal.removeEventListener("abort", finish);
        resolve();
      };
      const look = () => {
        if (task.Status.State === "running" || isTerminal(task) || !isWanted(task)) finish();
      };
      const stop = this.#swarm.onTask((changed) => {
        if (changed === task) look();
      });
      this.#cancelled.signal.addEventListener("abort", finish, { once: true });
      look();
    });
  }

  #watchFailures(config: UpdateConfig, monitorMs: number, total: number, isRollback: boolean) {
    if (config.FailureAction === "continue") return () => {};
    const failed = new Set<string>();
    return this.#swarm.onTask((task) => {
      const ended = ["failed", "rejected", "complete"].includes(task.Status.State);
      const since = this.#updated.get(task.ID);
      if (!ended || since === undefined || failed.has(task.ID)) return;
      if (this.#halted.signal.aborted || Date.now() - since > monitorMs) return;
      failed.add(task.ID);
      if (failed.size / total <= config.MaxFailureRatio) return;
      this.#halted.abort();
      const reason = `due to failure or early termination of task ${task.ID}`;
      if (isRollback) this.#setStatus("rollback_paused", `rollback paused ${reason}`);
      else if (config.FailureAction === "rollback") {
        // Not within the listener: the task that failed is still being recorded.
        queueMicrotask(() => this.#swarm.rollBack(this.#service, `update rolled back ${reason}`));
      } else this.#setStatus("paused", `update paused ${reason}`);
    });
  }
}
