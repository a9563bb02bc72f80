import type { Json, JsonObject } from "../../../shared/contract/editions.ts";
import type { BatchFacts } from "../../../shared/contract/facts.ts";
import { operationWord } from "../../../shared/contract/states.ts";
import { isoTime } from "../../../shared/contract/times.ts";
import { inAllEditions } from "./presenter.ts";

/** Edition 3's words where they differ from those of an operation. */
const WORDS: Record<string, string> = {
  partial: "partially_completed",
  waiting: "pending",
  // Seed 000 calls what was just accepted in_progress.
  queued: "in_progress",
  running: "in_progress",
};

const word = (state: string) => WORDS[state] ?? operationWord(state);

function errorOf({ code, message, details }: NonNullable<BatchFacts["results"][number]["error"]>) {
  return { code, message, details: (details ?? {}) as Json };
}

/** Seed 000 documents no answer; ours follows that of scale. */
function batch3({ batch, results }: BatchFacts): JsonObject {
  const rejected = results.filter((each) => each.state === "rejected");
  const accepted = results.filter((each) => each.state !== "rejected");
  return {
    success: accepted.length > 0,
    batch_id: batch.id,
    operation: batch.operation,
    status: word(batch.state),
    max_concurrent: batch.max_concurrent,
    total: batch.total,
    accepted: accepted.length,
    pending: batch.waiting,
    running: batch.running,
    succeeded: batch.succeeded,
    failed: batch.failed,
    cancelled: batch.cancelled,
    rejected: rejected.map((each) => ({ agent_id: each.agent_id, error: errorOf(each.error!) })),
    results: accepted.map((each) => ({
      agent_id: each.agent_id,
      operation_id: each.operation_id,
      status: word(each.state),
      progress: each.progress,
      error: each.error === null ? null : errorOf(each.error),
      started_at: isoTime(each.started_at),
      completed_at: isoTime(each.finished_at),
    })),
    created_at: isoTime(batch.created_at),
    completed_at: isoTime(batch.finished_at),
  };
}

/** `POST /api/agents/batch`, `GET` and `DELETE /api/agents/batch/{id}`; only seed 000 knows them. */
export const presentBatch = inAllEditions<BatchFacts>(batch3);
