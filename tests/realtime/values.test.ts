import { beforeAll, describe, expect, test } from "vitest";
import { listen, POLL } from "./support/listen.ts";
import { startRealtime, type TestRealtime } from "./support/realtime.ts";
import { openWire } from "./support/wire.ts";

const values: [type: string, value: string][] = [
  ["boolean", "true"],
  ["smallint", "-3"],
  ["bigint", "'9007199254740993'"],
  ["numeric", "'12345678901234567890.12300'"],
  ["numeric", "'NaN'"],
  ["double precision", "'1e+30'"],
  ["double precision", "'-Infinity'"],
  ["real", "0.1"],
  ["text", `E'quote " and back\\\\slash\\n'`],
  ["varchar(10)", "'ten'"],
  ["char(5)", "'abc'"],
  ["uuid", "'00000000-0000-4000-8000-000000000001'"],
  ["date", "'2026-02-03'"],
  ["time", "'10:11:12.5'"],
  ["timestamp", "'2026-02-03 04:05:06.789'"],
  ["timestamptz", "'2026-02-03 04:05:06+05:30'"],
  ["timestamptz", "'infinity'"],
  ["timestamptz", "'0044-03-15 00:00:00+00 BC'"],
  ["interval", "'1 day 2 hours'"],
  ["json", `'{"a": [1, null, "x"]}'`],
  ["jsonb", `'"a string"'`],
  ["jsonb", `'[{"b": 1.50}]'`],
  ["integer[]", "'{1,NULL,3}'"],
  ["text[]", `array['a,b', '"quoted"', null, '', 'null', E'back\\\\slash']`],
  ["integer[]", "'{{1,2},{3,4}}'"],
  ["integer[]", "'[2:3]={7,8}'"],
  ["timestamptz[]", "array['2026-02-03 04:05:06+00'::timestamptz]"],
  ["jsonb[]", `array['{"a": "}"}'::jsonb, '[1,2]']`],
  ["boolean[]", "'{t,f}'"],
  ["int4range", "'[1,5)'"],
  ["inet", "'10.0.0.1/8'"],
  ["bytea", "'\\x00ff'"],
  ["oid", "'4294967295'"],
  ["public.mood", "'happy'"],
  ["public.score", "'42'"],
  ["public.pair", `row(7, 'a "b", (c)')`],
  ["public.pair[]", `array[row(1, null)::public.pair, row(2, 'x')::public.pair]`],
  ["text", "null"],
];

let realtime: TestRealtime;
beforeAll(async () => {
  const columns = values.map(([type], index) => `v${index} ${type}`).join(", ");
  realtime = await startRealtime({
    schema: `
      create type public.mood as enum ('happy', 'sad');
      create domain public.score as integer check (value between 0 and 100);
      create type public.pair as (number integer, word text);
      create table public.samples (id integer primary key, ${columns});
      grant select on public.samples to anon;
      alter publication supabase_realtime add table public.samples;
    `,
  });
  await realtime.database.sql.unsafe(`set timezone = 'Asia/Tokyo'`);
});

describe("values", () => {
  test("of every type arrive as to_jsonb writes them", async () => {
    const wire = await openWire(realtime.url, realtime.anonKey);
    let text = "";
    wire.socket.addEventListener("message", ({ data }) => {
      if (String(data).includes("samples")) text = String(data);
    });
    const binding = { event: "INSERT", schema: "public", table: "samples" };
    await wire.join("realtime:values", { postgres_changes: [binding] });
    await wire.event("system");
    await realtime.database.sql.unsafe(
      `insert into public.samples values (1, ${values.map(([, value]) => value).join(", ")})`,
    );
    const { data } = await wire.event("postgres_changes");
    // bytea is the one type that Realtime writes as text and to_jsonb does too; oid is a string in both.
    const [row] = await realtime.admin`
      select to_jsonb(samples) as record, to_jsonb(samples)::text as text from public.samples`;
    expect(data.record).toEqual(row!.record);
    // Digits that a double cannot hold must be in the frame all the same.
    expect(text).toContain("9007199254740993");
    expect(text).toContain("12345678901234567890.12300");
    expect(data.columns.map(({ type }: { type: string }) => type)).toEqual(
      expect.arrayContaining(["int4", "timestamptz", "_text", "jsonb", "mood", "bpchar"]),
    );
  });
});

describe("filters that only Postgres can decide", () => {
  test.each([
    ["numeric by value, not by spelling", "v3=eq.12345678901234567890.123", true],
    ["a timestamp's order", "v15=lt.2026-02-03T00:00:00Z", true],
    ["a timestamp's order, the other way", "v15=gt.2026-02-03T00:00:00Z", false],
    ["a regular expression", "v8=match.^quote", true],
    ["is null", "v37=is.null", true],
    ["is not null", "v37=not.is.null", false],
    ["a boolean", "v0=is.true", true],
    ["a null compared", "v37=eq.x", false],
    ["distinct from null", "v37=isdistinct.x", true],
  ])("%s", async (_, filter, matches) => {
    const heard = await listen(realtime.client(), {
      changes: [{ event: "UPDATE", schema: "public", table: "samples", filter }],
    });
    const witness = await listen(realtime.client(), {
      changes: [{ event: "UPDATE", schema: "public", table: "samples" }],
    });
    await realtime.database.sql`update public.samples set v1 = v1 + 1`;
    await expect.poll(() => witness.changes.length, POLL).toBe(1);
    await expect.poll(() => heard.changes.length, POLL).toBe(matches ? 1 : 0);
  });
});
