import type { BatchFacts } from "../../../shared/contract/facts.ts";
import { sqlText } from "../../../shared/database/literal.ts";
import { presentBatch } from "../presenters/batch.ts";
import { defineRoute } from "../route.ts";
import { batchId } from "./ids.ts";

/** `GET /api/agents/batch/{id}`. */
export const handler = defineRoute({
  input: ({ params }) => batchId(params),
  statement: (id) => sqlText`select public.batch_snapshot(${id}::uuid) as result`,
  facts: (result: BatchFacts) => result,
  present: presentBatch,
  status: 200,
});
