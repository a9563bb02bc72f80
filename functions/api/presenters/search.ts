import type { JsonObject } from "../../../shared/contract/editions.ts";
import type { SearchFacts } from "../../../shared/contract/facts.ts";
import { measurement3 } from "../../../shared/contract/measurements.ts";
import { stateWord } from "../../../shared/contract/states.ts";
import { isoTime } from "../../../shared/contract/times.ts";
import { stateOf } from "./figures.ts";
import { inAllEditions } from "./presenter.ts";

function result(
  { agent, deployment, metrics, ...found }: SearchFacts["results"][number],
): JsonObject {
  const { cpu_usage, memory_usage } = measurement3(metrics);
  return {
    id: agent.id,
    name: agent.name,
    description: agent.description,
    status: stateWord(3, stateOf(agent, deployment)),
    platform: agent.platforms[0] ?? null,
    created_at: isoTime(agent.created_at),
    last_activity: isoTime(agent.last_activity_at),
    metrics: { cpu_usage, memory_usage },
    relevance_score: found.relevance_score,
    highlighted_fields: { ...found.highlighted_fields },
  };
}

function page({ results, total, search_ms, limit, offset, ...facts }: SearchFacts): JsonObject {
  return {
    results: results.map(result),
    total_results: total,
    total_is_estimate: facts.total_is_estimate,
    search_time: `${Math.round(search_ms)}ms`,
    pagination: {
      total,
      limit,
      offset,
      // Of an estimated total the pages may come to their end before it.
      has_more: results.length > 0 && offset + results.length < total,
    },
  };
}

/** `GET /api/agents/search`; only seed 000 documents it. */
export const presentSearch = inAllEditions<SearchFacts>(page);
