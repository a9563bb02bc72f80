import { join } from "node:path";
import { Container, freshState } from "./container.ts";
import { DockerError, noSuchContainer } from "./errors.ts";
import { EventBus } from "./events.ts";
import { hexId } from "./ids.ts";
import type { Images } from "./images.ts";
import type { LogLimits } from "./log_file.ts";
import { processStart, readUsage, systemCpu, type Usage } from "./proc.ts";
import type { ContainerConfig, ContainerRecord } from "./types.ts";

export interface Network {
  id: string;
  name: string;
  driver: string;
  scope: "local" | "swarm";
  created: number;
  labels: Record<string, string>;
  /** The driver's, as they were given; nothing is encrypted between processes of one machine. */
  options?: Record<string, string> | null;
}

export interface Volume {
  name: string;
  driver: string;
  created: number;
  labels: Record<string, string>;
  /** The driver's, as they were given; this engine's volumes hold nothing that they could apply to. */
  options?: Record<string, string> | null;
}

/** What an engine keeps over restarts. */
export interface EngineRecord {
  containers: ContainerRecord[];
  networks: Network[];
  volumes: Volume[];
}

export const emptyEngine = (): EngineRecord => ({ containers: [], networks: [], volumes: [] });

/** A reading of the whole machine and one process, taken at the same time. */
export interface Sample {
  at: number;
  systemCpu: number;
  usage: Usage;
}

export interface EngineOptions {
  images: Images;
  stateDirectory: string;
  logLimits: LogLimits;
  firstPublishedPort: number;
  scope: "local" | "swarm";
  /** Something that is kept over restarts changed. */
  changed(): void;
  /** Something changed that is to be on disk before it is answered. */
  save(): void;
}

/** How often memory is compared with its limit: Docker's kernel does it at once, we nearly. */
const WATCH_MS = 500;

/** A Docker engine whose containers are processes of this machine. */
export class Engine {
  readonly events = new EventBus();
  readonly images: Images;
  readonly #options: EngineOptions;
  readonly #containers = new Map<string, Container>();
  readonly #samples = new Map<string, Sample[]>();
  readonly #networks: Network[];
  readonly #volumes: Volume[];
  readonly #exitListeners = new Set<(container: Container) => void>();
  readonly #changeListeners = new Set<() => void>();
  #watching: ReturnType<typeof setInterval>;

