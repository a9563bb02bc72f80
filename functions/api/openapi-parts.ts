/** What OpenAPI says beside the routes: headers, credentials, and the public routes. */

const whole = (description: string) => ({ description, schema: { type: "integer", minimum: 0 } });
const text = (description: string) => ({ description, schema: { type: "string" } });

/** Headers of answers. */
export const HEADERS = {
  "X-Request-Id": text("Id of the request, as the log has it"),
  "API-Version": {
    description: "The edition of the answer; of merged ones the caller's own",
    schema: { type: "string", enum: ["1", "2", "3"] },
  },
  "X-RateLimit-Limit": whole("Requests of the window"),
  "X-RateLimit-Remaining": whole("Of them left"),
  "X-RateLimit-Reset": whole("Unix seconds at which the window begins anew"),
  RateLimit: text("What is left of both windows, as the IETF draft has it"),
  "RateLimit-Policy": text("Both windows, as the IETF draft has it"),
  "Retry-After": whole("Seconds after which to ask again"),
  "Supabase-RateLimit-Remaining": whole("Changes over PostgREST left in this minute"),
  "Supabase-Auth-Rate-Limit": whole(
    "Requests to Auth left in this hour; absent where nobody counts them",
  ),
  Location: text("Path of what was made"),
  "Idempotency-Replayed": text("true when this is the kept answer of an earlier request"),
};

/** Those of each answer to a caller who has proved who they are. */
export const COMMON_HEADERS = [
  "X-Request-Id",
  "API-Version",
  "X-RateLimit-Limit",
  "X-RateLimit-Remaining",
  "X-RateLimit-Reset",
  "RateLimit",
  "RateLimit-Policy",
];
/** Edition 2's beside them. */
export const SUPABASE_HEADERS = ["Supabase-RateLimit-Remaining", "Supabase-Auth-Rate-Limit"];

/** An access token goes with the project's publishable key, an API key alone. */
export const SECURITY_SCHEMES = {
  accessToken: {
    type: "http",
    scheme: "bearer",
    bearerFormat: "JWT",
    description: "Access token of Supabase Auth",
  },
  publishableKey: {
    type: "apiKey",
    in: "header",
    name: "apikey",
    description: "Publishable key of the project",
  },
  apiKey: {
    type: "apiKey",
    in: "header",
    name: "X-API-Key",
    description: "API key of a user or an agent: alk_…",
  },
};

const state = {
  type: "object",
  properties: {
    status: { type: "string", enum: ["healthy", "unhealthy"] },
    service: { type: "string" },
    version: { type: "string" },
    timestamp: { type: "string", format: "date-time" },
  },
  required: ["status", "service", "version", "timestamp"],
};
const whatever = { "application/json": { schema: { type: "object" } } };

/** Routes without credentials and editions, under the addresses that a domain in front gives them. */
export const SERVICE_PATHS = {
  "/health": {
    get: {
      operationId: "readServiceHealth",
      tags: ["service"],
      summary: "Whether the service answers",
      security: [],
      responses: {
        200: { description: "It does", content: { "application/json": { schema: state } } },
        503: {
          description: "The database does not answer",
          content: { "application/json": { schema: state } },
        },
      },
    },
  },
  "/metrics": {
    get: {
      operationId: "readServiceMetrics",
      tags: ["service"],
      summary: "Figures of this instance for Prometheus",
      security: [],
      responses: {
        200: { description: "Figures", content: { "text/plain": { schema: { type: "string" } } } },
      },
    },
  },
  "/api/openapi.json": {
    get: {
      operationId: "readOpenApi",
      tags: ["service"],
      summary: "This document",
      security: [],
      parameters: [{
        name: "edition",
        in: "query",
        description: "Which edition's; a header API-Version says the same",
        schema: { type: "integer", enum: [1, 2, 3] },
      }],
      responses: {
        200: { description: "An OpenAPI 3.1 document", content: whatever },
        304: { description: "It is still as If-None-Match says" },
        400: { description: "VALIDATION_ERROR", content: whatever },
      },
    },
  },
};
