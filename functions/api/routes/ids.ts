import { ApiError } from "../../../shared/contract/errors.ts";

type Params = Record<string, string>;

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** The id in a path. What cannot be one is the id of nothing; `notFound` says so of its beginning. */
function idOf({ id = "" }: Params, notFound: (shown: string) => ApiError): string {
  if (UUID.test(id)) return id.toLowerCase();
  throw notFound(id.slice(0, 100));
}

/**
 * The agent a path names.
 * @throws ApiError AGENT_NOT_FOUND 404 for what cannot be an id
 */
export const agentId = (params: Params): string =>
  idOf(
    params,
    (id) =>
      new ApiError("AGENT_NOT_FOUND", `Agent with ID '${id}' not found or access denied`, {
        details: { agent_id: id },
      }),
  );

/**
 * The batch a path names.
 * @throws ApiError NOT_FOUND 404 for what cannot be an id
 */
export const batchId = (params: Params): string =>
  idOf(
    params,
    (id) => new ApiError("NOT_FOUND", "There is no such batch.", { details: { batch_id: id } }),
  );

/**
 * The stack a path names: by our id, not by Portainer's number, which names stacks of others too.
 * @throws ApiError NOT_FOUND 404 for what cannot be an id
 */
export const stackId = (params: Params): string =>
  idOf(
    params,
    (id) =>
      new ApiError("NOT_FOUND", `Stack with ID '${id}' not found or access denied`, {
        details: { stack_id: id },
      }),
  );
