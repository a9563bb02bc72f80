import { z } from "zod";
import { mapLimited } from "../concurrency.ts";
import {
  type ContainerPosture,
  type Examination,
  type ExaminationRequest,
  looksSecret,
} from "../posture.ts";
import type { WorkloadRef } from "../types.ts";
import type { PortainerApi } from "./api.ts";
import { nodeHeader } from "./containers.ts";
import type { DockerEngine, LocatedContainer } from "./engine.ts";
import { scanImages } from "./scanner.ts";

const inspected = z.object({
  Config: z.object({
    Image: z.string().default(""),
    User: z.string().optional(),
    Env: z.array(z.string()).nullish(),
  }),
  HostConfig: z.object({
    Privileged: z.boolean().optional(),
    CapAdd: z.array(z.string()).nullish(),
    Memory: z.number().optional(),
    NanoCpus: z.number().optional(),
    CpuQuota: z.number().nullish(),
    NetworkMode: z.string().nullish(),
    PidMode: z.string().nullish(),
    IpcMode: z.string().nullish(),
  }).nullish(),
  Mounts: z.array(z.object({ Type: z.string().default(""), Source: z.string().default("") }))
    .nullish(),
});

/** How the containers of a stack are set up, and what is wrong with their images. */
export async function examineStack(
  api: PortainerApi,
  docker: DockerEngine,
  ref: WorkloadRef,
  request: ExaminationRequest,
  signal: AbortSignal,
): Promise<Examination | null> {
  const state = await docker.inspect({ ...ref, namespace: null }, null, signal);
  if (state === null) return null;
  const found = await mapLimited(state.containers, 8, async ({ id }) => {
    const located = await docker.locate(ref, id, signal);
    return located === null ? null : await examineContainer(api, located, signal);
  });
  const containers = found.filter((container) => container !== null);
  return {
    containers,
    vulnerabilities: await scanImages(
      api,
      [...new Set(containers.map(({ image }) => image))],
      request,
      signal,
    ),
  };
}

async function examineContainer(
  api: PortainerApi,
  container: LocatedContainer,
  signal: AbortSignal,
): Promise<ContainerPosture | null> {
  const { data } = await api.docker.json(
    {
      path: `/containers/${encodeURIComponent(container.id)}/json`,
      headers: nodeHeader(container.node),
      accept: [404],
    },
    inspected,
    signal,
  );
  if (data === null) return null;
  const { Config: config, HostConfig: host } = data;
  const user = config.User?.split(":")[0];
  return {
    id: container.id,
    name: container.name,
    image: config.Image,
    root: user === undefined ? null : ["", "0", "root"].includes(user),
    privileged: host?.Privileged ?? null,
    capabilities: (host?.CapAdd ?? []).map((name) => name.replace(/^CAP_/, "")),
    memoryLimited: host?.Memory === undefined ? null : host.Memory > 0,
    cpuLimited: host?.NanoCpus === undefined ? null : host.NanoCpus > 0 || (host.CpuQuota ?? 0) > 0,
    hostMounts: (data.Mounts ?? []).filter(({ Type }) => Type === "bind").map((one) => one.Source),
    hostNamespaces: [
      ...(host?.NetworkMode === "host" ? ["network"] : []),
      ...(host?.PidMode === "host" ? ["pid"] : []),
      ...(host?.IpcMode === "host" ? ["ipc"] : []),
    ],
    plainSecrets: (config.Env ?? [])
      .filter((line) => /^[^=]+=./s.test(line))
      .map((line) => line.slice(0, line.indexOf("=")))
      .filter(looksSecret),
  };
}
