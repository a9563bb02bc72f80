import { z } from "zod";
import { type Edition, EDITIONS } from "../../shared/contract/editions.ts";
import { type Endpoint, type EndpointName, ENDPOINTS } from "../../shared/contract/endpoints.ts";
import { ERROR_STATUS, type ErrorCode } from "../../shared/contract/errors.ts";
import { type Operation, OPERATIONS } from "../../shared/contract/operations.ts";
import { error1 } from "../../shared/contract/responses/edition-1.ts";
import { error2 } from "../../shared/contract/responses/edition-2.ts";
import { error3 } from "../../shared/contract/responses/edition-3.ts";
import { mergeSchemas } from "./merge-schemas.ts";
import {
  COMMON_HEADERS,
  HEADERS,
  SECURITY_SCHEMES,
  SERVICE_PATHS,
  SUPABASE_HEADERS,
} from "./openapi-parts.ts";
import { codeInEdition } from "./presenters/error.ts";

/** A JSON schema, or any other part of a document. */
export type Part = { [key: string]: unknown };

const ERRORS: Record<Edition, z.ZodType> = { 1: error1, 2: error2, 3: error3 };

/** What any request with a credential can end with. */
const ALWAYS: readonly ErrorCode[] = [
  "VALIDATION_ERROR",
  "AUTHENTICATION_FAILED",
  "INVALID_JWT_TOKEN",
  "INVALID_API_KEY",
  "PERMISSION_DENIED",
  "RLS_ACCESS_DENIED",
  "RATE_LIMIT_EXCEEDED",
  "INTERNAL_ERROR",
  "SUPABASE_CONNECTION_ERROR",
];
const OF_BODIES: readonly ErrorCode[] = ["PAYLOAD_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE"];
const OF_KEYS: readonly ErrorCode[] = ["IDEMPOTENCY_KEY_IN_FLIGHT", "IDEMPOTENCY_KEY_REUSED"];

/** Whether a request may have a body: what writes is read whole, whatever the method. */
const mayHaveBody = ({ method }: Endpoint) => method !== "GET";

/** Codes by status that an endpoint can answer with, in the words of the editions. */
export function errorsOf(
  name: EndpointName,
  editions: readonly Edition[],
): Map<number, Set<ErrorCode>> {
  const endpoint: Endpoint = ENDPOINTS[name];
  const raised = [
    ...ALWAYS,
    ...(mayHaveBody(endpoint) ? OF_BODIES : []),
    ...(endpoint.method === "POST" ? OF_KEYS : []),
    ...OPERATIONS[name].errors,
  ];
  const found = new Map<number, Set<ErrorCode>>();
  for (const edition of editions) {
    for (const code of raised.map((each) => codeInEdition(edition, each))) {
      const status = ERROR_STATUS[code];
      found.set(status, (found.get(status) ?? new Set()).add(code));
    }
  }
  return new Map([...found].sort(([one], [other]) => one - other));
}

/** What zod says beyond what a reader needs: patterns of formats, the largest safe number. */
function simplify(schema: Part): void {
  if (schema.format !== undefined) delete schema.pattern;
  if (schema.maximum === Number.MAX_SAFE_INTEGER) delete schema.maximum;
  if (schema.minimum === Number.MIN_SAFE_INTEGER) delete schema.minimum;
  const names = schema.propertyNames as Part | undefined;
  if (names !== undefined && Object.keys(names).join() === "type") delete schema.propertyNames;
}

/** The JSON schema of what is sent. Answers are in it as they are sent too, further fields allowed. */
function jsonSchema(schema: z.ZodType): Part {
  const { $schema: _, ...json } = z.toJSONSchema(schema, {
    io: "input",
    unrepresentable: "any",
    override: ({ zodSchema, jsonSchema }) => {
      simplify(jsonSchema as Part);
      const { def } = zodSchema._zod;
      // Beside a transformation zod leaves it out, because it is of the other side.
      if (def.type === "default") (jsonSchema as Part).default = def.defaultValue;
    },
  });
  return json;
}

