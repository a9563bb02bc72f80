import { describeError } from "../errors.ts";
import { generateLink } from "./admin-links.ts";
import { changeUser, createUser, deleteUser, listUsers, showUser } from "./admin-users.ts";
import { health, jwks, showSettings } from "./about.ts";
import type { AuthContext } from "./context.ts";
import { authorize, authorizeByPost, authorizeLinking } from "./external/authorize.ts";
import { callback } from "./external/callback.ts";
import { idTokenGrant } from "./external/id-token-grant.ts";
import { unlinkIdentity } from "./external/identities.ts";
import { AuthError, badRequest, errorResponse, internal } from "./errors.ts";
import { logout } from "./logout.ts";
import { invite, recover, resend, sendMagicLink } from "./mail-requests.ts";
import { passwordGrant } from "./password-grant.ts";
import { pkceGrant } from "./pkce.ts";
import { refreshGrant } from "./refresh.ts";
import { type AuthRequest, readRequest } from "./request.ts";
import { signUp } from "./signup.ts";
import { getUser, putUser, reauthenticate } from "./user.ts";
import { verifyByLink, verifyByPost } from "./verify.ts";

type Endpoint = (
  context: AuthContext,
  request: AuthRequest,
  /** The `:id` of the path. */
  id: string,
) => Promise<Response> | Response;

/** Every endpoint by method and path; `:id` stands for one segment. */
const ENDPOINTS: Record<string, Endpoint> = {
  "GET /health": health,
  "GET /settings": showSettings,
  "GET /.well-known/jwks.json": jwks,
  "POST /signup": signUp,
  "POST /token": token,
  "POST /logout": logout,
  "GET /user": getUser,
  "PUT /user": putUser,
  "GET /reauthenticate": reauthenticate,
  "POST /recover": recover,
  "POST /resend": resend,
  "POST /otp": sendMagicLink,
  "POST /magiclink": sendMagicLink,
  "GET /verify": verifyByLink,
  "POST /verify": verifyByPost,
  "POST /invite": invite,
  "GET /authorize": authorize,
  "POST /authorize": authorizeByPost,
  "GET /callback": callback,
  "POST /callback": callback,
  "GET /user/identities/authorize": authorizeLinking,
  "DELETE /user/identities/:id": unlinkIdentity,
  "GET /admin/users": listUsers,
  "POST /admin/users": createUser,
  "GET /admin/users/:id": showUser,
  "PUT /admin/users/:id": changeUser,
  "DELETE /admin/users/:id": deleteUser,
  "POST /admin/generate_link": generateLink,
};

const ROUTES = Object.entries(ENDPOINTS).map(([route, endpoint]) => {
  const [method, path] = route.split(" ") as [string, string];
  const pattern = path.replaceAll(".", "\\.").replace(":id", "([^/]+)");
  return { method, path: new RegExp(`^${pattern}/?$`), endpoint };
});

/** Answers one request; every failure becomes Auth's error body. */
export async function answer(context: AuthContext, request: Request): Promise<Response> {
  const requestId = request.headers.get("x-request-id") ?? crypto.randomUUID();
  const incoming = readRequest(request);
  try {
    const response = await route(context, incoming);
    incoming.responseHeaders.forEach((value, name) => response.headers.set(name, value));
    return response;
  } catch (error) {
    const refusal = databaseRefusal(error) ??
      (error instanceof AuthError ? error : unexpected(error));
    report(context, incoming, refusal, requestId);
    return errorResponse(refusal, request, requestId);
  }
}

async function route(context: AuthContext, request: AuthRequest): Promise<Response> {
  const { pathname } = request.url;
  const matching = ROUTES.filter(({ path }) => path.test(pathname));
  const found = matching.find(({ method }) => method === request.method);
  if (found !== undefined) {
    const id = found.path.exec(pathname)![1] ?? "";
    return await found.endpoint(context, request, id);
  }
  if (matching.length === 0) return new Response("404 page not found\n", { status: 404 });
  return new Response(null, {
    status: 405,
    headers: { allow: matching.map(({ method }) => method).join(", ") },
  });
}

async function token(context: AuthContext, request: AuthRequest): Promise<Response> {
  const grant = request.url.searchParams.get("grant_type");
  const grants: Record<string, Endpoint> = {
    password: passwordGrant,
    refresh_token: refreshGrant,
    pkce: pkceGrant,
    id_token: idTokenGrant,
  };
  const endpoint = grants[grant ?? ""];
  if (endpoint === undefined) throw badRequest("invalid_credentials", "unsupported_grant_type");
  context.limiter.take("tokenRefresh", request.ip ?? "unknown");
  return await endpoint(context, request, "");
}

/** What some refusals of the database mean to the client, whichever endpoint ran into them. */
function databaseRefusal(error: unknown): AuthError | null {
  const cause = error instanceof AuthError ? error.options.cause : error;
  switch ((cause as { code?: string } | undefined)?.code) {
    case "55P03": // lock_not_available
      return new AuthError(
        504,
        "request_timeout",
        "Processing this request timed out, please retry after a moment.",
        { cause },
      );
    case "22021": // character_not_in_repertoire: a NUL in a query parameter
    case "22P05": // untranslatable_character
      return badRequest("validation_failed", "Unicode NUL characters are not supported");
    default:
      return null;
  }
}

function unexpected(cause: unknown): AuthError {
  return internal("Unexpected failure, please check server logs for more information", cause);
}

/** Says what went wrong on our side. Bodies, tokens and addresses stay out of the log. */
function report(
  context: AuthContext,
  request: AuthRequest,
  refusal: AuthError,
  requestId: string,
): void {
  const fields = {
    method: request.method,
    path: request.url.pathname,
    status: refusal.status,
    code: refusal.code,
    request_id: requestId,
  };
  if (refusal.status < 500) {
    context.log.debug("request refused", fields);
    return;
  }
  const cause = refusal.options.cause;
  context.log.error(refusal.message.split("\n")[0]!, {
    ...fields,
    ...(cause !== undefined && { cause: describeError(cause) }),
  });
}
