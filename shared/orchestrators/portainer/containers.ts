import { z } from "zod";
import { mapLimited } from "../concurrency.ts";
import { AGENT_LABEL } from "../stack-file.ts";
import { realTime } from "../timestamps.ts";
import type { ContainerHealth, ContainerState, ContainerStatus, ServicePort } from "../types.ts";
import type { PortainerApi } from "./api.ts";

const AT_ONCE = 8;

const listed = z.array(z.object({
  Id: z.string(),
  Created: z.number().default(0),
  State: z.string().default(""),
  Labels: z.record(z.string(), z.string()).nullish(),
}));

export type ListedContainer = z.output<typeof listed>[number];

const inspected = z.object({
  Id: z.string(),
  Name: z.string().default(""),
  RestartCount: z.number().default(0),
  State: z.object({
    Status: z.string(),
    OOMKilled: z.boolean().default(false),
    ExitCode: z.number().default(0),
    StartedAt: z.string().optional(),
    FinishedAt: z.string().optional(),
    Health: z.object({
      Status: z.string(),
      Log: z.array(z.object({
        Start: z.string().optional(),
        End: z.string().optional(),
        Output: z.string().optional(),
      })).nullish(),
    }).nullish(),
  }),
  Config: z.object({
    Image: z.string().default(""),
    Tty: z.boolean().default(false),
    Labels: z.record(z.string(), z.string()).nullish(),
  }),
  NetworkSettings: z.object({
    Ports: z.record(
      z.string(),
      z.array(z.object({ HostIp: z.string().default(""), HostPort: z.string() })).nullable(),
    ).nullish(),
  }).nullish(),
  HostConfig: z.object({
    NanoCpus: z.number().nullish(),
    CpuQuota: z.number().nullish(),
    CpuPeriod: z.number().nullish(),
    Memory: z.number().nullish(),
  }).nullish(),
});

export type InspectedContainer = z.output<typeof inspected>;

/** Every container of a stack, stopped ones too. */
export async function listContainers(
  api: PortainerApi,
  label: string,
  signal: AbortSignal,
): Promise<ListedContainer[]> {
  const { data } = await api.docker.json(
    { path: "/containers/json", query: { all: 1, filters: JSON.stringify({ label: [label] }) } },
    listed,
    signal,
  );
  return data ?? [];
}

/** One container, or null when it is gone. `node` is where it runs, for a Swarm behind Portainer's agent. */
export async function inspectContainer(
  api: PortainerApi,
  id: string,
  node: string | null,
  signal: AbortSignal,
): Promise<InspectedContainer | null> {
  const { data } = await api.docker.json(
    {
      path: `/containers/${encodeURIComponent(id)}/json`,
      headers: nodeHeader(node),
      accept: [404],
    },
    inspected,
    signal,
  );
  return data;
}

export async function inspectContainers(
  api: PortainerApi,
  containers: ListedContainer[],
  signal: AbortSignal,
): Promise<InspectedContainer[]> {
  const details = await mapLimited(
    containers,
    AT_ONCE,
    (container) => inspectContainer(api, container.Id, null, signal),
  );
  return details.filter((container) => container !== null);
}

export function nodeHeader(node: string | null): Record<string, string> {
  return node === null ? {} : { "x-portaineragent-target": node };
}

export function belongsTo(
  labels: Record<string, string> | null | undefined,
  agentId: string,
): boolean {
  return labels?.[AGENT_LABEL] === agentId;
}

export function toContainerState(container: InspectedContainer, name?: string): ContainerState {
  const { State: state, Config: config } = container;
  const status = toStatus(state.Status);
  const health = toHealth(state.Health?.Status);
  const last = state.Health?.Log?.at(-1);
  const ended = status === "exited" || status === "dead" || status === "restarting";
  return {
    id: container.Id,
    name: name ?? container.Name.replace(/^\//, ""),
    status,
    health,
    image: config.Image,
    startedAt: realTime(state.StartedAt),
    finishedAt: ended ? realTime(state.FinishedAt) : null,
    restartCount: container.RestartCount,
    exitCode: ended ? state.ExitCode : null,
    oomKilled: state.OOMKilled,
    healthOutput: health === null ? null : parseReport(last?.Output),
    healthDurationMs: health === null ? null : duration(last?.Start, last?.End),
    healthCheckedAt: health === null ? null : realTime(last?.End),
  };
}

/** Limits as the engine enforces them; zero stands for none. */
export function containerLimits(
  container: InspectedContainer,
): { cpu: number | null; memory: number | null } {
  const { NanoCpus, CpuQuota, CpuPeriod, Memory } = container.HostConfig ?? {};
  const cpu = NanoCpus
    ? NanoCpus / 1e9
    : CpuQuota && CpuQuota > 0
    ? CpuQuota / (CpuPeriod || 100_000)
    : null;
  return { cpu, memory: Memory || null };
}

/** The ports of each container under which it is reached from outside, in the containers' order. */
export function publishedPorts(containers: InspectedContainer[]): ServicePort[] {
  const ports = new Map<number, ServicePort>();
  for (const container of containers) {
    for (const [name, bindings] of Object.entries(container.NetworkSettings?.Ports ?? {})) {
      const [target = "", protocol] = name.split("/");
      // Each address family has its own binding, and with random ports its own number: the second is left out.
      const binding = bindings?.find(({ HostIp }) => !HostIp.includes(":")) ?? bindings?.[0];
      if (!binding) continue;
      const published = Number(binding.HostPort);
      ports.set(published, {
        published,
        target: Number(target),
        protocol: protocol === "udp" ? "udp" : "tcp",
      });
    }
  }
  return [...ports.values()];
}

function toStatus(status: string): ContainerStatus {
  switch (status) {
    case "running":
    case "restarting":
    case "exited":
    case "dead":
    case "paused":
      return status;
    case "removing":
      return "exited";
    default:
      return "created";
  }
}

function toHealth(status: string | undefined): ContainerHealth | null {
  return status === "healthy" || status === "unhealthy" || status === "starting" ? status : null;
}

function parseReport(output: string | undefined): Record<string, unknown> | null {
  const text = output?.trim() ?? "";
  if (!text.startsWith("{")) return null;
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? value as Record<string, unknown> : null;
  } catch {
    // Docker keeps the first 4096 bytes of a probe's output; a longer report is not JSON any more.
    return null;
  }
}

function duration(start: string | undefined, end: string | undefined): number | null {
  const milliseconds = Date.parse(end ?? "") - Date.parse(start ?? "");
  return Number.isFinite(milliseconds) && milliseconds >= 0 ? milliseconds : null;
}