const capitalized = (name: string) => name[0]!.toUpperCase() + name.slice(1);
const reference = (kind: string, name: string) => ({ $ref: `#/components/${kind}/${name}` });
const json = (schema: Part) => ({ "application/json": { schema } });

/** The schema of an answer in one edition, or in all that know it put together. */
function answerSchema(
  schemas: Partial<Record<Edition, z.ZodType>>,
  editions: readonly Edition[],
): Part {
  return editions.flatMap((edition) => schemas[edition] ?? [])
    .map(jsonSchema)
    .reduce(mergeSchemas);
}

function queryParameters({ query }: Operation, edition: Edition): Part[] {
  if (query === undefined) return [];
  const schema = jsonSchema(query(edition));
  return Object.entries(schema.properties as Record<string, Part>)
    .map(([name, { description, ...rest }]) => ({
      name,
      in: "query",
      ...(description === undefined ? {} : { description }),
      schema: rest,
    }));
}

/** A document in the making: what its operations refer to collects in it. */
interface Draft {
  asked: Edition | null;
  schemas: Record<string, Part>;
  /** Answers that tell of errors, which many operations share. */
  responses: Record<string, Part>;
}

function operation(name: EndpointName, draft: Draft): Part {
  const endpoint: Endpoint = ENDPOINTS[name];
  const described: Operation = OPERATIONS[name];
  const { asked, schemas } = draft;
  const editions = asked === null ? endpoint.documented : [asked];
  const title = capitalized(name);
  schemas[`${title}Answer`] = answerSchema(described.answers, editions);
  const content: Part = json(reference("schemas", `${title}Answer`));
  if (described.streams !== undefined) {
    schemas[`${title}Piece`] = answerSchema(described.streams, editions);
    content["application/x-ndjson"] = { schema: reference("schemas", `${title}Piece`) };
    content["text/event-stream"] = { schema: { type: "string" } };
  }
  const parameters: Part[] = queryParameters(described, editions.at(-1)!);
  if (endpoint.path.includes("{id}")) parameters.unshift(reference("parameters", "Id"));
  if (asked !== null) parameters.push(reference("parameters", "ApiVersion"));
  if (endpoint.method === "POST") parameters.push(reference("parameters", "IdempotencyKey"));
  if (described.body !== undefined) schemas[`${title}Body`] = jsonSchema(described.body);
  return {
    operationId: name,
    tags: [(endpoint.public ?? endpoint.path).split("/")[endpoint.public ? 1 : 2]],
    summary: described.summary,
    description: [
      described.description,
      `Documented in edition ${endpoint.documented.join(", ")}.`,
      endpoint.forAgents && "The key of the agent may call it.",
    ].filter(Boolean).join(" "),
    ...(parameters.length > 0 && { parameters }),
    ...(described.body !== undefined && {
      requestBody: {
        // No body at all is read as {}.
        required: !described.body.safeParse({}).success,
        content: json(reference("schemas", `${title}Body`)),
      },
    }),
    responses: {
      [described.status]: {
        description: described.summary,
        headers: headers(
          asked,
          described.located && "Location",
          endpoint.method === "POST" && "Idempotency-Replayed",
        ),
        content,
      },
      ...errorResponses(name, draft),
    },
    ...(endpoint.public !== undefined && { security: [{ accessToken: [], publishableKey: [] }] }),
  };
}

function errorResponses(name: EndpointName, { asked, responses }: Draft): Part {
  const found: Part = {};
  for (const [status, codes] of errorsOf(name, asked === null ? EDITIONS : [asked])) {
    const title = `${status} ${[...codes].sort().join(" ")}`.replaceAll(" ", ".");
    responses[title] ??= {
      description: [...codes].sort().join(", "),
      headers: headers(asked, [409, 429, 503].includes(status) && "Retry-After"),
      content: json(reference("schemas", "Error")),
    };
    found[status] = reference("responses", title);
  }
  return found;
}

