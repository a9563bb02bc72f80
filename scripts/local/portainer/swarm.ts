import type { Engine } from "./engine.ts";
import { DockerError, swarmError } from "./errors.ts";
import { swarmId } from "./ids.ts";
import { type Backend, PortTaken, PublishedPort } from "./ports.ts";
import { RollingUpdate } from "./swarm_update.ts";
import { type Config, Configs } from "./swarm_configs.ts";
import { TaskRunner } from "./swarm_tasks.ts";
import {
  isTerminal,
  isWanted,
  type PortConfig,
  replicasOf,
  type Service,
  type ServiceSpec,
  type Task,
} from "./swarm_types.ts";
import { rfc3339 } from "./units.ts";

/** What a Swarm keeps over restarts. */
export interface SwarmRecord {
  id: string;
  nodeId: string;
  created: string;
  index: number;
  services: Service[];
  tasks: Task[];
  configs: Config[];
}

export const newSwarm = (): SwarmRecord => ({
  id: swarmId(),
  nodeId: swarmId(),
  created: rfc3339(Date.now()),
  index: 10,
  services: [],
  tasks: [],
  configs: [],
});

/** Docker keeps as many ended tasks of a slot. */
const TASK_HISTORY = 5;

/** How long a changed service waits for its update to begin. */
const UPDATE_BEGINS_MS = 50;

/** A Swarm of one node: services whose tasks are containers of its engine. */
export class Swarm {
  readonly engine: Engine;
  readonly record: SwarmRecord;
  readonly configs: Configs;
  readonly #firstPort: number;
  readonly #changed: () => void;
  readonly #runner: TaskRunner;
  readonly #updates = new Map<string, RollingUpdate>();
  readonly #ports = new Map<string, PublishedPort[]>();
  readonly #taskListeners = new Set<(task: Task) => void>();
  #leaving = false;

  constructor(
    record: SwarmRecord,
    engine: Engine,
    firstPort: number,
    { changed, save }: { changed: () => void; save: () => void },
  ) {
    this.record = record;
    this.engine = engine;
    this.configs = new Configs(record, engine.events, save);
    this.#firstPort = firstPort;
    this.#changed = changed;
    this.#runner = new TaskRunner(this);
  }

  services(): Service[] {
    return this.record.services;
  }

  /** @throws DockerError 404 */
  service(reference: string): Service {
    const found =
      this.record.services.find(({ ID, Spec }) => ID === reference || Spec.Name === reference) ??
        this.#byPrefix(reference);
    if (!found) throw new DockerError(404, `service ${reference} not found`);
    return found;
  }

