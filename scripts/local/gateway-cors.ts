/** What the platform's services let a browser's script read, beyond the simple headers. */
const EXPOSED: Record<string, string> = {
  rest:
    "Content-Encoding, Content-Location, Content-Range, Content-Type, Date, Location, Server, " +
    "Transfer-Encoding, Range-Unit, Preference-Applied",
  auth: "X-Total-Count, Link, X-Supabase-Api-Version",
};

const METHODS = "GET,HEAD,PUT,PATCH,POST,DELETE,OPTIONS,TRACE,CONNECT";

/** Whether a browser asks if a script of another origin may send its request. */
export function isPreflight(request: Request): boolean {
  return request.method === "OPTIONS" && request.headers.has("access-control-request-method");
}

/** Allows what was asked for: credentials travel in headers, so no origin has more than another. */
export function preflight(request: Request): Response {
  const headers = new Headers({
    "access-control-allow-origin": "*",
    "access-control-allow-methods": METHODS,
    "access-control-max-age": "3600",
  });
  const asked = request.headers.get("access-control-request-headers");
  if (asked !== null) headers.set("access-control-allow-headers", asked);
  return new Response(null, { status: 204, headers });
}

/** Whether the service itself has answered a preflight. */
export function answersPreflight(answer: Response): boolean {
  return answer.ok && answer.headers.has("access-control-allow-origin");
}

/** `answer`, readable for scripts of every origin unless the service has its own rule. */
export function allowOrigin(answer: Response, service: string): Response {
  if (answer.status === 101 || answer.headers.has("access-control-allow-origin")) return answer;
  const readable = mutable(answer);
  readable.headers.set("access-control-allow-origin", "*");
  const exposed = EXPOSED[service];
  if (exposed !== undefined && !readable.headers.has("access-control-expose-headers")) {
    readable.headers.set("access-control-expose-headers", exposed);
  }
  return readable;
}

/** Headers of a `Response.redirect` or of fetch's own answer cannot be set. */
function mutable(answer: Response): Response {
  try {
    answer.headers.delete("x-none");
    return answer;
  } catch {
    return new Response(answer.body, answer);
  }
}
