import { ApiError } from "../../../shared/contract/errors.ts";

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/**
 * The stack a path names: by our id, not by Portainer's number, which names stacks of others too.
 * @throws ApiError NOT_FOUND 404 for what cannot be an id: no stack has it
 */
export function stackId(params: Record<string, string>): string {
  const id = params.id ?? "";
  if (UUID.test(id)) return id.toLowerCase();
  throw new ApiError(
    "NOT_FOUND",
    `Stack with ID '${id.slice(0, 100)}' not found or access denied`,
    { details: { stack_id: id.slice(0, 100) } },
  );
}
