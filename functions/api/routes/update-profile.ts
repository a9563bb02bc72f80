import { profileBody } from "../../../shared/contract/profile-requests.ts";
import { parseInput } from "../../../shared/contract/validation.ts";
import { jsonb, sqlText } from "../../../shared/database/literal.ts";
import { presentProfile, type ProfileFacts } from "../presenters/profile.ts";
import { defineRoute } from "../route.ts";

/**
 * `PUT /api/users/profile`: changes what is named. A new address goes to Supabase Auth with the
 * caller's own token, first, so that a refusal leaves all as it was. With an API key there is no
 * token: SQL then lets only the present address pass (INSUFFICIENT_PERMISSIONS 403).
 */
export const handler = defineRoute({
  input: ({ body, caller }) => {
    const { email, notifications, notification_preferences, user_metadata } = parseInput(
      profileBody,
      body,
    );
    const preferences = notifications === undefined && notification_preferences === undefined
      ? undefined
      : { ...notifications, ...notification_preferences };
    const byKey = caller.apiKeyId !== null;
    return {
      newEmail: byKey ? undefined : email,
      changes: {
        notification_preferences: preferences,
        user_metadata,
        email: byKey ? email : undefined,
      },
    };
  },
  outside: async ({ newEmail }, { auth, headers }) => {
    if (newEmail === undefined) return;
    await auth.changeEmail(headers.get("authorization") ?? "", newEmail);
  },
  statement: ({ changes }) => sqlText`select public.update_profile(${jsonb(changes)}) as result`,
  facts: (result: ProfileFacts) => result,
  present: presentProfile,
  status: 200,
});
