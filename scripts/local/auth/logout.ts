import { audit } from "./audit.ts";
import { requireUser } from "./bearer.ts";
import type { AuthContext } from "./context.ts";
import { badRequest } from "./errors.ts";
import type { AuthRequest } from "./request.ts";

/**
 * `POST /logout?scope=global|local|others`: ends all sessions of the caller, this one, or all but
 * this one. Their refresh tokens go with them.
 *
 * @throws {AuthError} `validation_failed` (400) for another scope
 */
export async function logout(context: AuthContext, request: AuthRequest): Promise<Response> {
  const { user, session } = await requireUser(context, request);
  const scope = request.url.searchParams.get("scope") || "global";
  if (!["global", "local", "others"].includes(scope)) {
    throw badRequest("validation_failed", `Unsupported logout scope ${JSON.stringify(scope)}`);
  }
  await context.sql.begin(async (sql) => {
    await audit(sql, user, "logout");
    if (session !== null && scope === "local") {
      await sql`delete from auth.sessions where id = ${session.id}`;
    } else if (session !== null && scope === "others") {
      await sql`delete from auth.sessions where user_id = ${user.id} and id <> ${session.id}`;
    } else {
      await sql`delete from auth.sessions where user_id = ${user.id}`;
    }
  });
  return new Response(null, { status: 204 });
}
