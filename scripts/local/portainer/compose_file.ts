import { parseDocument } from "yaml";
import { interpolate } from "./interpolate.ts";
import {
  booleanOf,
  bytesOf,
  durationOf,
  listOf,
  mapOf,
  numberOf,
  stringsOf,
  textOf,
} from "./compose_values.ts";
import type { Healthcheck, Mount, PortMapping, RestartPolicy } from "./types.ts";

/** A Compose file after interpolation, reduced to what this engine acts on. */
export interface ComposeFile {
  services: ComposeService[];
  networks: ComposeResource[];
  volumes: ComposeResource[];
}

/** A network or volume of the file; `name` is set when the file fixes the real name. */
export interface ComposeResource {
  key: string;
  name: string | null;
  external: boolean;
  driver: string | null;
  driverOptions: Record<string, string> | null;
  labels: Record<string, string>;
}

export interface ComposeService {
  name: string;
  image: string;
  containerName: string | null;
  command: string[];
  entrypoint: string[] | null;
  environment: Record<string, string>;
  labels: Record<string, string>;
  ports: PortMapping[];
  /** Null when the file says nothing, so that the image's own check holds. */
  healthcheck: Healthcheck | null;
  restart: RestartPolicy;
  memory: number;
  nanoCpus: number;
  networks: string[];
  mounts: Mount[];
  /** Nanoseconds; null for Docker's ten seconds. */
  stopGrace: number | null;
  stopSignal: string;
  hostname: string | null;
  dependsOn: string[];
  deploy: ComposeDeploy;
}

export interface ComposeDeploy {
  mode: "replicated" | "global";
  endpointMode: "vip" | "dnsrr";
  replicas: number;
  labels: Record<string, string>;
  reservedMemory: number;
  reservedNanoCpus: number;
  restartPolicy: SwarmRestart | null;
  update: UpdateConfig | null;
  rollback: UpdateConfig | null;
}

/** Swarm's restart policy; times in nanoseconds. */
export interface SwarmRestart {
  Condition: "any" | "on-failure" | "none";
  Delay: number | null;
  MaxAttempts: number;
  Window: number | null;
}

/** Swarm's update configuration; times in nanoseconds. */
export interface UpdateConfig {
  Parallelism: number;
  Delay: number;
  FailureAction: "pause" | "continue" | "rollback";
  Monitor: number | null;
  MaxFailureRatio: number;
  Order: "stop-first" | "start-first";
}

/** The text is no YAML, or no mapping at all. */
export class InvalidStackFile extends Error {}

const SERVICE_KEYS = new Set(
  ("annotations attach build cap_add cap_drop command configs container_name cpu_shares cpus " +
    "depends_on deploy dns entrypoint env_file environment expose extra_hosts healthcheck hostname " +
    "image init labels logging mem_limit mem_reservation memswap_limit networks pid platform ports " +
    "privileged profiles pull_policy read_only restart scale secrets security_opt shm_size stdin_open " +
    "stop_grace_period stop_signal sysctls tmpfs tty ulimits user volumes working_dir").split(" "),
);

function walk(value: unknown, env: Record<string, string>, path: string): unknown {
  if (typeof value === "string") {
    try {
      return interpolate(value, env);
    } catch (error) {
      throw new Error(`error while interpolating ${path}: ${(error as Error).message}`);
    }
  }
  if (Array.isArray(value)) return value.map((item) => walk(item, env, `${path}.[]`));
  if (typeof value === "object" && value !== null) {
    return Object.fromEntries(
      Object.entries(value).map(([key, item]) => [
        key,
        walk(item, env, path ? `${path}.${key}` : key),
      ]),
    );
  }
  return value;
}

/**
 * Reads a Compose file with the stack's variables.
 * @throws InvalidStackFile when it is no YAML mapping
 * @throws Error in Compose's words when its content is not as Compose allows
 */
