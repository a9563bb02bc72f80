import { describe, expect, test } from "vitest";
import { parseToml } from "../../scripts/local/toml.ts";

describe("config.toml", () => {
  test("is read with everything that Supabase's CLI writes into it", () => {
    const text = `
# A comment
project_id = "agent-launchpad" # behind a value too
[api]
port = 54_321
schemas = ["public", # the first is the default
  "graphql_public",
]
[auth.email]
enable_confirmations = false
max_frequency = "1s"
[auth.hook."custom_access_token"]
uri = 'pg-functions://postgres/private/hook'
options = { a = 1, b.c = "x\\ty\\u00e9" }
empty = {}
ratio = 0.5
`;
    expect(parseToml(text)).toEqual({
      project_id: "agent-launchpad",
      api: { port: 54321, schemas: ["public", "graphql_public"] },
      auth: {
        email: { enable_confirmations: false, max_frequency: "1s" },
        hook: {
          custom_access_token: {
            uri: "pg-functions://postgres/private/hook",
            options: { a: 1, b: { c: "x\ty\u00e9" } },
            empty: {},
            ratio: 0.5,
          },
        },
      },
    });
  });

  test.each([
    ["a value is missing", "a = \n", 1],
    ["a key comes twice", "a = 1\na = 2\n", 2],
    ["text follows a value", "a = 1 2\n", 1],
    ["a string is not closed", '\na = "x\n', 2],
    ["an array is not closed", "a = [1,\n2\n", 3],
    ["a date is none that it knows", "a = 2026-01-01T00:00:00Z\n", 1],
    ["a string goes over several lines", 'a = """x"""\n', 1],
    ["a table is a value already", "a = 1\n[a]\n", 2],
  ])("is refused by its line when %s", (_, text, line) => {
    expect(() => parseToml(text, "config.toml")).toThrow(`config.toml line ${line}:`);
  });

  test("cannot reach the prototype of objects", () => {
    parseToml('[__proto__]\npolluted = "yes"\n');
    expect(({} as Record<string, unknown>).polluted).toBeUndefined();
  });
});
