import { z } from "zod";
import { AGENT_LABEL } from "../stack-file.ts";
import type { VolumeState } from "../types.ts";
import type { EngineContext } from "./engine.ts";

const TEARDOWN_MS = 20_000;
const POLL_MS = 300;

const listing = z.object({
  Volumes: z.array(z.object({
    Name: z.string(),
    Driver: z.string().default(""),
    Labels: z.record(z.string(), z.string()).nullish(),
  })).nullish(),
});

/** The volumes that carry a stack's label and its owner's. */
export async function describeVolumes(
  context: EngineContext,
  label: string,
  owner: string,
  signal: AbortSignal,
): Promise<VolumeState[]> {
  const { data } = await context.api.docker.json(
    {
      path: "/volumes",
      query: { filters: JSON.stringify({ label: [label, `${AGENT_LABEL}=${owner}`] }) },
      accept: [404],
    },
    listing,
    signal,
  );
  return (data?.Volumes ?? [])
    .filter(({ Labels }) => Labels?.[AGENT_LABEL] === owner)
    .map(({ Name, Driver }) => ({ name: Name, driver: Driver }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/**
 * Portainer leaves the volumes of a stack that it deletes, and a Swarm ends the tasks that use them in the background.
 * One that stays in use longer is left: it is no reason to keep the rest.
 */
export async function removeVolumes(
  context: EngineContext,
  label: string,
  owner: string,
  signal: AbortSignal,
): Promise<void> {
  const until = context.now() + TEARDOWN_MS;
  while (true) {
    const left = await describeVolumes(context, label, owner, signal);
    if (left.length === 0 || context.now() >= until) return;
    for (const { name } of left) {
      await context.api.docker.send(
        { method: "DELETE", path: `/volumes/${encodeURIComponent(name)}`, accept: [404, 409] },
        signal,
      );
    }
    await context.sleep(POLL_MS, signal);
  }
}