export function parseComposeFile(text: string, env: Record<string, string>): ComposeFile {
  const document = parseDocument(text, { merge: true, uniqueKeys: true, prettyErrors: true });
  const fault = document.errors[0];
  if (fault) throw new InvalidStackFile(fault.message);
  const raw: unknown = document.toJS({ maxAliasCount: 100 });
  if (typeof raw !== "object" || raw === null || Array.isArray(raw)) {
    throw new InvalidStackFile("Top-level object must be a mapping");
  }
  const root = walk(raw, env, "") as Record<string, unknown>;
  for (const key of Object.keys(root)) {
    const known = ["version", "name", "services", "networks", "volumes", "secrets", "configs"];
    if (!known.includes(key) && !key.startsWith("x-")) {
      throw new Error(`validating stack file: additional properties '${key}' not allowed`);
    }
  }
  const services = Object.entries(mapOf(root["services"], "services"));
  if (services.length === 0) throw new Error("no service selected");
  const networks = resources(root["networks"], "networks");
  const volumes = resources(root["volumes"], "volumes");
  const file = {
    services: services.map(([name, value]) => readService(name, value, env)),
    networks,
    volumes,
  };
  for (const service of file.services) {
    for (const network of service.networks) {
      if (network !== "default" && !networks.some((known) => known.key === network)) {
        throw new Error(
          `service "${service.name}" refers to undefined network ${network}: invalid compose project`,
        );
      }
    }
    for (const mount of service.mounts) {
      if (
        mount.type === "volume" && mount.source &&
        !volumes.some((known) => known.key === mount.source)
      ) {
        throw new Error(
          `service "${service.name}" refers to undefined volume ${mount.source}: invalid compose project`,
        );
      }
    }
    for (const other of service.dependsOn) {
      if (!file.services.some((known) => known.name === other)) {
        throw new Error(
          `service "${service.name}" depends on undefined service "${other}": invalid compose project`,
        );
      }
    }
  }
  return file;
}

function resources(value: unknown, path: string): ComposeResource[] {
  return Object.entries(mapOf(value, path)).map(([key, body]) => {
    const map = mapOf(body, `${path}.${key}`);
    return {
      key,
      name: map["name"] === undefined ? null : textOf(map["name"], `${path}.${key}.name`),
      external: map["external"] !== undefined &&
        (typeof map["external"] === "object" || booleanOf(map["external"], `${path}.${key}`)),
      driver: map["driver"] === undefined ? null : textOf(map["driver"], `${path}.${key}.driver`),
      driverOptions: map["driver_opts"] === undefined
        ? null
        : stringsOf(map["driver_opts"], `${path}.${key}.driver_opts`),
      labels: stringsOf(map["labels"], `${path}.${key}.labels`),
    };
  });
}

function readService(name: string, value: unknown, env: Record<string, string>): ComposeService {
  const path = `services.${name}`;
  const map = mapOf(value, path);
  for (const key of Object.keys(map)) {
    if (!SERVICE_KEYS.has(key) && !key.startsWith("x-")) {
      throw new Error(
        `validating stack file: ${path} additional properties '${key}' not allowed`,
      );
    }
  }
  if (!map["image"]) {
    throw new Error(`service "${name}" has neither an image nor a build context specified`);
  }
  const deploy = mapOf(map["deploy"], `${path}.deploy`);
  const limits = mapOf(mapOf(deploy["resources"], `${path}.deploy.resources`)["limits"], path);
  const reserved = mapOf(
    mapOf(deploy["resources"], `${path}.deploy.resources`)["reservations"],
    path,
  );
  const replicas = deploy["replicas"] ?? map["scale"];
  return {
    name,
    image: textOf(map["image"], `${path}.image`),
    containerName: map["container_name"] === undefined
      ? null
      : textOf(map["container_name"], `${path}.container_name`),
    command: words(map["command"], `${path}.command`) ?? [],
    entrypoint: words(map["entrypoint"], `${path}.entrypoint`),
    environment: {
      ...(envFiles(map["env_file"], path).includes("stack.env") ? env : {}),
      ...environmentOf(map["environment"], `${path}.environment`, env),
    },
    labels: stringsOf(map["labels"], `${path}.labels`),
    ports: listOf(map["ports"], `${path}.ports`).flatMap((port) => readPort(port, `${path}.ports`)),
    healthcheck: readHealthcheck(map["healthcheck"], `${path}.healthcheck`),
    restart: readRestart(map["restart"], `${path}.restart`),
    memory: bytesOf(limits["memory"] ?? map["mem_limit"], `${path}.mem_limit`),
    nanoCpus: Math.round(numberOf(limits["cpus"] ?? map["cpus"] ?? 0, `${path}.cpus`) * 1e9),
    networks: networkNames(map["networks"], `${path}.networks`),
    mounts: listOf(map["volumes"], `${path}.volumes`).map((mount) =>
      readMount(mount, `${path}.volumes`)
    ),
    stopGrace: map["stop_grace_period"] === undefined
      ? null
      : durationOf(map["stop_grace_period"], `${path}.stop_grace_period`),
    stopSignal: map["stop_signal"] === undefined
      ? "SIGTERM"
      : textOf(map["stop_signal"], `${path}.stop_signal`),
    hostname: map["hostname"] === undefined ? null : textOf(map["hostname"], `${path}.hostname`),
    dependsOn: Array.isArray(map["depends_on"])
      ? map["depends_on"].map((item) => textOf(item, `${path}.depends_on`))
      : Object.keys(mapOf(map["depends_on"], `${path}.depends_on`)),
    deploy: {
      mode: deploy["mode"] === "global" ? "global" : "replicated",
      endpointMode: deploy["endpoint_mode"] === "dnsrr" ? "dnsrr" : "vip",
      replicas: replicas === undefined ? 1 : numberOf(replicas, `${path}.deploy.replicas`),
      labels: stringsOf(deploy["labels"], `${path}.deploy.labels`),
      reservedMemory: bytesOf(reserved["memory"], `${path}.deploy.resources`),
      reservedNanoCpus: Math.round(numberOf(reserved["cpus"] ?? 0, path) * 1e9),
      restartPolicy: readSwarmRestart(deploy["restart_policy"], `${path}.deploy.restart_policy`),
      update: readUpdate(deploy["update_config"], `${path}.deploy.update_config`),
      rollback: readUpdate(deploy["rollback_config"], `${path}.deploy.rollback_config`),
    },
  };
}

