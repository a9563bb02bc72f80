import { digest } from "./ids.ts";
import { noSuchImage } from "./errors.ts";

/** An image that this engine can run: all of them are the demo agent, under the names that agents are deployed with. */
export interface Image {
  id: string;
  tags: string[];
  /** Seconds since the epoch. */
  created: number;
  /** Bytes of the program. */
  size: number;
  /** The port that the program listens on unless `PORT` says another. */
  port: number;
  /** How to run it, before any command of the container. */
  entrypoint: string[];
}

const REPOSITORIES = [
  "agent-launchpad/demo-agent",
  "elizaos/eliza",
  "ghcr.io/elizaos/eliza",
  "agent-launchpad/agent",
  "agentlaunchpad/agent",
];

const agentDirectory = new URL("../demo-agent/", import.meta.url);
const agentProgram = new URL("agent.ts", agentDirectory).pathname;

/**
 * Confined to loopback and its environment: an agent needs neither files nor other programs.
 * The configuration of this repository is left alone, because looking for it costs start time.
 */
const AGENT_COMMAND = [
  Deno.execPath(),
  "run",
  "--quiet",
  "--no-config",
  "--no-lock",
  "--no-npm",
  "--no-remote",
  "--no-prompt",
  "--allow-net=127.0.0.1",
  "--allow-env",
  decodeURIComponent(agentProgram),
];

/** `name`, `name:tag` and `docker.io/name` are the same image to Docker. */
export function splitReference(reference: string): { repository: string; tag: string } {
  const bare = reference.replace(/^(docker\.io|index\.docker\.io)\//, "").replace(/^library\//, "");
  const [name = "", pinned] = bare.split("@");
  const colon = name.lastIndexOf(":");
  if (colon > name.lastIndexOf("/")) {
    return { repository: name.slice(0, colon), tag: name.slice(colon + 1) };
  }
  return { repository: name, tag: pinned ?? "latest" };
}

/** The images of an engine. */
export class Images {
  #image: Image;

  private constructor(image: Image) {
    this.#image = image;
  }

  static async load(): Promise<Images> {
    let source = "";
    let created = 0;
    for (const file of ["agent.ts", "health.ts", "log.ts"]) {
      source += await Deno.readTextFile(new URL(file, agentDirectory));
      const { mtime } = await Deno.stat(new URL(file, agentDirectory));
      created = Math.max(created, Math.floor((mtime?.getTime() ?? 0) / 1000));
    }
    return new Images({
      id: `sha256:${await digest(source)}`,
      tags: REPOSITORIES.map((name) => `${name}:latest`),
      created,
      size: new TextEncoder().encode(source).length,
      port: 3000,
      entrypoint: AGENT_COMMAND,
    });
  }

  list(): Image[] {
    return [this.#image];
  }

  /** Any tag of a known repository, or the image's id. */
  find(reference: string): Image | null {
    const { repository } = splitReference(reference);
    const hex = this.#image.id.slice("sha256:".length);
    const isId = /^(sha256:)?[0-9a-f]{12,64}$/.test(reference) &&
      hex.startsWith(reference.replace("sha256:", ""));
    return isId || REPOSITORIES.includes(repository) ? this.#image : null;
  }

  /** @throws DockerError 404 in Docker's words */
  get(reference: string): Image {
    const image = this.find(reference);
    if (!image) {
      const { repository, tag } = splitReference(reference);
      throw noSuchImage(`${repository}:${tag}`);
    }
    return image;
  }
}
