/** What `/` tells of the API, as generators of clients read it. */
import { Validator } from "@seriousme/openapi-schema-validator";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { library, type RestUnderTest, startRest } from "./support.ts";

const operation = z.object({
  parameters: z.array(z.looseObject({})),
  summary: z.string().optional(),
});
const description = z.object({
  swagger: z.literal("2.0"),
  host: z.string(),
  basePath: z.literal("/rest/v1"),
  paths: z.record(z.string(), z.record(z.string(), z.unknown())),
  definitions: z.record(
    z.string(),
    z.object({
      description: z.string().optional(),
      required: z.array(z.string()).optional(),
      properties: z.record(z.string(), z.looseObject({})),
      type: z.literal("object"),
    }),
  ),
  parameters: z.record(z.string(), z.looseObject({ name: z.string(), in: z.string() })),
});

let service: RestUnderTest;
let text: string;
let described: z.infer<typeof description>;

beforeAll(async () => {
  service = await startRest(`${library}
    comment on table public.books is 'What was written.';
    comment on column public.books.title is 'As it stands on the cover.';
    create type public.mood as enum ('glad', 'sad');
    create table public.readers (id uuid primary key default gen_random_uuid(), mood public.mood,
      code varchar(12) not null default 'none', tags text[] not null default '{}', active boolean not null default true);
    create view public.titles with (security_invoker = true) as select distinct title from public.books;
    grant select on public.readers, public.titles to service_role;
    create table public.hidden (id int primary key);
    create function public.rename(book_id int, title text default 'Untitled') returns void language sql volatile
      as 'update public.books set title = $2 where id = $1';
    comment on function public.rename is 'Gives a book another title.';
    create function public.cheapest(ids int[]) returns setof public.books language sql stable
      as 'select * from public.books where id = any (ids) order by price limit 1';
    create function public.unused() returns int language sql as 'select 1';
    grant execute on function public.rename, public.cheapest to service_role;
    revoke execute on function public.unused from public;`);
  const answer = await service.request("/", { token: await service.token("service_role") });
  expect(answer.headers.get("content-type")).toBe("application/openapi+json; charset=utf-8");
  text = await answer.text();
  described = description.parse(JSON.parse(text));
});
afterAll(() => service.close());

describe("a table", () => {
  it("has a definition with comments, types, keys and defaults", () => {
    expect(described.definitions.books).toEqual({
      description: "What was written.",
      required: ["id", "title"],
      properties: {
        id: {
          description: "Note:\nThis is a Primary Key.<pk/>",
          type: "integer",
          format: "int32",
        },
        author_id: {
          description:
            "Note:\nThis is a Foreign Key to `authors.id`.<fk table='authors' column='id'/>",
          type: "integer",
          format: "int64",
        },
        title: { description: "As it stands on the cover.", type: "string", format: "text" },
        price: { type: "number", format: "numeric" },
      },
      type: "object",
    });
    expect(described.definitions.readers?.properties).toEqual({
      id: expect.objectContaining({ format: "uuid", default: "gen_random_uuid()" }),
      mood: { type: "string", format: "mood", enum: ["glad", "sad"] },
      code: { type: "string", format: "character varying", default: "none", maxLength: 12 },
      tags: { type: "array", format: "text[]", items: { type: "string" } },
      active: { type: "boolean", format: "boolean", default: true },
    });
  });

  it("has a path with its filters", () => {
    const { get } = described.paths["/books"]!;
    expect(operation.parse(get).parameters).toContainEqual({
      $ref: "#/parameters/rowFilter.books.title",
    });
    expect(Object.keys(described.paths["/books"]!)).toEqual(["get", "post", "patch", "delete"]);
    expect(described.parameters["rowFilter.books.title"]).toMatchObject({ in: "query" });
  });

  it("that cannot be written has a path to read it only", () => {
    expect(Object.keys(described.paths["/titles"]!)).toEqual(["get"]);
  });

  it("that the caller may not touch is not told of", () => {
    expect(described.definitions).not.toHaveProperty("hidden");
    expect(described.paths).not.toHaveProperty("/hidden");
  });
});

describe("a function", () => {
  it("has a path with its arguments", () => {
    const { post } = described.paths["/rpc/rename"]!;
    expect(operation.parse(post)).toMatchObject({
      summary: "Gives a book another title.",
      parameters: [{
        in: "body",
        schema: {
          required: ["book_id"],
          properties: {
            book_id: { type: "integer", format: "int32" },
            title: { type: "string", format: "text" },
          },
        },
      }, { $ref: "#/parameters/preferParams" }],
    });
  });

  it("that changes nothing can be called by GET too", () => {
    expect(Object.keys(described.paths["/rpc/rename"]!)).toEqual(["post"]);
    expect(operation.parse(described.paths["/rpc/cheapest"]!.get).parameters).toEqual([
      { name: "ids", required: true, in: "query", type: "string", format: "integer[]" },
    ]);
  });

  it("that the caller may not call is not told of", () => {
    expect(described.paths).not.toHaveProperty("/rpc/unused");
  });

  it("that is a relationship is no path of its own", () => {
    expect(described.paths).not.toHaveProperty("/rpc/agent_events");
  });
});

it("is a valid document of Swagger 2.0", async () => {
  const validator = new Validator();
  expect(await validator.validate(JSON.parse(text))).toEqual({ valid: true });
  expect(validator.version).toBe("2.0");
});

it("every reference leads somewhere", () => {
  const references = [...text.matchAll(/"\$ref":"#\/(\w+)\/([^"]+)"/g)];
  const lost = references.filter(([, kind, name]) =>
    !(name! in (kind === "parameters" ? described.parameters : described.definitions))
  );
  expect(references.length).toBeGreaterThan(50);
  expect(lost).toEqual([]);
});

it("HEAD gives the same without the body", async () => {
  const answer = await service.request("/", {
    method: "HEAD",
    token: await service.token("service_role"),
  });
  expect([answer.status, await answer.text()]).toEqual([200, ""]);
});

it.each(["authenticated", "anon"])(
  "the role %s is told nothing, as on a hosted project",
  async (role) => {
    const answer = await service.request("/", { token: await service.token(role) });
    expect(answer.status).toBe(403);
  },
);
