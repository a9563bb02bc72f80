import type { JsonObject } from "../../../shared/contract/editions.ts";
import type { AnswerContext, ListFacts } from "../../../shared/contract/facts.ts";
import { measurement3 } from "../../../shared/contract/measurements.ts";
import { stateWord } from "../../../shared/contract/states.ts";
import { isoTime } from "../../../shared/contract/times.ts";
import { stateOf } from "./figures.ts";
import type { Presenters } from "./presenter.ts";

/** A page of agents and where it lies. */
export interface PageFacts extends ListFacts {
  limit: number;
  offset: number;
}

type Entry = ListFacts["agents"][number];

function entry1({ agent, deployment }: Entry): JsonObject {
  return {
    agentId: agent.id,
    name: agent.name,
    status: stateWord(1, stateOf(agent, deployment)),
    owner: agent.user_id,
    createdAt: isoTime(agent.created_at),
    url: deployment?.url ?? null,
  };
}

function entry2({ agent, deployment }: Entry, { platform }: AnswerContext): JsonObject {
  return {
    agentId: agent.id,
    name: agent.name,
    status: stateWord(2, stateOf(agent, deployment)),
    user_id: agent.user_id,
    platforms: agent.platforms,
    supabase_integration: platform === null ? null : platform.tablesExist && platform.rlsActive,
    createdAt: isoTime(agent.created_at),
    url: deployment?.url ?? null,
  };
}

function entry3({ agent, deployment, metrics }: Entry): JsonObject {
  const containers = deployment?.containers ?? [];
  const { cpu_usage, memory_usage, requests_per_minute } = measurement3(metrics);
  return {
    id: agent.id,
    name: agent.name,
    status: stateWord(3, stateOf(agent, deployment)),
    platform: agent.platforms[0] ?? null,
    created_at: isoTime(agent.created_at),
    containers: {
      count: containers.length,
      healthy: containers.filter((each) => each.health === "healthy").length,
      unhealthy: containers.filter((each) => each.health === "unhealthy").length,
    },
    metrics: { cpu_usage, memory_usage, requests_per_minute },
  };
}

/** `GET /api/agents`. */
export const presentList: Presenters<PageFacts> = {
  1: ({ agents, total, limit, offset }) => ({ agents: agents.map(entry1), total, limit, offset }),
  2: ({ agents, total, limit, offset }, context) => ({
    agents: agents.map((entry) => entry2(entry, context)),
    total,
    limit,
    offset,
    user_id: context.userId,
  }),
  3: ({ agents, total, limit, offset, summary }) => ({
    agents: agents.map(entry3),
    pagination: { total, limit, offset, has_more: offset + agents.length < total },
    summary: {
      total_agents: summary.total_agents,
      running: summary.running,
      stopped: summary.stopped,
      deploying: summary.deploying,
      failed: summary.failed,
    },
  }),
};
