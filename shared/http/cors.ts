/**
 * CORS: any page may call, because credentials travel in headers that a page must set itself and
 * never in cookies.
 */
const EXPOSED = [
  "X-Request-Id",
  "API-Version",
  "X-RateLimit-Limit",
  "X-RateLimit-Remaining",
  "X-RateLimit-Reset",
  "RateLimit-Policy",
  "RateLimit",
  "Supabase-RateLimit-Remaining",
  "Supabase-Auth-Rate-Limit",
  "Retry-After",
  "Idempotency-Replayed",
  "Location",
].join(", ");

export const CORS_HEADERS: Record<string, string> = {
  "Access-Control-Allow-Origin": "*",
  "Access-Control-Expose-Headers": EXPOSED,
};

/** Answer to a preflight request. */
export function preflight(methods: readonly string[], request: Request): Response {
  const asked = request.headers.get("access-control-request-headers");
  return new Response(null, {
    status: 204,
    headers: {
      ...CORS_HEADERS,
      "Access-Control-Allow-Methods": [...methods, "OPTIONS"].join(", "),
      // What a browser asks for is allowed: supabase-js adds headers of its own with each release.
      "Access-Control-Allow-Headers": asked ??
        "authorization, x-api-key, apikey, content-type, api-version, idempotency-key, " +
          "last-event-id, x-client-info, x-request-id",
      "Access-Control-Max-Age": "86400",
      "Vary": "Access-Control-Request-Headers",
      "Allow": [...methods, "OPTIONS"].join(", "),
    },
  });
}