  #byPrefix(reference: string): Service | undefined {
    const matches = this.record.services.filter(({ ID }) => ID.startsWith(reference));
    return matches.length === 1 ? matches[0] : undefined;
  }

  tasks(service?: Service): Task[] {
    return service
      ? this.record.tasks.filter(({ ServiceID }) => ServiceID === service.ID)
      : this.record.tasks;
  }

  /** Registers a change of a service or task: its version moves on and whoever waits looks again. */
  touch(thing: Service | Task): void {
    thing.Version = { Index: ++this.record.index };
    thing.UpdatedAt = rfc3339(Date.now());
    this.#changed();
    if ("ServiceID" in thing) { for (const listener of this.#taskListeners) listener(thing); }
  }

  /** Returns the function that ends the subscription. */
  onTask(listener: (task: Task) => void): () => void {
    this.#taskListeners.add(listener);
    return () => this.#taskListeners.delete(listener);
  }

  get isLeaving(): boolean {
    return this.#leaving;
  }

  /** @throws DockerError 409 for a name in use, 400 for a port in use */
  create(spec: ServiceSpec): Service {
    if (this.record.services.some(({ Spec }) => Spec.Name === spec.Name)) {
      throw swarmError(
        409,
        "AlreadyExists",
        `name conflicts with an existing object: service ${spec.Name} already exists`,
      );
    }
    const now = rfc3339(Date.now());
    const service: Service = {
      ID: swarmId(),
      Version: { Index: ++this.record.index },
      CreatedAt: now,
      UpdatedAt: now,
      Spec: spec,
      Endpoint: { Spec: spec.EndpointSpec ?? {}, VirtualIPs: [] },
    };
    this.#publish(service);
    this.record.services.push(service);
    this.engine.events.publish("service", "create", service.ID, { name: spec.Name }, "swarm");
    this.#changed();
    this.reconcile(service);
    return service;
  }

  /**
   * Replaces a service's specification, or takes the previous one back.
   * @throws DockerError 500 for a version that is not the current one, 400 for what Swarm does not allow
   */
  update(service: Service, version: number, spec: ServiceSpec, rollback = false): void {
    if (version !== service.Version.Index) {
      throw swarmError(500, "Unknown", "update out of sequence");
    }
    if (spec.Name !== service.Spec.Name) {
      throw swarmError(501, "Unimplemented", "renaming services is not supported");
    }
    if (Boolean(spec.Mode.Global) !== Boolean(service.Spec.Mode.Global)) {
      throw swarmError(501, "Unimplemented", "service mode change is not allowed");
    }
    if (rollback) return this.rollBack(service, "manually requested rollback");
    this.#replaceSpec(service, spec);
    delete service.UpdateStatus;
    this.#apply(service);
  }

  /** @throws DockerError 400 when there is nothing to go back to */
  rollBack(service: Service, message: string): void {
    if (!service.PreviousSpec) {
      throw swarmError(
        400,
        "FailedPrecondition",
        `service ${service.ID} does not have a previous spec`,
      );
    }
    this.#replaceSpec(service, service.PreviousSpec);
    service.UpdateStatus = {
      State: "rollback_started",
      StartedAt: rfc3339(Date.now()),
      Message: message,
    };
    this.#apply(service);
  }

  #replaceSpec(service: Service, spec: ServiceSpec): void {
    const former = service.Spec;
    service.Spec = spec;
    const portsChanged = JSON.stringify(former.EndpointSpec?.Ports ?? []) !==
      JSON.stringify(spec.EndpointSpec?.Ports ?? []);
    if (portsChanged) {
      this.#unpublish(service);
      try {
        this.#publish(service);
      } catch (error) {
        service.Spec = former;
        this.#publish(service);
        throw error;
      }
    }
    service.PreviousSpec = former;
  }

  #apply(service: Service): void {
    this.touch(service);
    this.engine.events.publish(
      "service",
      "update",
      service.ID,
      { name: service.Spec.Name },
      "swarm",
    );
    this.reconcile(service);
    this.#updates.get(service.ID)?.cancel();
    this.#startUpdate(service);
  }

  #startUpdate(service: Service): void {
    const update = new RollingUpdate(this, this.#runner, service);
    this.#updates.set(service.ID, update);
    // As in Swarm, which answers before it begins: until then the service tells of the last update.
    setTimeout(() => {
      if (this.#updates.get(service.ID) === update) update.run();
    }, UPDATE_BEGINS_MS);
  }

  /** Removes a service; its containers go after their grace period, as in Docker in the background. */
  remove(service: Service): void {
    this.#updates.get(service.ID)?.cancel();
    this.#updates.delete(service.ID);
    this.#unpublish(service);
    this.record.services.splice(this.record.services.indexOf(service), 1);
    for (const task of this.tasks(service)) this.#runner.discard(task);
    this.engine.events.publish(
      "service",
      "remove",
      service.ID,
      { name: service.Spec.Name },
      "swarm",
    );
    this.#changed();
  }

  /** Drops a task from the record. */
  forget(task: Task): void {
    const at = this.record.tasks.indexOf(task);
    if (at < 0) return;
    this.record.tasks.splice(at, 1);
    this.touch(task);
  }

  /** Gives every slot a task and ends the tasks of slots that are too many. */
  reconcile(service: Service): void {
    if (this.#leaving || !this.record.services.includes(service)) return;
    const wanted = replicasOf(service.Spec);
    const tasks = this.tasks(service);
    const taken = new Set(tasks.filter(isWanted).map(({ Slot }) => Slot));
    const surplus = [...taken].toSorted((a, b) => a - b).slice(wanted);
    for (const task of tasks) {
      if (surplus.includes(task.Slot)) this.#runner.discard(task);
    }
    for (let slot = 1; taken.size < wanted; slot++) {
      if (taken.has(slot)) continue;
      taken.add(slot);
      this.#runner.create(service, slot);
    }
  }

  /** Forgets the oldest ended tasks of a slot, with their containers and logs. */
  pruneHistory(service: Service, slot: number): void {
    const ended = this.tasks(service)
      .filter((task) => task.Slot === slot && isTerminal(task))
      .toSorted((a, b) => a.CreatedAt < b.CreatedAt ? -1 : 1);
    for (const task of ended.slice(0, Math.max(0, ended.length - TASK_HISTORY))) {
      this.#runner.discard(task);
    }
  }

  #backends(service: Service, target: number): Backend[] {
    return this.tasks(service)
      .filter(({ Status }) => Status.State === "running")
      .flatMap(({ Status }) => {
        try {
          return this.engine.find(Status.ContainerStatus!.ContainerID).backend(target) ?? [];
        } catch {
          return [];
        }
      });
  }

  #publish(service: Service): void {
    const wanted = service.Spec.EndpointSpec?.Ports ?? [];
    const opened: PublishedPort[] = [];
    const ports: PortConfig[] = [];
    try {
      for (const port of wanted) {
        if (port.PublishMode === "host") {
          ports.push({ ...port, Protocol: port.Protocol ?? "tcp" });
          continue;
        }
        this.#refuseTaken(service, port);
        const published = PublishedPort.open(
          port.PublishedPort ?? 0,
          this.#firstPort,
          () => this.#backends(service, port.TargetPort),
        );
        opened.push(published);
        ports.push({
          Protocol: port.Protocol ?? "tcp",
          TargetPort: port.TargetPort,
          PublishedPort: published.port,
          PublishMode: port.PublishMode ?? "ingress",
        });
      }
    } catch (error) {
      for (const port of opened) port.close();
      if (!(error instanceof PortTaken)) throw error;
      throw new DockerError(
        500,
        "driver failed programming external connectivity on endpoint " +
          `${service.Spec.Name}: ${error.message}`,
      );
    }
    this.#ports.set(service.ID, opened);
    service.Endpoint = {
      Spec: service.Spec.EndpointSpec ?? {},
      ...(ports.length > 0 ? { Ports: ports } : {}),
      VirtualIPs: [],
    };
  }

  #refuseTaken(service: Service, port: PortConfig): void {
    const rival = this.record.services.find((other) =>
      other.ID !== service.ID &&
      other.Endpoint.Ports?.some(({ PublishedPort }) => PublishedPort === port.PublishedPort)
    );
    if (!port.PublishedPort || !rival) return;
    throw swarmError(
      400,
      "InvalidArgument",
      `port '${port.PublishedPort}' is already in use by service '${rival.Spec.Name}' ` +
        `(${rival.ID}) as an ingress port`,
    );
  }

  #unpublish(service: Service): void {
    for (const port of this.#ports.get(service.ID) ?? []) port.close();
    this.#ports.delete(service.ID);
  }

  /** Takes up where an earlier life stopped; the engine's containers run again already. */
  resume(): void {
    for (const task of [...this.record.tasks]) this.#runner.resume(task);
    for (const service of this.record.services) {
      // A port that was assigned is asked for again; when it is gone, another one is taken.
      const former = service.Endpoint.Ports;
      try {
        this.#publishAgain(service, former);
      } catch {
        this.#publish(service);
      }
      this.reconcile(service);
      this.#startUpdate(service);
    }
  }

  #publishAgain(service: Service, former: PortConfig[] | undefined): void {
    const spec = service.Spec;
    if (former && spec.EndpointSpec?.Ports) {
      service.Spec = { ...spec, EndpointSpec: { ...spec.EndpointSpec, Ports: former } };
    }
    try {
      this.#publish(service);
    } finally {
      service.Spec = spec;
      service.Endpoint.Spec = spec.EndpointSpec ?? {};
    }
  }

  leave(): void {
    this.#leaving = true;
    for (const update of this.#updates.values()) update.cancel();
    for (const service of this.record.services) this.#unpublish(service);
  }
}
