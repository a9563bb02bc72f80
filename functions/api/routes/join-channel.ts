import { ApiError } from "../../../shared/contract/errors.ts";
import { joinChannelBody } from "../../../shared/contract/event-requests.ts";
import { parseInput } from "../../../shared/contract/validation.ts";
import { sqlText } from "../../../shared/database/literal.ts";
import {
  type ChannelFacts,
  type JoinableFacts,
  joinMessage,
  presentChannel,
} from "../presenters/real-time.ts";
import type { JoinResult } from "../realtime-service.ts";
import { defineRoute, type RouteContext } from "../route.ts";

/** What is wrong when Realtime itself does not let the caller in. */
const REFUSALS: Record<Exclude<JoinResult, "joined">, string> = {
  refused: "Realtime refused the channel",
  too_many_connections: "Too many Realtime connections are open",
  unreachable: "Realtime cannot be reached",
};

/**
 * `POST /realtime/v1/channels` (seed 002), which a domain in front of the project sends here: checks
 * that a topic can be joined, and says how. The join is tried, so that what the answer holds works; not
 * with an Idempotency-Key, whose answer is kept before anything can be tried.
 */
export const handler = defineRoute({
  input: (context) => {
    tokenOf(context);
    return parseInput(joinChannelBody, context.body);
  },
  statement: ({ topic, event }) =>
    sqlText`select public.real_time_channel(${topic},${event}) as result`,
  settle: async (result: JoinableFacts, context) => {
    const outcome = await context.realtime.tryJoin(joinMessage(result, tokenOf(context)));
    if (outcome === "joined") return result;
    throw new ApiError("REAL_TIME_SUBSCRIPTION_FAILED", REFUSALS[outcome], {
      details: { reason: outcome.toUpperCase(), topic: result.topic },
    });
  },
  facts: (result: JoinableFacts, _input, context): ChannelFacts => ({
    channel: result,
    url: context.realtime.url,
    token: tokenOf(context),
    expiresAt: context.credentialExpiresAt,
  }),
  present: presentChannel,
  status: 201,
  // It holds the caller's token.
  secretAnswer: true,
});

/** The caller's access token: Realtime knows no API keys. */
function tokenOf({ headers }: RouteContext): string {
  const token = /^bearer +(\S+)/i.exec(headers.get("authorization") ?? "")?.[1];
  if (token !== undefined) return token;
  throw new ApiError(
    "REAL_TIME_SUBSCRIPTION_FAILED",
    "Realtime takes access tokens, not API keys",
    {
      details: { reason: "NO_ACCESS_TOKEN" },
      hint: "Send Authorization: Bearer with the token of a signed-in user.",
    },
  );
}
