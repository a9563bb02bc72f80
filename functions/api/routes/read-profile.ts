import { sqlText } from "../../../shared/database/literal.ts";
import { presentProfile, type ProfileFacts } from "../presenters/profile.ts";
import { defineRoute } from "../route.ts";

/** `GET /api/users/profile`. */
export const handler = defineRoute({
  input: () => ({}),
  statement: () => sqlText`select public.user_profile() as result`,
  facts: (result: ProfileFacts) => result,
  present: presentProfile,
  status: 200,
});
