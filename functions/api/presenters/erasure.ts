import type { JsonObject } from "../../../shared/contract/editions.ts";
import { isoTime } from "../../../shared/contract/times.ts";
import { inAllEditions } from "./presenter.ts";

/** Answer of `erase_my_account`. */
export interface ErasureFacts {
  userId: string;
  erasure: {
    id: string;
    state: "pending" | "finished";
    agents: number;
    stacks: number;
    pending: Record<string, number | boolean>;
    requested_at: string;
    finished_at: string | null;
  };
}

function erased({ userId, erasure }: ErasureFacts, { now }: { now: Date }): JsonObject {
  return {
    user_id: userId,
    status: erasure.state === "finished" ? "DELETED" : "DELETING",
    message: "Account deletion initiated",
    supabase_cleanup: {
      // Rows of an account are kept for no time at all; those of an agent may be.
      data_retention_policy: "0_days",
      personal_data_removal: "immediate",
      audit_log_preserved: true,
    },
    erasure: {
      ...erasure,
      requested_at: isoTime(erasure.requested_at),
      finished_at: isoTime(erasure.finished_at),
    },
    timestamp: now.toISOString(),
  };
}

/** `DELETE /api/users/profile`; no reference has it, so the second's manner serves all. */
export const presentErasure = inAllEditions<ErasureFacts>(erased);
