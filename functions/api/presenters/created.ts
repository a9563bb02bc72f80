import type { JsonObject } from "../../../shared/contract/editions.ts";
import type { AnswerContext, CommandFacts, Estimate } from "../../../shared/contract/facts.ts";
import { operationWord, stateWord } from "../../../shared/contract/states.ts";
import { deployTimeText, isoTime } from "../../../shared/contract/times.ts";
import { stateOf } from "./figures.ts";
import type { Presenters } from "./presenter.ts";

/** What the catalog says of the agent's Supabase side; null where it could not be read (seed 002). */
export function supabaseIntegration(
  facts: Pick<CommandFacts, "agent">,
  { platform }: AnswerContext,
): JsonObject {
  const wanted = facts.agent.supabase_config.real_time?.enabled ?? true;
  return {
    tables_created: platform?.tablesExist ?? null,
    rls_policies_applied: platform?.rlsActive ?? null,
    real_time_enabled: platform === null ? null : platform.realTimeActive && wanted,
  };
}

function estimatedDeployTime(estimate: Estimate | null): string | null {
  return estimate === null ? null : deployTimeText(estimate.low_seconds, estimate.high_seconds);
}

/** Name under which the agent's changes are broadcast: the one asked for, or the agent's own topic. */
function realTimeChannel(facts: CommandFacts): string {
  const channels = facts.agent.supabase_config.real_time?.channels ?? [];
  return channels.includes("agent_status")
    ? "agent_status"
    : channels[0] ?? `agent:${facts.agent.id}`;
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
      supabase: { database_id: facts.agent.id, real_time_channel: realTimeChannel(facts) },
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
