import type { JsonObject } from "../../../shared/contract/editions.ts";
import type { AnswerContext, CommandFacts } from "../../../shared/contract/facts.ts";
import { stateWord } from "../../../shared/contract/states.ts";
import { isoTime } from "../../../shared/contract/times.ts";
import { operationProgress } from "./created.ts";
import { stateOf } from "./figures.ts";
import type { Presenters } from "./presenter.ts";

function shortAgent(facts: CommandFacts): JsonObject {
  return {
    id: facts.agent.id,
    name: facts.agent.name,
    status: stateWord(3, stateOf(facts.agent, facts.deployment)),
  };
}

/**
 * Edition 3's form of a command: seed 000 shows it for scale only (`operation_id`, what was asked
 * under the command's name, a short agent); the others follow it.
 */
function command3(facts: CommandFacts, under: string, asked: JsonObject): JsonObject {
  const { status, estimated_completion } = operationProgress(facts);
  return {
    success: true,
    operation_id: facts.operation?.id ?? null,
    [under]: {
      ...asked,
      estimated_completion: estimated_completion!,
      // Seed 000 calls a scaling that was just accepted in_progress.
      status: status === "initiating" ? "in_progress" : status!,
    },
    agent: shortAgent(facts),
  };
}

function asked(facts: CommandFacts, ...names: string[]): JsonObject {
  const request = (facts.operation?.request ?? {}) as JsonObject;
  return Object.fromEntries(names.map((name) => [name, request[name] ?? null]));
}

/** `POST /api/agents/{id}/scale`. */
export const presentScaled: Presenters<CommandFacts> = {
  1: (facts) => ({
    agentId: facts.agent.id,
    currentReplicas: facts.deployment?.replicas_ready ?? null,
    targetReplicas: facts.deployment?.replicas_desired ?? facts.agent.replicas,
    status: stateWord(1, stateOf(facts.agent, facts.deployment)),
    updatedAt: isoTime(facts.agent.updated_at),
  }),
  2: (facts, context) => ({
    ...presentScaled[1](facts, context),
    user_id: facts.agent.user_id,
    scaling_event_logged: facts.event_id !== null,
    supabase_event_id: facts.event_id,
  }),
  3: (facts) =>
    command3(facts, "scaling", asked(facts, "from_replicas", "to_replicas", "strategy")),
};

/** The form that seeds 001 and 002 give restart and delete, and we give stop and start. */
function announced(
  edition: 1 | 2,
  what: string,
  facts: CommandFacts,
  { now, platform }: AnswerContext,
): JsonObject {
  const answer: JsonObject = {
    agentId: facts.agent.id,
    status: stateWord(edition, stateOf(facts.agent, facts.deployment)),
    message: `Agent ${what} initiated`,
    timestamp: isoTime(facts.operation?.created_at) ?? now.toISOString(),
  };
  if (edition === 1) return answer;
  return {
    ...answer,
    user_id: facts.agent.user_id,
    supabase_event_logged: facts.event_id !== null,
    // The event is a row of a table that Realtime follows.
    real_time_notification_sent: platform === null
      ? null
      : platform.realTimeActive && facts.event_id !== null,
  };
}

function simpleCommand(what: string, under: string, names: string[]): Presenters<CommandFacts> {
  return {
    1: (facts, context) => announced(1, what, facts, context),
    2: (facts, context) => announced(2, what, facts, context),
    3: (facts) => command3(facts, under, asked(facts, ...names)),
  };
}

/** `POST /api/agents/{id}/restart`. */
export const presentRestarted = simpleCommand("restart", "restart", [
  "restart_policy",
  "max_unavailable",
]);
/** `POST /api/agents/{id}/rollback`. */
export const presentRolledBack = simpleCommand("rollback", "rollback", [
  "from_revision",
  "to_revision",
]);
/** `POST /api/agents/{id}/stop`. */
export const presentStopped = simpleCommand("stop", "stop", []);
/** `POST /api/agents/{id}/start`. */
export const presentStarted = simpleCommand("start", "start", []);

const deletion = simpleCommand("deletion", "deletion", []);

/** `DELETE /api/agents/{id}`. */
export const presentDeleted: Presenters<CommandFacts> = {
  ...deletion,
  2: (facts, context) => ({
    ...announced(2, "deletion", facts, context),
    supabase_cleanup: {
      data_retention_policy: facts.retention_days === undefined
        ? null
        : `${facts.retention_days}_days`,
      // delete_agent scrubs in the transaction that this answers, and the audit trail is append-only.
      personal_data_removal: "immediate",
      audit_log_preserved: true,
    },
  }),
};

/** `PUT /api/agents/{id}`; seed 001 documents no answer, so edition 1 is edition 2's without user. */
export const presentUpdated: Presenters<CommandFacts> = {
  1: (facts) => ({
    agentId: facts.agent.id,
    status: facts.operation === null
      ? stateWord(1, stateOf(facts.agent, facts.deployment))
      : "UPDATING",
    changes_applied: { ...facts.changes },
    updatedAt: isoTime(facts.agent.updated_at),
  }),
  2: (facts, context) => ({
    ...presentUpdated[1](facts, context),
    user_id: facts.agent.user_id,
    supabase_event_id: facts.event_id,
  }),
  3: (facts) => command3(facts, "update", { changes: { ...facts.changes } }),
};
