import { PortainerError } from "./errors.ts";
import type { StackRecord } from "./store.ts";

/**
 * Portainer's filter of the stack list: `EndpointID` finds Compose stacks only, and Swarm stacks are found by
 * `SwarmID`, which is why clients send both.
 * @throws PortainerError 400
 */
export function stacksFilter(text: string | null): (stack: StackRecord) => boolean {
  if (!text) return () => true;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new PortainerError(400, "Invalid query parameter: filters", (error as Error).message);
  }
  const filters = (typeof value === "object" && value !== null ? value : {}) as Record<
    string,
    unknown
  >;
  const endpointId = Number(filters["EndpointID"] ?? 0);
  const swarmId = String(filters["SwarmID"] ?? "");
  if (endpointId === 0 && swarmId === "") return () => true;
  return (stack) => stack.type === 1 ? stack.swarmId === swarmId : stack.endpointId === endpointId;
}
