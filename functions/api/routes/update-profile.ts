import { profileBody } from "../../../shared/contract/profile-requests.ts";
import { parseInput } from "../../../shared/contract/validation.ts";
import { runAsCaller } from "../../../shared/database/caller.ts";
import { jsonb, sqlText } from "../../../shared/database/literal.ts";
import { presentProfile, type ProfileFacts } from "../presenters/profile.ts";
import { defineRoute } from "../route.ts";

/**
 * `PUT /api/users/profile`: changes what is named. A new address goes to Supabase Auth first, after
 * SQL has agreed to all changes, so that a refusal of either leaves all as it was. Auth changes it
 * with the caller's own token and has it confirmed. With an API key there is no token: an
 * administrator's sets the address at once, and any other is refused (INSUFFICIENT_PERMISSIONS 403).
 */
export const handler = defineRoute({
  input: ({ body }) => {
    const { email, notifications, notification_preferences, user_metadata } = parseInput(
      profileBody,
      body,
    );
    const preferences = notifications === undefined && notification_preferences === undefined
      ? undefined
      : { ...notifications, ...notification_preferences };
    return { email, changes: { notification_preferences: preferences, user_metadata } };
  },
  outside: async ({ email, changes }, { auth, caller, headers, request, sql }) => {
    if (email === undefined) return;
    const asked = jsonb({ ...changes, email });
    const check = sqlText`select private.check_profile_changes(${asked}) as result`;
    const isAnother = await runAsCaller<boolean>(sql, caller, request, check);
    if (!isAnother) return;
    if (caller.apiKeyId !== null) await auth.setEmail(caller.userId, email);
    else await auth.changeEmail(headers.get("authorization") ?? "", email);
  },
  statement: ({ changes }) => sqlText`select public.update_profile(${jsonb(changes)}) as result`,
  facts: (result: ProfileFacts) => result,
  present: presentProfile,
  status: 200,
});
