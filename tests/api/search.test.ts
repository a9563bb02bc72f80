import { beforeAll, describe, expect, it } from "vitest";
import { search3 } from "../../shared/contract/responses/edition-3.ts";
import { createTestApi, type Persona, type TestApi } from "./support/test-api.ts";

let test: TestApi;
let owner: Persona;

beforeAll(async () => {
  test = await createTestApi();
  owner = await test.user();
  await test.running(owner, {
    agentName: "trading-bot",
    description: "AI trading assistant",
    platforms: ["discord"],
  });
  await test.create(owner, { agentName: "R&D <helper>", platforms: ["telegram"] });
});

const search = (query: Record<string, string>, edition?: 1 | 2 | 3) =>
  test.call("GET", `/api/agents/search?${new URLSearchParams(query)}`, { as: owner, edition });

describe("GET /api/agents/search", () => {
  it("answers as seed 000 documents", async () => {
    const { json, headers } = await search({ q: "trading" });
    expect(headers.get("api-version")).toBe("3");
    expect(search3.safeParse(json).error).toBeUndefined();
    expect(json).toMatchObject({
      results: [{
        name: "trading-bot",
        description: "AI trading assistant",
        status: "running",
        platform: "discord",
        relevance_score: 0.95,
        highlighted_fields: {
          name: "<mark>trading</mark>-bot",
          description: "AI <mark>trading</mark> assistant",
        },
      }],
      total_results: 1,
    });
  });

  it.each([1, 2, 3] as const)(
    "is the same in edition %i: one document knows it",
    async (edition) => {
      expect(search3.safeParse((await search({ q: "trading" }, edition)).json).error)
        .toBeUndefined();
    },
  );

  it("measures its time", async () => {
    const began = performance.now();
    const { json } = await search({ q: "trading" });
    expect(json.search_time).toMatch(/^\d+ms$/);
    expect(Number.parseInt(json.search_time)).toBeLessThanOrEqual(performance.now() - began + 1);
  });

  it("forgives a typing error", async () => {
    expect((await search({ q: "traidng" })).json.results[0].name).toBe("trading-bot");
  });

  it("gives highlights that are safe in a page", async () => {
    const { json } = await search({ q: "helper" });
    expect(json.results[0].highlighted_fields.name).toBe("R&amp;D &lt;<mark>helper</mark>&gt;");
  });

  it.each([
    [{ status: "running" }, ["trading-bot"]],
    [{ status: "deploying" }, ["R&D <helper>"]],
    [{ platform: "Telegram" }, ["R&D <helper>"]],
    [{ created_before: "2020-01-01" }, []],
    [{ created_after: "1h", sort: "name" }, ["R&D <helper>", "trading-bot"]],
    [{ sort: "name", order: "desc" }, ["trading-bot", "R&D <helper>"]],
    [{ sort: "name", limit: "1", offset: "1" }, ["trading-bot"]],
  ])("%j gives %j", async (query, names) => {
    const { json } = await search(query as unknown as Record<string, string>);
    expect(json.results.map((each: { name: string }) => each.name)).toEqual(names);
  });

  it.each(["cpu_usage", "memory_usage", "last_activity", "created_at"])(
    "sorts by %s",
    async (sort) => {
      expect((await search({ sort })).json.total_results).toBe(2);
    },
  );

  it("names all bad parameters at once", async () => {
    const { status, json } = await search({
      q: "\0",
      status: "happy",
      platform: "?",
      created_after: "soon",
      created_before: "late",
      sort: "colour",
      order: "up",
      limit: "0",
      offset: "-1",
    });
    expect(status).toBe(400);
    expect(json.error.code).toBe("VALIDATION_ERROR");
    expect(Object.keys(json.error.details).sort()).toEqual([
      "created_after",
      "created_before",
      "limit",
      "offset",
      "order",
      "platform",
      "q",
      "sort",
      "status",
    ]);
  });

  it("finds nothing of another user", async () => {
    const stranger = await test.user();
    const { json } = await test.call("GET", "/api/agents/search?q=trading", { as: stranger });
    expect(json).toMatchObject({ results: [], total_results: 0 });
  });

  it("needs a credential", async () => {
    expect((await test.call("GET", "/api/agents/search?q=trading")).status).toBe(401);
  });
});
