import { DockerError, swarmError } from "./errors.ts";
import type { EventBus } from "./events.ts";
import { swarmId } from "./ids.ts";
import type { SwarmRecord } from "./swarm.ts";
import { rfc3339 } from "./units.ts";

/** In the Docker API's own names, as a Swarm's services are. */
export interface Config {
  ID: string;
  Version: { Index: number };
  CreatedAt: string;
  UpdatedAt: string;
  Spec: ConfigSpec;
}

export interface ConfigSpec {
  Name: string;
  Labels: Record<string, string>;
  /** Base64. */
  Data: string;
}

/** What Swarm keeps in a config at most, and one byte more. */
const DATA_LIMIT = 1000 * 1024;

/** The configs of a Swarm: small named files that its services may ask for. */
export class Configs {
  readonly #record: SwarmRecord;
  readonly #events: EventBus;
  readonly #save: () => void;

  /** @param save writes the state at once: what was accepted must outlive a kill */
  constructor(record: SwarmRecord, events: EventBus, save: () => void) {
    this.#record = record;
    this.#events = events;
    this.#save = save;
    // States that were written before there were configs.
    this.#record.configs ??= [];
  }

  all(): Config[] {
    return this.#record.configs;
  }

  /**
   * By id, name or unambiguous beginning of an id.
   * @throws DockerError 404, 400 when several ids begin like that
   */
  find(reference: string): Config {
    const exact = this.all().find(({ ID }) => ID === reference) ?? this.#named(reference);
    if (exact) return exact;
    const matches = this.all().filter(({ ID }) => ID.startsWith(reference));
    if (matches.length > 1) {
      throw new DockerError(
        400,
        `config ${reference} is ambiguous (${matches.length} matches found)`,
      );
    }
    if (!matches[0]) throw new DockerError(404, `config ${reference} not found`);
    return matches[0];
  }

  #named(name: string): Config | undefined {
    return this.all().find(({ Spec }) => Spec.Name.toLowerCase() === name.toLowerCase());
  }

  /** @throws DockerError 400 for a name or data that Swarm does not take, 409 for a name in use */
  create(spec: ConfigSpec): Config {
    validate(spec);
    if (this.#named(spec.Name)) {
      throw swarmError(409, "AlreadyExists", `config ${spec.Name} already exists`);
    }
    const now = rfc3339(Date.now());
    const config: Config = {
      ID: swarmId(),
      Version: { Index: ++this.#record.index },
      CreatedAt: now,
      UpdatedAt: now,
      Spec: spec,
    };
    this.all().push(config);
    this.#events.publish("config", "create", config.ID, { name: spec.Name }, "swarm");
    this.#save();
    return config;
  }

  /** @throws DockerError 400 while a service asks for it */
  remove(config: Config): void {
    const users = this.#record.services.filter(({ Spec }) =>
      Spec.TaskTemplate.ContainerSpec.Configs?.some(({ ConfigID }) => ConfigID === config.ID)
    ).map(({ Spec }) => Spec.Name);
    if (users.length > 0) {
      throw swarmError(
        400,
        "InvalidArgument",
        `config '${config.Spec.Name}' is in use by the following ` +
          `${users.length === 1 ? "service" : "services"}: ${users.join(", ")}`,
      );
    }
    this.all().splice(this.all().indexOf(config), 1);
    this.#events.publish("config", "remove", config.ID, { name: config.Spec.Name }, "swarm");
    this.#save();
  }
}

function validate({ Name, Data }: ConfigSpec): void {
  const invalid = (description: string) => swarmError(400, "InvalidArgument", description);
  if (!Name) throw invalid("name must be provided");
  if (Name.length > 64 || !/^[a-zA-Z0-9]+(?:[a-zA-Z0-9-_.]*[a-zA-Z0-9])?$/.test(Name)) {
    throw invalid(
      "invalid name, only 64 [a-zA-Z0-9-_.] characters allowed, and the start and end character " +
        "must be [a-zA-Z0-9]",
    );
  }
  const size = dataSize(Data);
  if (size < 1 || size >= DATA_LIMIT) {
    throw invalid(`config data must be larger than 0 and less than ${DATA_LIMIT} bytes`);
  }
}

function dataSize(data: string): number {
  try {
    return atob(data).length;
  } catch {
    throw new DockerError(400, "invalid JSON: illegal base64 data");
  }
}
