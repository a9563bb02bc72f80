import type { JsonObject } from "../../../shared/contract/editions.ts";
import type { RevisionListFacts, RevisionRow } from "../../../shared/contract/facts.ts";
import { isoTime } from "../../../shared/contract/times.ts";
import { inAllEditions } from "./presenter.ts";

function revision(row: RevisionRow): JsonObject {
  return {
    revision: row.revision,
    status: row.state,
    running: row.running,
    created_at: isoTime(row.created_at),
    finished_at: isoTime(row.finished_at),
    operation_id: row.operation_id,
    restored_from: row.restored_from,
    definition: row.definition as JsonObject,
    environment: row.environment_keys.map((name) => ({ name })),
    error: row.error as JsonObject | null,
  };
}

/** `GET /api/agents/{id}/revisions`. */
export const presentRevisions = inAllEditions<RevisionListFacts>(
  ({ revisions, running, limit, has_more }) => ({
    revisions: revisions.map(revision),
    running_revision: running,
    pagination: {
      limit,
      has_more,
      next_before: has_more ? revisions.at(-1)!.revision : null,
    },
  }),
);
