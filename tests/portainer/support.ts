import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll } from "vitest";
import { freePorts } from "../../scripts/free-ports.ts";
import { denoCommand, root } from "../support/deno.ts";

export const apiKey = "ptr_test-key-of-the-local-portainer";
export const swarmEndpoint = 1;
export const standaloneEndpoint = 2;

export interface Answer<T> {
  status: number;
  body: T;
}

/** One of Docker's frames. */
export interface Frame {
  stream: 1 | 2;
  text: string;
}

/** A local Portainer of the test's own, as a process of its own. */
export class TestPortainer {
  readonly #directory: string;
  readonly #port: number;
  #child!: ChildProcess;
  /** Everything that it printed. */
  output = "";

  private constructor(directory: string, port: number) {
    this.#directory = directory;
    this.#port = port;
  }

  static async start(): Promise<TestPortainer> {
    const directory = await mkdtemp(path.join(tmpdir(), "agent-launchpad-portainer-"));
    const [port] = await freePorts(1);
    const portainer = new TestPortainer(directory, port!);
    await portainer.launch();
    return portainer;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  get pid(): number {
    return this.#child.pid!;
  }

  async launch(): Promise<void> {
    const { command, args } = denoCommand();
    this.#child = spawn(
      command,
      [...args, "run", "-A", "--quiet", path.join(root, "scripts", "local", "portainer.ts")],
      {
        cwd: root,
        stdio: ["pipe", "pipe", "pipe"],
        env: {
          ...process.env,
          PORTAINER_PORT: String(this.#port),
          PORTAINER_API_KEY: apiKey,
          PORTAINER_STATE_DIR: this.#directory,
          PORTAINER_FAULTS: "1",
        },
      },
    );
    const child = this.#child;
    child.stderr!.on("data", (chunk) => this.output += chunk);
    await new Promise<void>((resolve, reject) => {
      child.stdout!.on("data", (chunk) => {
        this.output += chunk;
        if (String(chunk).includes("listening")) resolve();
      });
      child.once("exit", () => reject(new Error(`Portainer did not start: ${this.output}`)));
    });
  }

  /** The words of a second one on the same port or in the same directory, and its exit code. */
  async second(same: "port" | "directory"): Promise<{ code: number; words: string }> {
    const { command, args } = denoCommand();
    const [port] = await freePorts(1);
    const other = path.join(tmpdir(), `agent-launchpad-portainer-${port}`);
    const child = spawn(
      command,
      [...args, "run", "-A", "--quiet", path.join(root, "scripts", "local", "portainer.ts")],
      {
        cwd: root,
        stdio: ["pipe", "ignore", "pipe"],
        env: {
          ...process.env,
          PORTAINER_PORT: String(same === "port" ? this.#port : port),
          PORTAINER_API_KEY: apiKey,
          PORTAINER_STATE_DIR: same === "directory" ? this.#directory : other,
        },
      },
    );
    let words = "";
    child.stderr.on("data", (chunk) => words += chunk);
    // Not "exit", which may come before its last words.
    const [code] = await once(child, "close") as [number];
    await rm(other, { recursive: true, force: true });
    return { code, words };
  }

  async #exited(): Promise<void> {
    const child = this.#child;
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  }

  /** Ends the process as nobody wishes it. */
  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#exited();
  }

  /** Ends it as its parent does, by closing its standard input. */
  async close(): Promise<void> {
    this.#child.stdin!.end();
    await this.#exited();
  }

