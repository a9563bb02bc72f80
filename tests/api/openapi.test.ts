/** The OpenAPI documents: valid, whole, and what the function really does. */
import { Validator } from "@seriousme/openapi-schema-validator";
import { beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { errorsOf, openApiDocument } from "../../functions/api/openapi.ts";
import { ROUTES } from "../../functions/api/routes.ts";
import { type Edition, EDITIONS } from "../../shared/contract/editions.ts";
import { type Endpoint, type EndpointName, ENDPOINTS } from "../../shared/contract/endpoints.ts";
import { type Operation, OPERATIONS } from "../../shared/contract/operations.ts";
import { createTestApi, type Persona, type TestApi } from "./support/test-api.ts";

let test: TestApi;
let owner: Persona;

beforeAll(async () => {
  test = await createTestApi();
  owner = await test.user();
});

// deno-lint-ignore no-explicit-any -- a document has too many shapes to name
type Document = any;

const ASKED = [1, 2, 3, null] as const;
const document = (asked: Edition | null): Document =>
  JSON.parse(JSON.stringify(openApiDocument(asked, "1.2.3")));
const endpoints = Object.entries(ENDPOINTS) as [EndpointName, Endpoint][];
const operationOf = (document: Document, { method, path, public: address }: Endpoint) =>
  document.paths[address ?? path]?.[method.toLowerCase()];

describe.each(ASKED)("the document of edition %s", (asked) => {
  it("is OpenAPI 3.1", async () => {
    const { valid, errors } = await new Validator().validate(document(asked));
    expect(errors).toBeUndefined();
    expect(valid).toBe(true);
  });

  it("has each route that the edition knows, and no other", () => {
    const written = document(asked);
    for (const [name, endpoint] of endpoints) {
      const known = asked === null || endpoint.documented.includes(asked);
      expect([name, operationOf(written, endpoint)?.operationId]).toEqual([
        name,
        known ? name : undefined,
      ]);
    }
  });

  it("refers to nothing that is not there", () => {
    const written = document(asked);
    const references = [...JSON.stringify(written).matchAll(/"\$ref":"#\/([^"]+)"/g)];
    expect(references.length).toBeGreaterThan(0);
    for (const [, path] of references) {
      const found = path!.split("/").reduce((part, key) => part?.[key], written);
      expect([path, typeof found]).toEqual([path, "object"]);
    }
  });
});

describe("what is described", () => {
  it("is what the function is made of", async () => {
    expect(ROUTES.map(({ load: _, ...endpoint }) => endpoint)).toEqual(Object.values(ENDPOINTS));
    for (const [index, { load }] of ROUTES.entries()) {
      const [name] = endpoints[index]!;
      const { status, location } = await load();
      const described: Operation = OPERATIONS[name];
      expect([name, described.status, described.located ?? false])
        .toEqual([name, status, location !== undefined]);
    }
  });

  const written = document(null);
  const parameters = endpoints.flatMap(([, endpoint]) =>
    (operationOf(written, endpoint).parameters ?? [])
      .filter((parameter: Document) => parameter.in === "query")
      .map((parameter: Document) => [endpoint.path, parameter] as const)
  );

  it.each(parameters.map(([path, { name, schema }]) => [path, name, schema] as const))(
    "%s reads the parameter %s",
    async (path, name, schema) => {
      const id = path.includes("{id}") ? await test.create(owner) : "";
      // Text of any kind is taken by `q` alone, which has an end.
      const nonsense = schema.maxLength === undefined ? "?" : "?".repeat(schema.maxLength + 1);
      const query = new URLSearchParams({ [name]: nonsense });
      const answer = await test.call("GET", `${path.replace("{id}", id)}?${query}`, { as: owner });
      expect([answer.status, Object.keys(answer.json.error.details)]).toEqual([400, [name]]);
    },
  );

  const bodies = endpoints.filter(([name]) => "body" in OPERATIONS[name]);

  it.each(bodies.map(([name, endpoint]) => [endpoint.method, endpoint.path, name] as const))(
    "%s %s reads a body of the schema",
    async (method, path, name) => {
      const schema = operationSchema(written, ENDPOINTS[name]);
      const id = path.includes("{id}") ? await test.create(owner) : "";
      const wrong = schema.additionalProperties === false
        ? { no_such_field: 1 }
        : { [Object.keys(schema.properties)[0]!]: 1 };
      const answer = await test.call(method, path.replace("{id}", id), { as: owner, body: wrong });
      expect(answer.status, answer.text).toBe(400);
      expect(Object.keys(answer.json.error.details)).toContain(Object.keys(wrong)[0]);
    },
  );

  it("holds for answers that are merged of several editions", async () => {
    const id = await test.running(owner);
    for (const [name, endpoint] of endpoints) {
      if (endpoint.method !== "GET" || name === "exportAccount") continue;
      if (/batch|stacks\/|search/.test(endpoint.path)) continue;
      const answer = await test.call("GET", endpoint.path.replace("{id}", id), { as: owner });
      expect(answer.status, answer.text).toBe(200);
      const { $ref } =
        operationOf(written, endpoint).responses[200].content["application/json"].schema;
      const schema = z.fromJSONSchema(written.components.schemas[$ref.split("/").at(-1)]);
      expect(schema.safeParse(answer.json).error?.issues, name).toBeUndefined();
    }
  });
});

function operationSchema(written: Document, endpoint: Endpoint): Document {
  const { $ref } = operationOf(written, endpoint).requestBody.content["application/json"].schema;
  return written.components.schemas[$ref.split("/").at(-1)];
}

describe("GET /api/openapi.json", () => {
  const get = (query = "", headers: Record<string, string> = {}) =>
    test.call("GET", `/api/openapi.json${query}`, { headers });

  it("answers without credentials, by query or header", async () => {
    const [plain, asked, byHeader] = [
      await get(),
      await get("?edition=2"),
      await get("", { "API-Version": "2" }),
    ];
    expect([plain.status, plain.json.openapi]).toEqual([200, "3.1.0"]);
    expect(plain.headers.get("access-control-allow-origin")).toBe("*");
    expect(asked.json).toEqual(document2(asked.json.info.version));
    expect(byHeader.text).toBe(asked.text);
    expect(asked.text).not.toBe(plain.text);
  });

  it("is not sent again to who has it", async () => {
    const first = await get("?edition=3");
    const etag = first.headers.get("etag")!;
    expect(first.headers.get("cache-control")).toBe("public, max-age=300");
    const again = await get("?edition=3", { "If-None-Match": etag });
    expect([again.status, again.text]).toEqual([304, ""]);
    expect((await get("?edition=1", { "If-None-Match": etag })).status).toBe(200);
  });

  it("refuses an edition that there is not, and other methods", async () => {
    const unknown = await get("?edition=4");
    expect([unknown.status, unknown.json.error.details]).toEqual([400, {
      edition: "must be 1, 2 or 3",
    }]);
    const posted = await test.call("POST", "/api/openapi.json");
    expect([posted.status, posted.headers.get("allow")]).toEqual([405, "GET, HEAD, OPTIONS"]);
    expect((await test.call("OPTIONS", "/api/openapi.json")).status).toBe(204);
  });
});

const document2 = (version: string) => JSON.parse(JSON.stringify(openApiDocument(2, version)));

it("names errors in the words of the edition", () => {
  const unauthorized = EDITIONS.map((edition) => [...errorsOf("listAgents", [edition]).get(401)!]);
  expect(unauthorized).toEqual([["INVALID_API_KEY"], ["INVALID_JWT_TOKEN"], [
    "AUTHENTICATION_FAILED",
  ]]);
});
