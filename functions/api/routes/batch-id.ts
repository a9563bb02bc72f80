import { ApiError } from "../../../shared/contract/errors.ts";

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/**
 * The batch a path names.
 * @throws ApiError NOT_FOUND 404 for what cannot be an id: no batch has it
 */
export function batchId(params: Record<string, string>): string {
  const id = params.id ?? "";
  if (UUID.test(id)) return id.toLowerCase();
  throw new ApiError("NOT_FOUND", "There is no such batch.", {
    details: { batch_id: id.slice(0, 100) },
  });
}
