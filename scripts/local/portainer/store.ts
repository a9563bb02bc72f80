import { join } from "node:path";
import { emptyEngine, type EngineRecord } from "./engine.ts";
import { delay } from "./time.ts";
import { newSwarm, type SwarmRecord } from "./swarm.ts";

/** A stack as Portainer stores it, with the file beside it. */
export interface StackRecord {
  id: number;
  name: string;
  type: 1 | 2;
  endpointId: number;
  swarmId: string;
  /** The stack's variables: they may be secrets, and are shown to nobody but an administrator's key. */
  env: { name: string; value: string }[];
  file: string;
  status: 1 | 2;
  created: number;
  updated: number;
}

export interface TemplateRecord {
  id: number;
  title: string;
  description: string;
  note: string;
  platform: number;
  type: number;
  logo: string;
  file: string;
  variables: unknown[];
}

/** Everything that outlives this process. */
export interface State {
  instanceId: string;
  nextStackId: number;
  nextTemplateId: number;
  stacks: StackRecord[];
  templates: TemplateRecord[];
  swarm: SwarmRecord;
  engines: { swarm: EngineRecord; standalone: EngineRecord };
}

const newState = (): State => ({
  instanceId: crypto.randomUUID(),
  nextStackId: 1,
  nextTemplateId: 1,
  stacks: [],
  templates: [],
  swarm: newSwarm(),
  engines: { swarm: emptyEngine(), standalone: emptyEngine() },
});

/** A predecessor that is on its way out gives its containers three seconds to end. */
const PATIENCE_MS = 4000;

/** Held for as long as this process lives; the system gives it free even after a kill. */
async function lock(directory: string): Promise<void> {
  const file = await Deno.open(join(directory, "lock"), { write: true, create: true, mode: 0o600 });
  for (const deadline = Date.now() + PATIENCE_MS; !await file.tryLock(true);) {
    if (Date.now() > deadline) {
      throw new Error(`${directory} is in use by another local Portainer`);
    }
    await delay(50);
  }
}

/** Changes of running containers are written together, at most so often. */
const WRITE_EVERY_MS = 200;

/** Keeps the state in one file that is replaced whole, so that a kill in the middle of writing loses nothing. */
export class Store {
  readonly #path: string;
  readonly #log: (line: string) => void;
  readonly state: State;
  #snapshot: () => State;
  #timer: ReturnType<typeof setTimeout> | null = null;

  private constructor(path: string, state: State, log: (line: string) => void) {
    this.#path = path;
    this.#log = log;
    this.state = state;
    this.#snapshot = () => state;
  }

  /** @throws Error when another Portainer has the directory, or the file is there and cannot be read */
  static async open(directory: string, log: (line: string) => void): Promise<Store> {
    await Deno.mkdir(directory, { recursive: true, mode: 0o700 });
    await lock(directory);
    const path = join(directory, "state.json");
    try {
      return new Store(path, JSON.parse(await Deno.readTextFile(path)) as State, log);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) {
        throw new Error(`${path} cannot be read: ${(error as Error).message}`);
      }
      return new Store(path, newState(), log);
    }
  }

  /** Says how the present state is gathered. */
  gather(snapshot: () => State): void {
    this.#snapshot = snapshot;
  }

  /** Something changed that is to be on disk soon. */
  changed(): void {
    this.#timer ??= setTimeout(() => {
      try {
        this.save();
      } catch (error) {
        this.#log(`state not written: ${(error as Error).message}`);
      }
    }, WRITE_EVERY_MS);
  }

  /** Writes the state now: what was accepted is on disk before it is answered. */
  save(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    const next = `${this.#path}.next`;
    const file = Deno.openSync(next, { write: true, create: true, truncate: true, mode: 0o600 });
    try {
      const bytes = new TextEncoder().encode(JSON.stringify(this.#snapshot()));
      for (let at = 0; at < bytes.length;) at += file.writeSync(bytes.subarray(at));
      file.syncDataSync();
    } finally {
      file.close();
    }
    Deno.renameSync(next, this.#path);
  }
}
