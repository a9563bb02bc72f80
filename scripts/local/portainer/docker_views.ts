import type { Container } from "./container.ts";
import type { Engine, Network } from "./engine.ts";
import type { Image } from "./images.ts";
import { HOST } from "./ports.ts";
import { isChecked } from "./health.ts";
import { rfc3339 } from "./units.ts";

/** "2 minutes", as Docker words spans of time. */
function spanText(milliseconds: number): string {
  const seconds = Math.floor(milliseconds / 1000);
  if (seconds < 1) return "Less than a second";
  if (seconds === 1) return "1 second";
  if (seconds < 60) return `${seconds} seconds`;
  const minutes = Math.floor(seconds / 60);
  if (minutes === 1) return "About a minute";
  if (minutes < 60) return `${minutes} minutes`;
  const hours = Math.floor(minutes / 60 + 0.5);
  if (hours === 1) return "About an hour";
  if (hours < 48) return `${hours} hours`;
  const days = Math.floor(hours / 24);
  return days < 14 ? `${days} days` : `${Math.floor(days / 7)} weeks`;
}

function statusText({ state }: Container): string {
  const since = (time: string) => spanText(Date.now() - Date.parse(time));
  switch (state.status) {
    case "created":
      return "Created";
    case "paused":
      return `Up ${since(state.startedAt)} (Paused)`;
    case "restarting":
      return `Restarting (${state.exitCode}) ${since(state.finishedAt)} ago`;
    case "running": {
      const health = state.health?.Status;
      const suffix = health ? ` (${health === "starting" ? "health: starting" : health})` : "";
      return `Up ${since(state.startedAt)}${suffix}`;
    }
    default:
      return `Exited (${state.exitCode}) ${since(state.finishedAt)} ago`;
  }
}

function commandOf({ config }: Container): string[] {
  return [...(config.entrypoint ?? ["demo-agent"]), ...config.command];
}

function networksOf(engine: Engine, { config }: Container) {
  return Object.fromEntries(config.networks.map((name) => [name, {
    IPAMConfig: null,
    Links: null,
    Aliases: null,
    NetworkID: engine.networks().find((network) => network.name === name)?.id ?? "",
    EndpointID: "",
    Gateway: "",
    IPAddress: "",
    IPPrefixLen: 0,
    IPv6Gateway: "",
    GlobalIPv6Address: "",
    GlobalIPv6PrefixLen: 0,
    MacAddress: "",
    DriverOpts: null,
  }]));
}

function mountsOf({ config }: Container) {
  return config.mounts.map((mount) => ({
    Type: mount.type,
    ...(mount.type === "volume" ? { Name: mount.source, Driver: "local" } : {}),
    Source: mount.source,
    Destination: mount.target,
    Mode: "",
    RW: !mount.readOnly,
    Propagation: "",
  }));
}

/** An entry of `GET /containers/json`. */
export function containerSummary(engine: Engine, container: Container) {
  const { config, state } = container;
  return {
    Id: config.id,
    Names: [`/${config.name}`],
    Image: config.image,
    ImageID: config.imageId,
    Command: commandOf(container).join(" "),
    Created: Math.floor(config.created / 1000),
    Ports: config.ports.map((port, index) => {
      const published = container.isRunning ? state.publishedPorts[index] : null;
      return {
        ...(published ? { IP: HOST } : {}),
        PrivatePort: port.target,
        ...(published ? { PublicPort: published } : {}),
        Type: port.protocol,
      };
    }),
    Labels: config.labels,
    State: state.status,
    Status: statusText(container),
    HostConfig: { NetworkMode: config.networks[0] ?? "default" },
    NetworkSettings: { Networks: networksOf(engine, container) },
    Mounts: mountsOf(container),
  };
}

/** `GET /containers/{id}/json`. */
export function containerDetails(engine: Engine, container: Container) {
  const { config, state } = container;
  const exposed = Object.fromEntries(
    config.ports.map(({ target, protocol }) => [`${target}/${protocol}`, {}]),
  );
  const binding = (published: number, ip: string) => [
    { HostIp: ip, HostPort: published ? String(published) : "" },
  ];
  const asked: Record<string, unknown> = {};
  const bound: Record<string, unknown> = {};
  config.ports.forEach(({ target, protocol, published }, index) => {
    const actual = container.isRunning ? state.publishedPorts[index] ?? null : null;
    if (published !== null) asked[`${target}/${protocol}`] = binding(published, "");
    bound[`${target}/${protocol}`] = actual === null ? null : binding(actual, HOST);
  });
  return {
    Id: config.id,
    Created: rfc3339(config.created),
    Path: commandOf(container)[0],
    Args: commandOf(container).slice(1),
    State: {
      Status: state.status,
      Running: container.isRunning || state.status === "restarting",
      Paused: state.status === "paused",
      Restarting: state.status === "restarting",
      OOMKilled: state.oomKilled,
      Dead: state.status === "dead",
      Pid: state.pid,
      ExitCode: state.exitCode,
      Error: state.error,
      StartedAt: state.startedAt,
      FinishedAt: state.finishedAt,
      ...(state.health && isChecked(config.healthcheck) ? { Health: state.health } : {}),
    },
    Image: config.imageId,
    Name: `/${config.name}`,
    RestartCount: state.restartCount,
    Driver: "overlay2",
    Platform: "linux",
    HostConfig: {
      NetworkMode: config.networks[0] ?? "default",
      PortBindings: asked,
      RestartPolicy: config.restart,
      AutoRemove: false,
      Memory: config.memory,
      NanoCpus: config.nanoCpus,
      LogConfig: { Type: "json-file", Config: {} },
      Privileged: false,
      Binds: null,
    },
    Mounts: mountsOf(container),
    Config: {
      Hostname: config.hostname,
      User: "",
      Tty: false,
      OpenStdin: false,
      ExposedPorts: exposed,
      Env: config.env,
      Cmd: config.command.length > 0 ? config.command : null,
      Entrypoint: config.entrypoint,
      Image: config.image,
      Labels: config.labels,
      StopSignal: config.stopSignal,
      StopTimeout: Math.round(config.stopGraceMs / 1000),
      ...(config.healthcheck ? { Healthcheck: config.healthcheck } : {}),
    },
    NetworkSettings: { Ports: bound, Networks: networksOf(engine, container) },
  };
}

/** An entry of `GET /images/json`. */
export function imageSummary(image: Image) {
  return {
    Id: image.id,
    ParentId: "",
    RepoTags: image.tags,
    RepoDigests: [],
    Created: image.created,
    Size: image.size,
    SharedSize: -1,
    VirtualSize: image.size,
    Labels: null,
    Containers: -1,
  };
}

/** `GET /networks/{id}`, and with fewer facts an entry of the list. */
export function networkDetails(network: Network) {
  return {
    Name: network.name,
    Id: network.id,
    Created: rfc3339(network.created),
    Scope: network.scope,
    Driver: network.driver,
    EnableIPv6: false,
    IPAM: { Driver: "default", Options: null, Config: [] },
    Internal: false,
    Attachable: false,
    Ingress: network.name === "ingress",
    Containers: {},
    Options: network.options ?? {},
    Labels: network.labels,
  };
}
