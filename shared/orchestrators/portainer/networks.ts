import { z } from "zod";
import { OrchestratorError } from "../errors.ts";
import type { NetworkState } from "../types.ts";
import type { EngineContext } from "./engine.ts";

/** Ids of the networks that carry a stack's label. */
export async function listNetworks(
  context: EngineContext,
  label: string,
  signal: AbortSignal,
): Promise<string[]> {
  const { data } = await context.api.docker.json(
    { path: "/networks", query: { filters: JSON.stringify({ label: [label] }) }, accept: [404] },
    z.array(z.object({ Id: z.string() })),
    signal,
  );
  return (data ?? []).map(({ Id }) => Id);
}

const described = z.array(z.object({
  Name: z.string(),
  Driver: z.string().default(""),
  Options: z.record(z.string(), z.string()).nullish(),
}));

/** The networks of a stack as they are. */
export async function describeNetworks(
  context: EngineContext,
  label: string,
  signal: AbortSignal,
): Promise<NetworkState[]> {
  const { data } = await context.api.docker.json(
    { path: "/networks", query: { filters: JSON.stringify({ label: [label] }) }, accept: [404] },
    described,
    signal,
  );
  return (data ?? []).map(({ Name, Driver, Options }) => ({
    name: Name,
    driver: Driver,
    // Docker takes the option's presence for yes, whatever it holds but "false".
    encrypted: Options?.["encrypted"] !== undefined && Options["encrypted"] !== "false",
  })).sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Removes what a half-made stack left. A network that is still in use stays. */
export async function removeNetworks(
  context: EngineContext,
  label: string,
  signal: AbortSignal,
): Promise<void> {
  for (const id of await listNetworks(context, label, signal)) {
    try {
      await context.api.docker.send(
        { method: "DELETE", path: `/networks/${id}`, accept: [403, 404, 409] },
        signal,
      );
    } catch (error) {
      if (!(error instanceof OrchestratorError) || signal.aborted) throw error;
    }
  }
}
