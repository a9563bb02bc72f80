import { ApiError } from "../../../shared/contract/errors.ts";

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/**
 * The agent a path names.
 * @throws ApiError AGENT_NOT_FOUND 404 for what cannot be an id: no agent has it
 */
export function agentId(params: Record<string, string>): string {
  const id = params.id ?? "";
  if (UUID.test(id)) return id.toLowerCase();
  throw new ApiError(
    "AGENT_NOT_FOUND",
    `Agent with ID '${id.slice(0, 100)}' not found or access denied`,
    { details: { agent_id: id.slice(0, 100) } },
  );
}
