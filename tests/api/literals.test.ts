import { describe, expect, it } from "vitest";
import { bytea, jsonb, sqlText, textArray } from "../../shared/database/literal.ts";
import { runStatements } from "../../shared/database/caller.ts";
import { createTestDatabase } from "../support/database.ts";

const nasty = [
  "'",
  "''; drop table agents; --",
  "\\",
  "\\'",
  "E'\\'",
  "$$",
  "$1",
  "%s",
  "?",
  "/*",
  "*/ '",
  "--",
  ";",
  "\n'\r\t",
  "\u2019",
  "🙂'",
  '"',
  "{a,b}",
  "NULL",
  "\u0085\u2028",
];

describe("literals", () => {
  it("refuse NUL, which would end the message", () => {
    expect(() => sqlText`select ${"a\0b"}`).toThrow(RangeError);
  });

  it("refuse numbers that SQL cannot write", () => {
    expect(() => sqlText`select ${Number.NaN}`).toThrow(RangeError);
  });

  it("keep a negative number out of a comment", () => {
    expect(sqlText`select 1 -${-1}`.text).toBe("select 1 - -1");
  });

  it("come back as they went, whatever they hold", async () => {
    const { sql } = await createTestDatabase();
    const random = Array.from({ length: 200 }, () =>
      String.fromCodePoint(
        ...Array.from({ length: 12 }, () => 1 + Math.floor(Math.random() * 0xd7fe)),
      ));
    for (const text of [...nasty, ...random]) {
      const bytes = new TextEncoder().encode(text);
      const [rows] = await runStatements(sql, [
        sqlText`select ${text} as text,${jsonb({ [text]: [text] })} as json,${
          textArray([text, text])
        } = array[${text},${text}] as list,${bytea(bytes)} = convert_to(${text}, 'UTF8') as bytes`,
      ]);
      expect(rows![0]).toEqual({ text, json: { [text]: [text] }, list: true, bytes: true });
    }
  });
});
