import type { JsonObject } from "../../../shared/contract/editions.ts";
import type { AnswerContext, CommandFacts, Estimate } from "../../../shared/contract/facts.ts";
import { operationWord, stateWord } from "../../../shared/contract/states.ts";
import { deployTimeText, isoTime } from "../../../shared/contract/times.ts";
import { stateOf } from "./figures.ts";
import type { Presenters } from "./presenter.ts";
import { isRealTimeActive, realTimeChannel } from "./real-time.ts";

/** What the catalog says of the agent's Supabase side; null where it could not be read (seed 002). */
export function supabaseIntegration(
  facts: Pick<CommandFacts, "agent">,
  { platform }: AnswerContext,
): JsonObject {
  return {
    tables_created: platform?.tablesExist ?? null,
    rls_policies_applied: platform?.rlsActive ?? null,
    real_time_enabled: isRealTimeActive(facts.agent, platform),
  };
}

function estimatedDeployTime(estimate: Estimate | null): string | null {
  return estimate === null ? null : deployTimeText(estimate.low_seconds, estimate.high_seconds);
}

/** How an operation stands, with its steps (seed 000's `deployment`). */
export function operationProgress(facts: Pick<CommandFacts, "operation">): JsonObject {
  const operation = facts.operation;
  return {
    status: operation === null ? null : operationWord(operation.state),
    progress: operation?.progress ?? null,
    estimated_completion: isoTime(operation?.estimated_completion),
    steps: (operation?.steps ?? []).map((step) => {
      const shown: JsonObject = { name: step.name, status: step.status };
      const started = isoTime(step.started_at);
      const completed = isoTime(step.completed_at);
      if (started !== null) shown.started_at = started;
      if (completed !== null) shown.completed_at = completed;
      return shown;
    }),
  };
}

/** `POST /api/agents`. */
export const presentCreated: Presenters<CommandFacts> = {
  1: (facts) => ({
    agentId: facts.agent.id,
    status: stateWord(1, stateOf(facts.agent, facts.deployment)),
    createdAt: isoTime(facts.agent.created_at),
    estimatedDeployTime: estimatedDeployTime(facts.estimate),
  }),
  2: (facts, context) => ({
    agentId: facts.agent.id,
    status: stateWord(2, stateOf(facts.agent, facts.deployment)),
    user_id: facts.agent.user_id,
    createdAt: isoTime(facts.agent.created_at),
    estimatedDeployTime: estimatedDeployTime(facts.estimate),
    supabase_integration: supabaseIntegration(facts, context),
  }),
  3: (facts) => ({
    success: true,
    agent: {
      id: facts.agent.id,
      name: facts.agent.name,
      status: stateWord(3, stateOf(facts.agent, facts.deployment)),
      created_at: isoTime(facts.agent.created_at),
      supabase: { database_id: facts.agent.id, ...realTimeChannel(facts.agent) },
      portainer: {
        stack_id: facts.deployment?.stack_id ?? null,
        stack_name: facts.deployment?.stack_name ?? null,
        endpoint_id: facts.deployment?.endpoint_id ?? null,
        deployment_url: facts.deployment?.console_url ?? null,
      },
    },
    deployment: operationProgress(facts),
  }),
};
