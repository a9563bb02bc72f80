import { z } from "zod";
import { AGENT_LABEL } from "../stack-file.ts";
import type { PortainerApi } from "./api.ts";
import type { Claim } from "./engine.ts";

/**
 * Portainer lists a stack only once its containers stand, and takes a second create of the same name in the meantime:
 * both are recorded. A mark on the engine itself closes that gap. A volume serves on a standalone engine, a config in a
 * Swarm, because both are made at once, cost nothing and refuse a second maker.
 */
const CLAIM_LABEL = "agent-launchpad.claim";
const CLAIMED_AT_LABEL = "agent-launchpad.claimed-at";

/** Engines, or credentials, that know no such thing: then nothing is marked. */
const NOT_OFFERED = [403, 404, 405, 501, 503];

const labels = z.record(z.string(), z.string()).nullish();

function claimName(name: string): string {
  return `${name}.agent-launchpad`;
}

function claimLabels(claim: Claim): Record<string, string> {
  return {
    [AGENT_LABEL]: claim.agentId,
    [CLAIM_LABEL]: claim.id,
    [CLAIMED_AT_LABEL]: String(claim.at),
  };
}

/** Null when the claim is ours; otherwise since when the other stands. */
function holder(found: z.output<typeof labels>, claim: Claim): number | null {
  if (found?.[CLAIM_LABEL] === claim.id) return null;
  return Number(found?.[CLAIMED_AT_LABEL] ?? 0) || 0;
}

export async function claimVolume(
  api: PortainerApi,
  name: string,
  claim: Claim,
  signal: AbortSignal,
): Promise<number | null> {
  // Docker answers a repeated name with the volume that is there.
  const { data } = await api.docker.json(
    {
      method: "POST",
      path: "/volumes/create",
      body: { Name: claimName(name), Labels: claimLabels(claim) },
      accept: NOT_OFFERED,
    },
    z.object({ Labels: labels }),
    signal,
  );
  return data ? holder(data.Labels, claim) : null;
}

export async function unclaimVolume(
  api: PortainerApi,
  name: string,
  signal: AbortSignal,
): Promise<void> {
  await api.docker.send(
    { method: "DELETE", path: `/volumes/${claimName(name)}`, accept: [...NOT_OFFERED, 409] },
    signal,
  );
}

export async function claimConfig(
  api: PortainerApi,
  name: string,
  claim: Claim,
  signal: AbortSignal,
): Promise<number | null> {
  const created = await api.docker.send(
    {
      method: "POST",
      path: "/configs/create",
      body: { Name: claimName(name), Labels: claimLabels(claim), Data: btoa(claim.id) },
      accept: [...NOT_OFFERED, 409],
    },
    signal,
  );
  if (created.status !== 409) return null;
  const { data } = await api.docker.json(
    { path: `/configs/${claimName(name)}`, accept: [404] },
    z.object({ Spec: z.object({ Labels: labels }) }),
    signal,
  );
  return data ? holder(data.Spec.Labels, claim) : 0;
}

export async function unclaimConfig(
  api: PortainerApi,
  name: string,
  signal: AbortSignal,
): Promise<void> {
  await api.docker.send(
    { method: "DELETE", path: `/configs/${claimName(name)}`, accept: NOT_OFFERED },
    signal,
  );
}
