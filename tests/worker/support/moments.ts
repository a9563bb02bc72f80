import { eventually } from "./eventually.ts";
import type { WorkerRig } from "./rig.ts";

export const MOMENTS = [
  "while it looks at the state",
  "before its change takes effect",
  "after its change took effect",
  "while it waits for the outcome",
] as const;

export type Moment = (typeof MOMENTS)[number];

/** All but the claim on a stack's name: it is no change yet, and who dies with it keeps others off for a while. */
const path = "^/api/(?!endpoints/\\d+/docker/(?:volumes|configs)/)";
const changes = (fault: { kind: string; ms?: number }) =>
  ["POST", "PUT", "DELETE"].map((method) => ({ method, path, times: 0, fault }));
const reads = { method: "GET", path, times: 0, fault: { kind: "delay", ms: 2500 } };

/** Asks for operations and brings so many of them to the moment in which the worker is to die. */
export async function bringToMoment(
  rig: WorkerRig,
  moment: Moment,
  operations: number,
  ask: () => Promise<unknown>,
): Promise<void> {
  const allOf = async (count: () => Promise<number>) => {
    await eventually(async () => await count() >= operations, {
      what: "a call of every operation",
    });
  };
  const changing = async () =>
    await rig.hits("POST") + await rig.hits("PUT") + await rig.hits("DELETE");
  switch (moment) {
    case "while it looks at the state":
      await rig.order(reads);
      await ask();
      return await allOf(() => rig.hits("GET"));
    case "before its change takes effect":
      await rig.order(...changes({ kind: "delay", ms: 2500 }));
      await ask();
      return await allOf(changing);
    case "after its change took effect":
      await rig.order(...changes({ kind: "mute" }));
      await ask();
      return await allOf(changing);
    case "while it waits for the outcome":
      await rig.order(...changes({ kind: "delay", ms: 1000 }));
      await ask();
      await allOf(changing);
      await rig.order(reads);
      return await allOf(() => rig.hits("GET"));
  }
}
