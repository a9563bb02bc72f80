import type { BatchFacts } from "../../../shared/contract/facts.ts";
import { sqlText } from "../../../shared/database/literal.ts";
import { presentBatch } from "../presenters/batch.ts";
import { defineRoute } from "../route.ts";
import { batchId } from "./ids.ts";

/** `DELETE /api/agents/batch/{id}`: what waits is cancelled, what runs goes on. */
export const handler = defineRoute({
  input: ({ params }) => batchId(params),
  statement: (id) => sqlText`select public.cancel_batch(${id}::uuid) as result`,
  facts: (result: BatchFacts) => result,
  present: presentBatch,
  status: 200,
});