/** Headers that each answer carries, and further ones. */
function headers(asked: Edition | null, ...further: (string | false | undefined)[]): Part {
  const names = [...COMMON_HEADERS, ...(asked === null || asked === 2 ? SUPABASE_HEADERS : [])];
  names.push(...further.filter((name) => typeof name === "string"));
  return Object.fromEntries(names.map((name) => [name, reference("headers", name)]));
}

const ABOUT: Record<"all" | Edition, string> = {
  all:
    "All routes as they answer without an `API-Version` header: with the fields of every edition " +
    "that knows the route. Where editions clash (a state's letter case, a unit), that of the caller's " +
    "own edition stands: 1 with an API key, 3 with an access token. A client had better ask for one " +
    "edition: `?edition=1`, `2` or `3` gives its document.",
  1: "Edition 1, the first REST API. Each request sends `API-Version: 1`.",
  2: "Edition 2, the Supabase edition. Each request sends `API-Version: 2`. Tables, functions, Auth and " +
    "Realtime of the project stand beside it under `/rest/v1`, `/auth/v1` and `/realtime/v1`.",
  3: "Edition 3, the unified API. Each request sends `API-Version: 3`.",
};

/**
 * The OpenAPI 3.1 document of an edition, or with null of `/api` as it answers without `API-Version`.
 * Everything in it comes from `ENDPOINTS`, `OPERATIONS` and the error codes.
 */
export function openApiDocument(asked: Edition | null, version: string): Part {
  const editions = asked === null ? EDITIONS : [asked];
  const draft: Draft = { asked, schemas: { Error: errorSchema(editions) }, responses: {} };
  const paths: Record<string, Part> = {};
  for (const name of Object.keys(ENDPOINTS) as EndpointName[]) {
    const endpoint: Endpoint = ENDPOINTS[name];
    if (!editions.some((edition) => endpoint.documented.includes(edition))) continue;
    const path = paths[endpoint.public ?? endpoint.path] ??= {};
    path[endpoint.method.toLowerCase()] = operation(name, draft);
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "Agent Launchpad",
      version,
      description: ABOUT[asked ?? "all"],
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    // A domain in front of the project serves all of them: see SERVICE_PATHS.
    servers: [{ url: "/" }],
    security: [{ accessToken: [], publishableKey: [] }, { apiKey: [] }],
    paths: { ...paths, ...SERVICE_PATHS },
    components: {
      schemas: draft.schemas,
      responses: draft.responses,
      parameters: {
        Id: { name: "id", in: "path", required: true, schema: { type: "string", format: "uuid" } },
        ...(asked !== null && {
          ApiVersion: {
            name: "API-Version",
            in: "header",
            required: true,
            schema: { type: "string", enum: [String(asked)], default: String(asked) },
          },
        }),
        IdempotencyKey: {
          name: "Idempotency-Key",
          in: "header",
          description:
            "The same request with the same key is carried out once; its answer is kept 24 h.",
          schema: { type: "string", pattern: "^[!-~]{1,255}$" },
        },
      },
      headers: HEADERS,
      securitySchemes: SECURITY_SCHEMES,
    },
  };
}

function errorSchema(editions: readonly Edition[]): Part {
  const schema = answerSchema(ERRORS, editions);
  const codes = new Set(
    editions.flatMap((edition) =>
      (Object.keys(ENDPOINTS) as EndpointName[]).flatMap((name) =>
        [...errorsOf(name, [edition]).values()].flatMap((some) => [...some])
      )
    ),
  );
  const { error } = schema.properties as { error: { properties: Record<string, Part> } };
  error.properties.code = { type: "string", enum: [...codes].sort() };
  error.properties.details ??= { type: "object", additionalProperties: true };
  error.properties.hint = { type: "string" };
  return schema;
}
