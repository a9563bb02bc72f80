import { sqlText } from "../../../shared/database/literal.ts";
import { defineRoute } from "../route.ts";

const never = () => ({});

/** `GET /api/users/export`: all that is kept of the caller, as one document to download. */
export const handler = defineRoute({
  input: never,
  // Not asked for: the answer is always a stream.
  statement: () => sqlText`select null as result`,
  facts: never,
  present: { 1: never, 2: never, 3: never },
  status: 200,
  streams: () => true,
  stream: async (_input, context) => {
    const { streamExport } = await import("../export-stream.ts");
    return streamExport(context);
  },
});