/** A command as a list, or as a line that is cut the way a shell cuts it. */
function words(value: unknown, path: string): string[] | null {
  if (value === undefined || value === null) return null;
  if (Array.isArray(value)) return value.map((item) => textOf(item, path));
  const found = textOf(value, path).matchAll(/"((?:\\.|[^"\\])*)"|'([^']*)'|((?:\\.|[^\s"'\\])+)/g);
  return [...found].map(([, double, single, bare]) =>
    single ?? (double ?? bare ?? "").replace(/\\(.)/g, "$1")
  );
}

function envFiles(value: unknown, path: string): string[] {
  if (value === undefined) return [];
  if (typeof value === "string") return [value];
  return listOf(value, `${path}.env_file`).map((item) =>
    typeof item === "string"
      ? item
      : textOf(mapOf(item, `${path}.env_file`)["path"], `${path}.env_file`)
  );
}

/** An entry without a value takes the stack's variable of that name, and is left out when there is none. */
function environmentOf(value: unknown, path: string, env: Record<string, string>) {
  const result: Record<string, string> = {};
  const entries: [string, string | null][] = Array.isArray(value)
    ? value.map((item) => {
      const text = textOf(item, path);
      const at = text.indexOf("=");
      return at < 0 ? [text, null] : [text.slice(0, at), text.slice(at + 1)];
    })
    : Object.entries(mapOf(value, path)).map(([key, item]) => [
      key,
      item === null ? null : textOf(item, `${path}.${key}`),
    ]);
  for (const [key, item] of entries) {
    const resolved = item ?? env[key];
    if (resolved !== undefined) result[key] = resolved;
  }
  return result;
}

function networkNames(value: unknown, path: string): string[] {
  if (value === undefined) return ["default"];
  return Array.isArray(value)
    ? value.map((item) => textOf(item, path))
    : Object.keys(mapOf(value, path));
}

function portRange(text: string, path: string): number[] {
  const match = /^(\d+)(?:-(\d+))?$/.exec(text);
  const first = Number(match?.[1]);
  const last = Number(match?.[2] ?? match?.[1]);
  if (!match || first > last || last > 65535) throw new Error(`${path}: invalid port "${text}"`);
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}

function readPort(value: unknown, path: string): PortMapping[] {
  if (typeof value === "object" && value !== null) {
    const map = mapOf(value, path);
    const published = map["published"];
    return [{
      target: portRange(textOf(map["target"], path), path)[0]!,
      published: published === undefined || published === ""
        ? 0
        : portRange(textOf(published, path), path)[0]!,
      protocol: map["protocol"] === "udp" ? "udp" : "tcp",
      ...(map["mode"] === "host" ? { mode: "host" as const } : {}),
    }];
  }
  const [text = "", protocol = "tcp"] = textOf(value, path).split("/");
  if (protocol !== "tcp" && protocol !== "udp") {
    throw new Error(`${path}: invalid proto: ${protocol}`);
  }
  // An address in front (127.0.0.1:8080:80) changes nothing: everything binds loopback here.
  const parts = text.split(":");
  const targets = portRange(parts.at(-1)!, path);
  const published = parts.length > 1 && parts.at(-2) !== "" ? portRange(parts.at(-2)!, path) : [];
  if (published.length > 0 && published.length !== targets.length) {
    throw new Error(`${path}: invalid ranges specified for container and host ports`);
  }
  return targets.map((target, index) => ({ target, published: published[index] ?? 0, protocol }));
}

