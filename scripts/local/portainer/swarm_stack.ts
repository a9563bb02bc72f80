import type { ComposeFile, ComposeService } from "./compose_file.ts";
import { DockerError } from "./errors.ts";
import type { Swarm } from "./swarm.ts";
import type { Service, ServiceSpec } from "./swarm_types.ts";

const NAMESPACE = "com.docker.stack.namespace";

/** The wire leaves out what is not set. */
function withoutNulls<T extends object>(value: T): Partial<T> {
  return Object.fromEntries(
    Object.entries(value).filter(([, item]) => item !== null),
  ) as Partial<T>;
}

/** What `docker stack` calls a stack: the services and networks of one file on a Swarm. */
export class SwarmStack {
  readonly #swarm: Swarm;
  readonly #name: string;

  constructor(swarm: Swarm, name: string) {
    this.#swarm = swarm;
    this.#name = name;
  }

  services(): Service[] {
    return this.#swarm.services().filter(({ Spec }) => Spec.Labels[NAMESPACE] === this.#name);
  }

  /**
   * Creates or updates the services of the file. As `docker stack deploy` does, it returns when the services are
   * known to the Swarm; their tasks come up behind it.
   * @throws DockerError in the engine's words
   */
  deploy(file: ComposeFile, options: { prune: boolean }): void {
    const names = new Set(file.services.map(({ name }) => `${this.#name}_${name}`));
    if (options.prune) {
      for (const service of this.services()) {
        if (!names.has(service.Spec.Name)) this.#swarm.remove(service);
      }
    }
    this.#createNetworks(file);
    for (const declared of file.services) {
      const spec = this.#specOf(file, declared);
      const existing = this.services().find((service) => service.Spec.Name === spec.Name);
      if (!existing) {
        this.#swarm.create(spec);
        continue;
      }
      // A stack file knows no forced update: the count of earlier ones stays, or all tasks would be replaced.
      spec.TaskTemplate.ForceUpdate = existing.Spec.TaskTemplate.ForceUpdate ?? 0;
      this.#swarm.update(existing, existing.Version.Index, spec);
    }
  }

  #networkName(file: ComposeFile, key: string): string {
    const declared = file.networks.find((network) => network.key === key);
    return declared?.name ?? (declared?.external ? key : `${this.#name}_${key}`);
  }

  #createNetworks(file: ComposeFile): void {
    const used = new Set(file.services.flatMap(({ networks }) => networks));
    for (const key of used) {
      const name = this.#networkName(file, key);
      if (this.#swarm.engine.networks().some((network) => network.name === name)) continue;
      const declared = file.networks.find((network) => network.key === key);
      if (declared?.external) {
        throw new DockerError(
          404,
          `network "${name}" is declared as external, but could not be found. You need to create ` +
            "a swarm-scoped network before the stack is deployed",
        );
      }
      this.#swarm.engine.addNetwork(
        name,
        { ...declared?.labels, [NAMESPACE]: this.#name },
        "overlay",
        declared?.driverOptions,
      );
    }
    for (const volume of file.volumes.filter(({ external }) => !external)) {
      this.#swarm.engine.addVolume(volume.name ?? `${this.#name}_${volume.key}`, {
        ...volume.labels,
        [NAMESPACE]: this.#name,
      });
    }
  }

  #specOf(file: ComposeFile, service: ComposeService): ServiceSpec {
    const { deploy } = service;
    const networks = this.#swarm.engine.networks();
    const optional = <T>(key: string, value: T | null | undefined) =>
      value === null || value === undefined ? {} : { [key]: value };
    const limits = {
      ...optional("MemoryBytes", service.memory || null),
      ...optional("NanoCPUs", service.nanoCpus || null),
    };
    const reservations = {
      ...optional("MemoryBytes", deploy.reservedMemory || null),
      ...optional("NanoCPUs", deploy.reservedNanoCpus || null),
    };
    return {
      Name: `${this.#name}_${service.name}`,
      Labels: {
        ...deploy.labels,
        "com.docker.stack.image": service.image,
        [NAMESPACE]: this.#name,
      },
      TaskTemplate: {
        ContainerSpec: {
          Image: service.image,
          Labels: { ...service.labels, [NAMESPACE]: this.#name },
          ...optional("Command", service.entrypoint),
          ...optional("Args", service.command.length > 0 ? service.command : null),
          Env: Object.entries(service.environment)
            .map(([key, value]) => `${key}=${value}`)
            .toSorted(),
          ...optional("Hostname", service.hostname),
          ...optional("Healthcheck", service.healthcheck),
          ...optional("StopGracePeriod", service.stopGrace),
          ...optional("StopSignal", service.stopSignal === "SIGTERM" ? null : service.stopSignal),
          ...(service.mounts.length > 0
            ? {
              Mounts: service.mounts.map((mount) => ({
                Type: mount.type,
                Source: mount.type === "volume" && mount.source
                  ? `${this.#name}_${mount.source}`
                  : mount.source,
                Target: mount.target,
                ReadOnly: mount.readOnly,
              })),
            }
            : {}),
          Isolation: "default",
        },
        Resources: {
          ...optional("Limits", Object.keys(limits).length > 0 ? limits : null),
          ...optional("Reservations", Object.keys(reservations).length > 0 ? reservations : null),
        },
        RestartPolicy: {
          Condition: deploy.restartPolicy?.Condition ?? "any",
          ...optional("Delay", deploy.restartPolicy?.Delay),
          MaxAttempts: deploy.restartPolicy?.MaxAttempts ?? 0,
          ...optional("Window", deploy.restartPolicy?.Window),
        },
        Networks: service.networks.map((key) => ({
          Target: networks.find(({ name }) => name === this.#networkName(file, key))!.id,
          Aliases: [service.name],
        })),
        ForceUpdate: 0,
        Runtime: "container",
      },
      Mode: deploy.mode === "global"
        ? { Global: {} }
        : { Replicated: { Replicas: deploy.replicas } },
      ...optional("UpdateConfig", deploy.update && withoutNulls(deploy.update)),
      ...optional("RollbackConfig", deploy.rollback && withoutNulls(deploy.rollback)),
      EndpointSpec: {
        Mode: deploy.endpointMode,
        ...(service.ports.length > 0
          ? {
            Ports: service.ports.map((port) => ({
              Protocol: port.protocol,
              TargetPort: port.target,
              ...optional("PublishedPort", port.published || null),
              PublishMode: port.mode ?? "ingress",
            })),
          }
          : {}),
      },
    };
  }

  /** Removes services and networks. As with `docker stack rm`, containers end in the background. */
  remove(): void {
    for (const service of this.services()) this.#swarm.remove(service);
    const own = this.#swarm.engine.networks().filter(({ labels }) =>
      labels[NAMESPACE] === this.#name
    );
    for (const network of own) this.#swarm.engine.removeNetwork(network);
  }
}
