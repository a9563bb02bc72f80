import { batchBody, batchOptions } from "../../../shared/contract/batch-requests.ts";
import type { BatchFacts } from "../../../shared/contract/facts.ts";
import { parseInput } from "../../../shared/contract/validation.ts";
import { jsonb, sqlText, textArray } from "../../../shared/database/literal.ts";
import { presentBatch } from "../presenters/batch.ts";
import { defineRoute } from "../route.ts";

/** `POST /api/agents/batch`: asks one operation of many agents. */
export const handler = defineRoute({
  input: ({ body }) => {
    const batch = parseInput(batchBody, body);
    return { ...batch, options: batchOptions(batch) };
  },
  statement: ({ operation, agent_ids, options }) =>
    sqlText`select public.create_batch(${operation},${textArray(agent_ids)}::uuid[],${
      jsonb(options)
    }) as result`,
  facts: (result: BatchFacts) => result,
  present: presentBatch,
  status: 202,
  location: ({ batch }) => `/api/agents/batch/${batch.id}`,
  wakesWorker: true,
});
