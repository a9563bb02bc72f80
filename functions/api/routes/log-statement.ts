import type { z } from "zod";
import type { logsQuery } from "../../../shared/contract/queries.ts";
import { type SqlFragment, sqlText, textArray } from "../../../shared/database/literal.ts";

export type LogsInput = { agentId: string } & z.output<ReturnType<typeof logsQuery>>;

/** The last lines, or with `afterId` those written after that line. */
export function logStatement(input: LogsInput, afterId: string | null): SqlFragment {
  const levels = input.level?.map((level) => level.toUpperCase());
  return sqlText`select public.agent_log_lines(${input.agentId}::uuid,${input.lines},${
    input.since ?? null
  },${textArray(levels)},${input.container ?? null},${afterId}::bigint,${input.before ?? null},${
    input.after ?? null
  }) as result`;
}
