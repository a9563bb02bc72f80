import { type ComposeFile, InvalidStackFile, parseComposeFile } from "./compose_file.ts";
import { ComposeProject } from "./compose_project.ts";
import type { Endpoint } from "./endpoints.ts";
import { throughEnvFile } from "./env_file.ts";
import { DockerError, PortainerError } from "./errors.ts";
import type { StackRecord, Store } from "./store.ts";
import { SwarmStack } from "./swarm_stack.ts";

/** What a client gives to create or update a stack. */
export interface StackInput {
  file: string;
  env: { name: string; value: string }[];
}

const SWARM = 1;
const COMPOSE = 2;
const ACTIVE = 1;
const INACTIVE = 2;

/** Portainer's own rule: lower case, and nothing but letters, digits, `-` and `_`. */
export const normalizeName = (name: string): string =>
  name.toLowerCase().replaceAll(/[^-_a-z0-9]+/g, "");

/** The stacks of this Portainer: the record of what was asked for, and the deploying of it. */
export class Stacks {
  readonly #store: Store;
  readonly #endpoints: Endpoint[];
  /** What is being done to a stack; the next thing waits for it. */
  readonly #turns = new Map<string, Promise<unknown>>();

  constructor(store: Store, endpoints: Endpoint[]) {
    this.#store = store;
    this.#endpoints = endpoints;
  }

  #alone<T>(stack: { endpointId: number; name: string }, work: () => Promise<T>): Promise<T> {
    const key = `${stack.endpointId}/${stack.name}`;
    const result = (this.#turns.get(key) ?? Promise.resolve()).then(work);
    const turn = result.catch(() => {}).then(() => {
      if (this.#turns.get(key) === turn) this.#turns.delete(key);
    });
    this.#turns.set(key, turn);
    return result;
  }

  all(): StackRecord[] {
    return this.#store.state.stacks;
  }

  /** @throws PortainerError 404 */
  get(id: number): StackRecord {
    const stack = this.all().find((candidate) => candidate.id === id);
    if (!stack) {
      throw new PortainerError(
        404,
        "Unable to find a stack with the specified identifier inside the database",
        "Object not found inside the database (bucket=stacks, key=" + id + ")",
      );
    }
    return stack;
  }

  #endpoint(id: number): Endpoint {
    return this.#endpoints.find((endpoint) => endpoint.id === id)!;
  }

  #parse(type: StackRecord["type"], { file, env }: StackInput): ComposeFile {
    try {
      const variables = type === COMPOSE
        ? throughEnvFile(env)
        // `docker stack deploy` gets them as its own environment, to the letter.
        : Object.fromEntries(env.map(({ name, value }) => [name, value]));
      return parseComposeFile(file, variables);
    } catch (error) {
      if (error instanceof InvalidStackFile) {
        throw new PortainerError(400, "Invalid stack file content", error.message);
      }
      throw new PortainerError(500, `failed to deploy a stack: ${(error as Error).message}`);
    }
  }

  async #deploy(
    stack: StackRecord,
    file: ComposeFile,
    options: { prune: boolean; forceRecreate: boolean },
  ): Promise<void> {
    const endpoint = this.#endpoint(stack.endpointId);
    try {
      if (stack.type === SWARM) new SwarmStack(endpoint.swarm!, stack.name).deploy(file, options);
      else await new ComposeProject(endpoint.engine, stack.name).up(file, options);
    } catch (error) {
      if (!(error instanceof DockerError)) throw error;
      throw new PortainerError(
        500,
        `failed to deploy a stack: Error response from daemon: ${error.message}`,
      );
    }
  }

  async #takeDown(stack: StackRecord): Promise<void> {
    const endpoint = this.#endpoint(stack.endpointId);
    if (stack.type === SWARM) new SwarmStack(endpoint.swarm!, stack.name).remove();
    else await new ComposeProject(endpoint.engine, stack.name).down();
  }

  /**
   * Deploys a new stack and records it once it is up.
   * @param swarmId what the client names as its Swarm; null for a Compose stack
   * @throws PortainerError 409 for a name in use, 400 for a file that is no YAML, 500 when it cannot be deployed
   */
  create(
    endpoint: Endpoint,
    swarmId: string | null,
    name: string,
    input: StackInput,
  ): Promise<StackRecord> {
    const normal = normalizeName(name);
    if (!normal) throw new PortainerError(400, "Invalid request payload", "Invalid stack name");
    return this.#alone({ endpointId: endpoint.id, name: normal }, async () => {
      this.#refuseTaken(endpoint, normal);
      const type = swarmId === null ? COMPOSE : SWARM;
      const file = this.#parse(type, input);
      const now = Math.floor(Date.now() / 1000);
      const stack: StackRecord = {
        id: this.#store.state.nextStackId++,
        name: normal,
        type,
        endpointId: endpoint.id,
        swarmId: swarmId ?? "",
        env: input.env,
        file: input.file,
        status: ACTIVE,
        created: now,
        updated: 0,
      };
      try {
        await this.#deploy(stack, file, { prune: false, forceRecreate: false });
      } catch (error) {
        if (stack.type === COMPOSE) await this.#takeDown(stack);
        throw error;
      }
      this.all().push(stack);
      this.#store.save();
      return stack;
    });
  }

  #refuseTaken(endpoint: Endpoint, name: string): void {
    const inUse =
      this.all().some((stack) => stack.endpointId === endpoint.id && stack.name === name) ||
      // Services without a stack are somebody else's; containers without one are left of a deployment that was
      // cut off, and Compose takes them up.
      (endpoint.swarm && new SwarmStack(endpoint.swarm, name).services().length > 0);
    if (inUse) {
      throw new PortainerError(409, `A stack with the normalized name '${name}' already exists`);
    }
  }

  /** Deploys another file and other variables; those that are not sent again are gone. */
  update(
    stack: StackRecord,
    input: StackInput,
    options: { prune: boolean; forceRecreate: boolean },
  ): Promise<StackRecord> {
    return this.#alone(stack, async () => {
      const file = this.#parse(stack.type, input);
      const before = stack.file;
      // Portainer stores the file before it deploys, and all else when that has succeeded.
      stack.file = input.file;
      try {
        await this.#deploy(stack, file, options);
      } catch (error) {
        stack.file = before;
        throw error;
      }
      Object.assign(stack, {
        env: input.env,
        status: ACTIVE,
        updated: Math.floor(Date.now() / 1000),
      });
      this.#store.save();
      return stack;
    });
  }

  /** @throws PortainerError 400 when it is active already */
  start(stack: StackRecord): Promise<StackRecord> {
    return this.#alone(stack, async () => {
      if (stack.status === ACTIVE) throw new PortainerError(400, "Stack is already active");
      const file = this.#parse(stack.type, stack);
      await this.#deploy(stack, file, { prune: true, forceRecreate: false });
      stack.status = ACTIVE;
      this.#store.save();
      return stack;
    });
  }

  /** Takes the containers down and keeps the stack. @throws PortainerError 400 when it is inactive already */
  stop(stack: StackRecord): Promise<StackRecord> {
    return this.#alone(stack, async () => {
      if (stack.status === INACTIVE) throw new PortainerError(400, "Stack is already inactive");
      await this.#takeDown(stack);
      stack.status = INACTIVE;
      this.#store.save();
      return stack;
    });
  }

  remove(stack: StackRecord): Promise<void> {
    return this.#alone(stack, async () => {
      await this.#takeDown(stack);
      const at = this.all().indexOf(stack);
      if (at >= 0) this.all().splice(at, 1);
      this.#store.save();
    });
  }
}
