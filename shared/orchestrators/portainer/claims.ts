import { z } from "zod";
import { AGENT_LABEL } from "../stack-file.ts";
import type { PortainerApi } from "./api.ts";
import type { Claim, Holder } from "./engine.ts";

/**
 * Portainer lists a stack only once its containers stand, and takes a second create of the same name in the meantime:
 * both are recorded. A mark on the engine itself closes that gap. A volume serves on a standalone engine, a config in a
 * Swarm, because both are made at once, cost nothing and refuse a second maker.
 */
const CLAIM_LABEL = "agent-launchpad.claim";
const CLAIMED_AT_LABEL = "agent-launchpad.claimed-at";

/** A credential, or a filter before the engine, that does not let us: then nothing is marked. */
const NOT_ALLOWED = [403];

const labels = z.record(z.string(), z.string()).nullish();

/** A config's name has 64 characters at most, a stack's 49. */
function claimName(name: string): string {
  return `${name}.launchpad`;
}

function claimLabels(claim: Claim): Record<string, string> {
  return {
    [AGENT_LABEL]: claim.agentId,
    [CLAIM_LABEL]: claim.id,
    [CLAIMED_AT_LABEL]: String(claim.at),
  };
}

/** Null when the claim is ours. */
function holder(found: z.output<typeof labels>, claim: Claim): Holder | null {
  const id = found?.[CLAIM_LABEL] ?? "";
  return id === claim.id ? null : { id, since: Number(found?.[CLAIMED_AT_LABEL] ?? 0) || 0 };
}

/** Whether these are a claim's labels, and, unless `id` is null, this one's. */
function isClaim(found: z.output<typeof labels>, id: string | null): boolean {
  const present = found?.[CLAIM_LABEL];
  return present !== undefined && (id === null || id === present);
}

export async function claimVolume(
  api: PortainerApi,
  name: string,
  claim: Claim,
  signal: AbortSignal,
): Promise<Holder | null> {
  // Docker answers a repeated name with the volume that is there.
  const { data } = await api.docker.json(
    {
      method: "POST",
      path: "/volumes/create",
      body: { Name: claimName(name), Labels: claimLabels(claim) },
      accept: NOT_ALLOWED,
    },
    z.object({ Labels: labels }),
    signal,
  );
  return data ? holder(data.Labels, claim) : null;
}

export async function unclaimVolume(
  api: PortainerApi,
  name: string,
  id: string | null,
  signal: AbortSignal,
): Promise<void> {
  const path = `/volumes/${claimName(name)}`;
  const { data } = await api.docker.json(
    { path, accept: [...NOT_ALLOWED, 404] },
    z.object({ Labels: labels }),
    signal,
  );
  if (!isClaim(data?.Labels, id)) return;
  await api.docker.send(
    { method: "DELETE", path, accept: [...NOT_ALLOWED, 404, 409] },
    signal,
  );
}

export async function claimConfig(
  api: PortainerApi,
  name: string,
  claim: Claim,
  signal: AbortSignal,
): Promise<Holder | null> {
  const created = await api.docker.send(
    {
      method: "POST",
      path: "/configs/create",
      body: { Name: claimName(name), Labels: claimLabels(claim), Data: btoa(claim.id) },
      accept: [...NOT_ALLOWED, 409],
    },
    signal,
  );
  if (created.status !== 409) return null;
  const { data } = await readConfig(api, name, signal);
  return data ? holder(data.Spec.Labels, claim) : { id: "", since: 0 };
}

export async function unclaimConfig(
  api: PortainerApi,
  name: string,
  id: string | null,
  signal: AbortSignal,
): Promise<void> {
  const { data } = await readConfig(api, name, signal);
  if (!data || !isClaim(data.Spec.Labels, id)) return;
  // Portainer keeps who may use a config under its id, and forgets that only when it is removed by it.
  await api.docker.send(
    { method: "DELETE", path: `/configs/${data.ID}`, accept: [...NOT_ALLOWED, 404] },
    signal,
  );
}

function readConfig(api: PortainerApi, name: string, signal: AbortSignal) {
  return api.docker.json(
    { path: `/configs/${claimName(name)}`, accept: [...NOT_ALLOWED, 404] },
    z.object({ ID: z.string(), Spec: z.object({ Labels: labels }) }),
    signal,
  );
}