  constructor(record: EngineRecord, options: EngineOptions) {
    this.#options = options;
    this.images = options.images;
    this.#networks = record.networks;
    this.#volumes = record.volumes;
    if (this.#networks.length === 0) {
      this.#networks.push({
        id: hexId(),
        name: "bridge",
        driver: "bridge",
        scope: "local",
        created: Date.now(),
        labels: {},
      });
      if (options.scope === "swarm") this.addNetwork("ingress", {}, "overlay");
    }
    for (const container of record.containers) this.#add(container);
    this.#watching = setInterval(() => this.#watch(), WATCH_MS);
  }

  /** An engine that was killed while it removed a container leaves the log behind. */
  #dropForgottenLogs(): void {
    const directory = join(this.#options.stateDirectory, "logs");
    Deno.mkdirSync(directory, { recursive: true, mode: 0o700 });
    for (const { name } of Deno.readDirSync(directory)) {
      if (!this.#containers.has(name)) Deno.removeSync(join(directory, name), { recursive: true });
    }
  }

  record(): EngineRecord {
    return {
      containers: this.containers().map((container) => container.record()),
      networks: this.#networks,
      volumes: this.#volumes,
    };
  }

  onExit(listener: (container: Container) => void): void {
    this.#exitListeners.add(listener);
  }

  /** Called after anything about a container changed. */
  onChange(listener: () => void): void {
    this.#changeListeners.add(listener);
  }

  #changed(): void {
    this.#options.changed();
    for (const listener of this.#changeListeners) listener();
  }

  #add(record: ContainerRecord): Container {
    const { image: reference, id } = record.config;
    const image = this.images.get(reference);
    const container = new Container(record, {
      image,
      logDirectory: join(this.#options.stateDirectory, "logs", id),
      logLimits: this.#options.logLimits,
      cacheDirectory: join(this.#options.stateDirectory, "cache"),
      firstPublishedPort: this.#options.firstPublishedPort,
      emit: (source, action, attributes = {}) => this.emit(source, action, attributes),
      changed: () => this.#changed(),
      exited: (source) => {
        this.#samples.delete(source.id);
        for (const listener of this.#exitListeners) listener(source);
      },
    });
    this.#containers.set(id, container);
    return container;
  }

  emit(container: Container, action: string, attributes: Record<string, string> = {}): void {
    const { id, name, image, labels } = container.config;
    this.events.publish("container", action, id, { ...labels, ...attributes, image, name });
  }

  /** All containers, newest first. */
  containers(): Container[] {
    return [...this.#containers.values()].toSorted((a, b) => b.config.created - a.config.created);
  }

  /**
   * By id, unambiguous beginning of an id, or name.
   * @throws DockerError 404, 400 when several ids begin like that
   */
  find(reference: string): Container {
    const name = reference.replace(/^\//, "");
    const exact = this.#containers.get(reference) ??
      [...this.#containers.values()].find((container) => container.name === name);
    if (exact) return exact;
    const matches = [...this.#containers.values()].filter(({ id }) => id.startsWith(reference));
    if (matches.length > 1) {
      throw new DockerError(400, `multiple IDs found with provided prefix: ${reference}`);
    }
    if (!matches[0]) throw noSuchContainer(reference);
    return matches[0];
  }

  /** @throws DockerError 404 for an unknown image, 409 for a name in use */
  create(config: Omit<ContainerConfig, "id" | "created" | "imageId">): Container {
    const image = this.images.get(config.image);
    const rival = [...this.#containers.values()].find(({ name }) => name === config.name);
    if (rival) {
      throw new DockerError(
        409,
        `Conflict. The container name "/${config.name}" is already in use by container "${rival.id}". ` +
          "You have to remove (or rename) that container to be able to reuse that name.",
      );
    }
    const id = hexId();
    const hostname = config.hostname || id.slice(0, 12);
    const container = this.#add({
      config: { ...config, hostname, id, created: Date.now(), imageId: image.id },
      state: freshState(),
    });
    this.emit(container, "create");
    this.#changed();
    return container;
  }

  /** @throws DockerError 409 when it runs and `force` is not set */
  async remove(container: Container, force = false): Promise<void> {
    if (container.isRunning || container.state.status === "restarting") {
      if (!force) {
        throw new DockerError(
          409,
          `cannot remove container "/${container.name}": container is running: ` +
            "stop the container before removing or force remove",
        );
      }
      await container.stop(0);
    }
    if (!this.#containers.delete(container.id)) return;
    this.#samples.delete(container.id);
    container.log.remove();
    this.emit(container, "destroy");
    this.#changed();
  }

  networks(): Network[] {
    return this.#networks;
  }

  addNetwork(
    name: string,
    labels: Record<string, string>,
    driver: string,
    options: Record<string, string> | null = null,
  ): Network {
    const network: Network = {
      id: hexId(),
      name,
      driver,
      scope: driver === "overlay" ? "swarm" : "local",
      created: Date.now(),
      labels,
      options,
    };
    this.#networks.push(network);
    this.events.publish("network", "create", network.id, { name, type: driver }, network.scope);
    this.#options.changed();
    return network;
  }

  removeNetwork(network: Network): void {
    const at = this.#networks.indexOf(network);
    if (at < 0) return;
    this.#networks.splice(at, 1);
    this.events.publish("network", "destroy", network.id, { name: network.name }, network.scope);
    this.#options.changed();
  }

  volumes(): Volume[] {
    return this.#volumes;
  }

  /** A name that is taken gives the volume that is there, as it is. */
  addVolume(
    name: string,
    labels: Record<string, string> | null,
    options: Record<string, string> | null = null,
  ): Volume {
    const known = this.#volumes.find((volume) => volume.name === name);
    if (known) return known;
    const volume: Volume = {
      name,
      driver: "local",
      created: Date.now(),
      labels: labels ?? {},
      options,
    };
    this.#volumes.push(volume);
    this.events.publish("volume", "create", name, { driver: "local" });
    this.#options.save();
    return volume;
  }

  /** Ids of the containers, running or not, that have the volume. */
  volumeUsers(name: string): string[] {
    return this.containers().filter(({ config }) =>
      config.mounts.some(({ type, source }) => type === "volume" && source === name)
    ).map(({ id }) => id);
  }

  /** @throws DockerError 409 while a container has it */
  removeVolume(volume: Volume): void {
    const users = this.volumeUsers(volume.name);
    if (users.length > 0) {
      throw new DockerError(
        409,
        `remove ${volume.name}: volume is in use - [${users.join(", ")}]`,
      );
    }
    this.#volumes.splice(this.#volumes.indexOf(volume), 1);
    this.events.publish("volume", "destroy", volume.name, { driver: volume.driver });
    this.#options.save();
  }

  /** The last readings of a running container, oldest first, the newest taken now. */
  async samples(container: Container): Promise<{ before: Sample | null; now: Sample } | null> {
    const { pid } = container.state;
    const usage = (await readUsage([pid])).get(pid);
    if (!usage || container.state.pid !== pid) return null;
    const now = { at: Date.now(), systemCpu: systemCpu(), usage };
    // A span of less than a tick or two of the kernel's clock would give no usable share.
    const before = this.#samples.get(container.id)?.findLast((sample) => now.at - sample.at >= 200);
    return { before: before ?? null, now };
  }

  async #watch(): Promise<void> {
    const running = [...this.#containers.values()].filter(({ isRunning }) => isRunning);
    const usages = await readUsage(running.map(({ state }) => state.pid));
    const system = running.length > 0 ? systemCpu() : 0;
    for (const container of running) {
      const usage = usages.get(container.state.pid);
      if (!usage) continue;
      const samples = this.#samples.get(container.id) ?? [];
      samples.push({ at: Date.now(), systemCpu: system, usage });
      this.#samples.set(container.id, samples.slice(-3));
      if (container.config.memory > 0 && usage.rss > container.config.memory) {
        container.killForMemory();
      }
    }
  }

  /**
   * Brings back what ran when the engine went away. Processes that outlived it (they should not: they end with
   * their standard input) are ended first; a pid that now belongs to another program is recognised by its start time.
   */
  async resume(): Promise<void> {
    this.#dropForgottenLogs();
    const wanted = this.containers().filter(({ state }) =>
      state.status === "running" || state.status === "restarting" || state.status === "paused"
    );
    for (const { state } of wanted) {
      if (state.pid > 0 && state.pidStart !== null) {
        const start = await processStart(state.pid);
        if (start === state.pidStart) Deno.kill(state.pid, "SIGKILL");
      }
      Object.assign(state, { status: "exited", pid: 0, pidStart: null, health: null });
    }
    await Promise.all(wanted.map(async (container) => {
      try {
        await container.start();
      } catch {
        // The reason stands in State.Error, where Docker's users look for it.
      }
    }));
  }

  /** Ends all processes; they run again after the next start. */
  async leave(graceMs: number): Promise<void> {
    clearInterval(this.#watching);
    await Promise.all(this.containers().map((container) => container.leave(graceMs)));
  }
}