  async discard(): Promise<void> {
    await this.close();
    await rm(this.#directory, { recursive: true, force: true });
  }

  fetch(method: string, target: string, body?: unknown, init: RequestInit = {}): Promise<Response> {
    return fetch(this.url + target, {
      method,
      headers: { "x-api-key": apiKey, "content-type": "application/json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      ...init,
    });
  }

  async call<T = Record<string, unknown>>(
    method: string,
    target: string,
    body?: unknown,
  ): Promise<Answer<T>> {
    const response = await this.fetch(method, target, body);
    const text = await response.text();
    return { status: response.status, body: (text ? JSON.parse(text) : null) as T };
  }

  docker<T = Record<string, unknown>>(
    endpoint: number,
    method: string,
    target: string,
    body?: unknown,
  ): Promise<Answer<T>> {
    return this.call<T>(method, `/api/endpoints/${endpoint}/docker${target}`, body);
  }

  createStack(
    endpoint: number,
    name: string,
    file: string,
    env: Record<string, string> = {},
  ): Promise<Answer<Stack>> {
    const type = endpoint === swarmEndpoint ? "swarm" : "standalone";
    return this.call("POST", `/api/stacks/create/${type}/string?endpointId=${endpoint}`, {
      Name: name,
      StackFileContent: file,
      Env: Object.entries(env).map(([name, value]) => ({ name, value })),
      ...(type === "swarm" ? { SwarmID: "swarm" } : {}),
    });
  }

  async containers(endpoint: number, stack: string): Promise<ContainerSummary[]> {
    const label = endpoint === swarmEndpoint
      ? "com.docker.stack.namespace"
      : "com.docker.compose.project";
    const filters = encodeURIComponent(JSON.stringify({ label: [`${label}=${stack}`] }));
    const answer = await this.docker<ContainerSummary[]>(
      endpoint,
      "GET",
      `/containers/json?all=1&filters=${filters}`,
    );
    return answer.body;
  }

  async inspect(endpoint: number, id: string): Promise<ContainerDetails> {
    return (await this.docker<ContainerDetails>(endpoint, "GET", `/containers/${id}/json`)).body;
  }

  async service(stack: string): Promise<Service> {
    const services = await this.docker<Service[]>(swarmEndpoint, "GET", "/services");
    return services.body.find(({ Spec }) => Spec.Name === `${stack}_agent`)!;
  }

  /** Sends the service's specification back with something changed. */
  async updateService(
    stack: string,
    change: (spec: ServiceSpec) => void,
  ): Promise<Answer<unknown>> {
    const service = await this.service(stack);
    change(service.Spec);
    return await this.docker(
      swarmEndpoint,
      "POST",
      `/services/${service.ID}/update?version=${service.Version.Index}`,
      service.Spec,
    );
  }

  async tasks(stack: string): Promise<Task[]> {
    const filters = encodeURIComponent(JSON.stringify({ service: [`${stack}_agent`] }));
    return (await this.docker<Task[]>(swarmEndpoint, "GET", `/tasks?filters=${filters}`)).body;
  }

  async runningTasks(stack: string): Promise<Task[]> {
    return (await this.tasks(stack)).filter(({ Status }) => Status.State === "running");
  }

  async logs(endpoint: number, id: string, query: string): Promise<Frame[]> {
    const response = await this.fetch(
      "GET",
      `/api/endpoints/${endpoint}/docker/containers/${id}/logs?stdout=1&stderr=1&${query}`,
    );
    return demultiplex(new Uint8Array(await response.arrayBuffer()));
  }
}

export interface Stack {
  Id: number;
  Name: string;
  Status: number;
  Type: number;
  Env: { name: string; value: string }[] | null;
  message?: string;
  details?: string;
}

export interface ContainerSummary {
  Id: string;
  Names: string[];
  State: string;
  Status: string;
  Ports: { PrivatePort: number; PublicPort?: number }[];
}

export interface ContainerDetails {
  Id: string;
  RestartCount: number;
  State: {
    Status: string;
    Running: boolean;
    Pid: number;
    ExitCode: number;
    OOMKilled: boolean;
    Error: string;
    StartedAt: string;
    Health?: {
      Status: string;
      FailingStreak: number;
      Log: { Start: string; End: string; ExitCode: number; Output: string }[];
    };
  };
}

export interface ServiceSpec {
  Name: string;
  TaskTemplate: { ForceUpdate: number; ContainerSpec: { Image: string; Env: string[] } };
  Mode: { Replicated: { Replicas: number } };
}

export interface Service {
  ID: string;
  Version: { Index: number };
  Spec: ServiceSpec;
  Endpoint: { Ports?: { TargetPort: number; PublishedPort: number }[] };
  UpdateStatus?: { State: string; Message: string };
}

export interface Task {
  ID: string;
  Slot: number;
  DesiredState: string;
  Status: {
    State: string;
    Err?: string;
    Message: string;
    ContainerStatus?: { ContainerID: string; PID: number; ExitCode: number };
    PortStatus: { Ports?: { PublishedPort: number }[] };
  };
}

/** A Portainer for the tests of one file. */
export function usePortainer(): () => TestPortainer {
  let portainer: TestPortainer;
  beforeAll(async () => {
    portainer = await TestPortainer.start();
  });
  afterAll(() => portainer.discard());
  return () => portainer;
}

/** @throws Error when the bytes are not whole frames */
export function demultiplex(bytes: Uint8Array): Frame[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const frames: Frame[] = [];
  for (let at = 0; at < bytes.length;) {
    const length = view.getUint32(at + 4);
    const stream = bytes[at];
    const isWhole = at + 8 + length <= bytes.length;
    if ((stream !== 1 && stream !== 2) || bytes[at + 1] !== 0 || !isWhole) {
      throw new Error(`no frame at byte ${at}`);
    }
    frames.push({
      stream,
      text: new TextDecoder().decode(bytes.subarray(at + 8, at + 8 + length)),
    });
    at += 8 + length;
  }
  return frames;
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Lines that go under a service at that depth of a stack file. */
const indent = (lines: string, depth: number) =>
  lines.split("\n").filter(Boolean).map((line) => " ".repeat(depth) + line).join("\n");

/** For containers that are to fail it. */
export const strictHealthcheck = `healthcheck:
  test: ["CMD", "wget", "-qO-", "http://127.0.0.1:3000/health"]
  interval: 200ms
  timeout: 30s
  retries: 2`;

/** For containers that are to become healthy, however long they take on a busy machine. */
export const healthcheck = `${strictHealthcheck}
  start_period: 600s
  start_interval: 200ms`;

/** A stack file with one service, `agent`. */
export function stackFile(options: {
  image?: string;
  environment?: Record<string, string>;
  service?: string;
  deploy?: string;
} = {}): string {
  const environment = Object.entries(options.environment ?? {})
    .map(([name, value]) => `${name}: ${JSON.stringify(value)}`).join("\n");
  return [
    "services:",
    "  agent:",
    `    image: ${options.image ?? "elizaos/eliza:latest"}`,
    ...(environment ? ["    environment:", indent(environment, 6)] : []),
    ...(options.service ? [indent(options.service, 4)] : []),
    ...(options.deploy ? ["    deploy:", indent(options.deploy, 6)] : []),
    "",
  ].join("\n");
}
