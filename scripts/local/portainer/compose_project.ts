import type { ComposeFile, ComposeService } from "./compose_file.ts";
import type { Container } from "./container.ts";
import type { Engine } from "./engine.ts";
import { DockerError, pullDenied } from "./errors.ts";
import { digest } from "./ids.ts";
import { splitReference } from "./images.ts";

const PROJECT = "com.docker.compose.project";
const SERVICE = "com.docker.compose.service";
const NUMBER = "com.docker.compose.container-number";
const HASH = "com.docker.compose.config-hash";

/** What `docker compose` calls a project: the containers of one stack on a standalone engine. */
export class ComposeProject {
  readonly #engine: Engine;
  readonly #name: string;

  constructor(engine: Engine, name: string) {
    this.#engine = engine;
    this.#name = name;
  }

  containers(): Container[] {
    return this.#engine.containers().filter(({ config }) => config.labels[PROJECT] === this.#name);
  }

  /**
   * Makes the engine run what the file says: what is as it should be stays, what changed is made anew. Containers of
   * services that are no longer in the file stay too: Portainer asks compose for no removal of orphans. Resolves when
   * all processes are started.
   * @throws DockerError in the engine's words
   */
  async up(file: ComposeFile, options: { forceRecreate: boolean }): Promise<void> {
    for (const { image } of file.services) {
      if (!this.#engine.images.find(image)) throw pullDenied(splitReference(image).repository);
    }
    this.#createResources(file);
    for (const service of inOrder(file.services)) await this.#converge(file, service, options);
  }

  async #converge(
    file: ComposeFile,
    service: ComposeService,
    { forceRecreate }: { forceRecreate: boolean },
  ): Promise<void> {
    const { deploy: { replicas }, ...shape } = service;
    const hash = await digest(
      JSON.stringify({ ...shape, deploy: { labels: service.deploy.labels } }),
    );
    const existing = this.containers().filter(({ config }) =>
      config.labels[SERVICE] === service.name
    );
    if (service.containerName && replicas > 1) {
      throw new DockerError(
        500,
        `WARNING: The "${service.name}" service is using the custom container name ` +
          `"${service.containerName}". Docker requires each container to have a unique name. ` +
          "Remove the custom name to scale the service",
      );
    }
    await Promise.all(
      existing.filter(({ config }) => Number(config.labels[NUMBER]) > replicas).map((container) =>
        this.#discard(container)
      ),
    );
    const started = Array.from({ length: replicas }, async (_, index) => {
      const number = index + 1;
      const current = existing.find(({ config }) => Number(config.labels[NUMBER]) === number);
      if (current && !forceRecreate && current.config.labels[HASH] === hash) {
        await current.start();
        return;
      }
      if (current) await this.#discard(current);
      await this.#create(file, service, number, hash).start();
    });
    if (replicas === 0) {
      throw new DockerError(500, `service "${service.name}" has no container to start`);
    }
    const failed = (await Promise.allSettled(started)).find(({ status }) => status === "rejected");
    if (failed?.status === "rejected") throw failed.reason;
  }

  #create(file: ComposeFile, service: ComposeService, number: number, hash: string): Container {
    return this.#engine.create({
      name: service.containerName ?? `${this.#name}-${service.name}-${number}`,
      image: service.image,
      command: service.command,
      entrypoint: service.entrypoint,
      env: Object.entries(service.environment).map(([key, value]) => `${key}=${value}`),
      labels: {
        ...service.labels,
        [PROJECT]: this.#name,
        [SERVICE]: service.name,
        [NUMBER]: String(number),
        [HASH]: hash,
        "com.docker.compose.oneoff": "False",
        "com.docker.compose.version": "2.29.2",
      },
      ports: service.ports,
      restart: restartOf(service),
      memory: service.memory,
      nanoCpus: service.nanoCpus,
      healthcheck: service.healthcheck,
      networks: service.networks.map((key) => this.#networkName(file, key)),
      mounts: service.mounts.map((mount) => ({
        ...mount,
        source: mount.type === "volume" && mount.source
          ? this.#volumeName(file, mount.source)
          : mount.source,
      })),
      stopGraceMs: (service.stopGrace ?? 10e9) / 1e6,
      stopSignal: service.stopSignal,
      hostname: service.hostname ?? "",
    });
  }

  #networkName(file: ComposeFile, key: string): string {
    const declared = file.networks.find((network) => network.key === key);
    return declared?.name ?? (declared?.external ? key : `${this.#name}_${key}`);
  }

  #volumeName(file: ComposeFile, key: string): string {
    const declared = file.volumes.find((volume) => volume.key === key);
    return declared?.name ?? (declared?.external ? key : `${this.#name}_${key}`);
  }

  #createResources(file: ComposeFile): void {
    const used = new Set(file.services.flatMap(({ networks }) => networks));
    for (const key of used) {
      const name = this.#networkName(file, key);
      if (this.#engine.networks().some((network) => network.name === name)) continue;
      const declared = file.networks.find((network) => network.key === key);
      if (declared?.external) {
        throw new DockerError(404, `network ${name} declared as external, but could not be found`);
      }
      this.#engine.addNetwork(
        name,
        { ...declared?.labels, [PROJECT]: this.#name, "com.docker.compose.network": key },
        declared?.driver ?? "bridge",
        declared?.driverOptions,
      );
    }
    for (const volume of file.volumes.filter(({ external }) => !external)) {
      this.#engine.addVolume(this.#volumeName(file, volume.key), {
        ...volume.labels,
        [PROJECT]: this.#name,
        "com.docker.compose.volume": volume.key,
      });
    }
  }

  async #discard(container: Container): Promise<void> {
    await container.stop();
    await this.#engine.remove(container, true);
  }

  /** Stops and removes the containers and networks; volumes stay. */
  async down(): Promise<void> {
    await Promise.all(this.containers().map((container) => this.#discard(container)));
    const own = this.#engine.networks().filter(({ labels }) => labels[PROJECT] === this.#name);
    for (const network of own) this.#engine.removeNetwork(network);
  }
}

/** `restart` wins; `deploy.restart_policy` is what Compose falls back to. */
function restartOf(service: ComposeService) {
  const policy = service.deploy.restartPolicy;
  if (service.restart.Name !== "no" || !policy) return service.restart;
  const names = { any: "always", "on-failure": "on-failure", none: "no" } as const;
  return { Name: names[policy.Condition], MaximumRetryCount: policy.MaxAttempts };
}

/** Services after those they depend on. */
function inOrder(services: ComposeService[]): ComposeService[] {
  const done = new Set<string>();
  const ordered: ComposeService[] = [];
  const visit = (service: ComposeService, path: string[]) => {
    if (done.has(service.name)) return;
    if (path.includes(service.name)) {
      throw new Error(`dependency cycle detected: ${[...path, service.name].join(" -> ")}`);
    }
    for (const name of service.dependsOn) {
      visit(services.find((other) => other.name === name)!, [...path, service.name]);
    }
    done.add(service.name);
    ordered.push(service);
  };
  for (const service of services) visit(service, []);
  return ordered;
}
