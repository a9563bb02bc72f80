import { reportConversationBody } from "../../../shared/contract/report-requests.ts";
import { parseInput } from "../../../shared/contract/validation.ts";
import { jsonb, sqlText } from "../../../shared/database/literal.ts";
import { presentStoredMessages, type StoredMessages } from "../presenters/reports.ts";
import { defineRoute } from "../route.ts";
import { agentId } from "./ids.ts";

/** `POST /api/agents/{id}/conversations`: messages that an agent exchanged. */
export const handler = defineRoute({
  input: ({ params, body }) => ({
    id: agentId(params),
    ...parseInput(reportConversationBody, body),
  }),
  statement: ({ id, conversation_id, messages, platform, batch_id }) =>
    sqlText`select public.report_conversation(${id}::uuid,${conversation_id},${jsonb(messages)},${
      platform ?? null
    },${batch_id ?? null}) as result`,
  facts: (result: StoredMessages) => result,
  present: presentStoredMessages,
  status: 201,
});