function readHealthcheck(value: unknown, path: string): Healthcheck | null {
  if (value === undefined || value === null) return null;
  const map = mapOf(value, path);
  const time = (key: string) => map[key] === undefined ? 0 : durationOf(map[key], `${path}.${key}`);
  const test = map["test"];
  let command: string[] = [];
  if (map["disable"] !== undefined && booleanOf(map["disable"], path)) command = ["NONE"];
  else if (typeof test === "string") command = ["CMD-SHELL", test];
  else command = listOf(test, `${path}.test`).map((item) => textOf(item, `${path}.test`));
  if (command.length > 0 && !["CMD", "CMD-SHELL", "NONE"].includes(command[0]!)) {
    throw new Error(`${path}.test must start either by "CMD", "CMD-SHELL" or "NONE"`);
  }
  return {
    Test: command,
    Interval: time("interval"),
    Timeout: time("timeout"),
    StartPeriod: time("start_period"),
    StartInterval: time("start_interval"),
    Retries: map["retries"] === undefined ? 0 : numberOf(map["retries"], `${path}.retries`),
  };
}

function readRestart(value: unknown, path: string): RestartPolicy {
  if (value === undefined || value === false) return { Name: "no", MaximumRetryCount: 0 };
  const [name, count] = textOf(value, path).split(":");
  if (!["no", "always", "on-failure", "unless-stopped"].includes(name!)) {
    throw new Error(`${path}: invalid restart policy: ${name}`);
  }
  return { Name: name as RestartPolicy["Name"], MaximumRetryCount: Number(count ?? 0) };
}

function readMount(value: unknown, path: string): Mount {
  if (typeof value === "object" && value !== null) {
    const map = mapOf(value, path);
    const type = textOf(map["type"] ?? "volume", path);
    if (type !== "volume" && type !== "bind" && type !== "tmpfs") {
      throw new Error(`${path}: unsupported mount type "${type}"`);
    }
    return {
      type,
      source: map["source"] === undefined ? "" : textOf(map["source"], path),
      target: textOf(map["target"], path),
      readOnly: map["read_only"] !== undefined && booleanOf(map["read_only"], path),
    };
  }
  const [source = "", target, mode = ""] = textOf(value, path).split(":");
  if (target === undefined) return { type: "volume", source: "", target: source, readOnly: false };
  return {
    type: /^[./~]/.test(source) ? "bind" : "volume",
    source,
    target,
    readOnly: mode.split(",").includes("ro"),
  };
}

function readSwarmRestart(value: unknown, path: string): SwarmRestart | null {
  if (value === undefined) return null;
  const map = mapOf(value, path);
  const condition = textOf(map["condition"] ?? "any", `${path}.condition`);
  if (condition !== "any" && condition !== "on-failure" && condition !== "none") {
    throw new Error(`${path}.condition: invalid value "${condition}"`);
  }
  return {
    Condition: condition,
    Delay: map["delay"] === undefined ? null : durationOf(map["delay"], `${path}.delay`),
    MaxAttempts: map["max_attempts"] === undefined
      ? 0
      : numberOf(map["max_attempts"], `${path}.max_attempts`),
    Window: map["window"] === undefined ? null : durationOf(map["window"], `${path}.window`),
  };
}

function readUpdate(value: unknown, path: string): UpdateConfig | null {
  if (value === undefined) return null;
  const map = mapOf(value, path);
  const action = textOf(map["failure_action"] ?? "pause", path);
  const order = textOf(map["order"] ?? "stop-first", path);
  if (action !== "pause" && action !== "continue" && action !== "rollback") {
    throw new Error(`${path}.failure_action: invalid value "${action}"`);
  }
  if (order !== "stop-first" && order !== "start-first") {
    throw new Error(`${path}.order: invalid value "${order}"`);
  }
  return {
    Parallelism: numberOf(map["parallelism"] ?? 1, `${path}.parallelism`),
    Delay: map["delay"] === undefined ? 0 : durationOf(map["delay"], `${path}.delay`),
    FailureAction: action,
    Monitor: map["monitor"] === undefined ? null : durationOf(map["monitor"], `${path}.monitor`),
    MaxFailureRatio: numberOf(map["max_failure_ratio"] ?? 0, `${path}.max_failure_ratio`),
    Order: order,
  };
}
