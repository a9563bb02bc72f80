import type { SupabaseClient } from "@supabase/supabase-js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { library, type RestUnderTest, startRest } from "./support.ts";

const ada = "aaaaaaaa-0000-4000-8000-000000000001";
const bob = "bbbbbbbb-0000-4000-8000-000000000002";

let service: RestUnderTest;
let asAda: SupabaseClient;
let asBob: SupabaseClient;
let anonymous: SupabaseClient;
let asService: SupabaseClient;

/** Of 1,500 rows the planner knows, 100 are gone since. */
const counted = `
  create table public.counted (n int primary key) with (autovacuum_enabled = false);
  insert into public.counted select generate_series(1, 1500);
  analyze public.counted;
  delete from public.counted where n > 1400;
  grant select on public.counted to authenticated;`;

beforeAll(async () => {
  service = await startRest(library + counted);
  const { token, client, database } = service;
  asAda = client(await token("authenticated", { sub: ada }));
  asBob = client(await token("authenticated", { sub: bob }));
  asService = client(await token("service_role"));
  anonymous = client();
  await database.sql`
    insert into public.authors (owner, name, born, scores) values
      (${ada}, 'Le Guin', '1929-10-21', '{1.50,2}'), (${ada}, 'Lem', '1921-09-12', '{}'),
      (${bob}, 'Borges', '1899-08-24', '{}')`;
  await database.sql`
    insert into public.books values
      (1, 1, 'The Dispossessed', 9.90), (2, 1, 'The Lathe of Heaven', 7), (3, 2, 'Solaris', 8.25),
      (4, 3, 'Ficciones', 6)`;
  await database.sql`insert into public.tags values (1, 'utopia'), (2, 'dream')`;
  await database.sql`insert into public.book_tags values (1, 1), (2, 2), (3, 2)`;
});

afterAll(() => service.close());

describe("reading", () => {
  it("filters and orders", async () => {
    const { data } = await asAda.from("books").select("title").gt("price", 6.5).neq("id", 3)
      .order("price", { ascending: false });
    expect(data).toEqual([{ title: "The Dispossessed" }, { title: "The Lathe of Heaven" }]);
  });

  it.each([
    ["in", (from: ReturnType<SupabaseClient["from"]>) => from.select("id").in("id", [1, 4]), [
      1,
      4,
    ]],
    ["is", (from: ReturnType<SupabaseClient["from"]>) => from.select("id").is("price", null), []],
    [
      "ilike",
      (from: ReturnType<SupabaseClient["from"]>) => from.select("id").ilike("title", "the %"),
      [1, 2],
    ],
    [
      "or",
      (from: ReturnType<SupabaseClient["from"]>) =>
        from.select("id").or("id.eq.4,and(price.gte.9,title.like.*Disp*)"),
      [1, 4],
    ],
    [
      "not",
      (from: ReturnType<SupabaseClient["from"]>) => from.select("id").not("id", "in", "(1,2,3)"),
      [4],
    ],
    [
      "match",
      (from: ReturnType<SupabaseClient["from"]>) =>
        from.select("id").match({ id: 3, author_id: 2 }),
      [3],
    ],
    [
      "textSearch",
      (from: ReturnType<SupabaseClient["from"]>) =>
        from.select("id").textSearch("title", "lathe & heaven"),
      [2],
    ],
  ])("knows the filter %s", async (_name, query, ids) => {
    const { data, error } = await query(asAda.from("books")).order("id");
    expect(error).toBeNull();
    expect((data as { id: number }[]).map((row) => row.id)).toEqual(ids);
  });

  it("embeds to one, to many and over a join table", async () => {
    const { data, error } = await asAda.from("books")
      .select("title, author:authors(name), tags(label)").eq("id", 1).single();
    expect(error).toBeNull();
    expect(data).toEqual({
      title: "The Dispossessed",
      author: { name: "Le Guin" },
      tags: [{ label: "utopia" }],
    });
  });

  it("filters by an embedded row with !inner", async () => {
    const { data } = await asAda.from("books").select("id, tags!inner(label)").eq(
      "tags.label",
      "dream",
    )
      .order("id");
    expect(data!.map((row) => row.id)).toEqual([2, 3]);
  });

  it("counts and gives a range", async () => {
    const { data, count, status } = await asAda.from("books").select("id", { count: "exact" })
      .order("id").range(1, 2);
    expect({ data, count, status }).toEqual({
      data: [{ id: 2 }, { id: 3 }],
      count: 4,
      status: 206,
    });
  });

  describe("a count that need not be exact", () => {
    const count = async (count: "exact" | "planned" | "estimated") =>
      (await asAda.from("counted").select("n", { count, head: true })).count;

    it("is the planner's when it is to be planned", async () => {
      expect([await count("exact"), await count("planned")]).toEqual([1400, 1500]);
    });

    it("is the planner's when it is to be estimated and there are more rows than an answer holds", async () => {
      expect(await count("estimated")).toBe(1500);
    });

    it("is exact when it is to be estimated and there are few rows", async () => {
      const { data, count } = await asAda.from("counted").select("n", { count: "estimated" })
        .lt("n", 8).order("n").limit(2);
      expect({ data, count }).toEqual({ data: [{ n: 1 }, { n: 2 }], count: 7 });
    });
  });

  it("counts without rows on HEAD", async () => {
    const { data, count } = await asAda.from("books").select("*", { count: "exact", head: true });
    expect({ data, count }).toEqual({ data: null, count: 4 });
  });

  it("gives numbers, times and json as Postgres's JSON does", async () => {
    const { data } = await asAda.from("authors").select("scores, seen_at, born, facts").eq("id", 1)
      .single();
    expect(data).toEqual({
      scores: [1.5, 2],
      seen_at: "2026-01-02T03:04:05.6+00:00",
      born: "1929-10-21",
      facts: {},
    });
  });

  it("gives CSV", async () => {
    const { data } = await asAda.from("books").select("id, title, price").eq("author_id", 2).csv();
    expect(data).toBe("id,title,price\n3,Solaris,8.25");
  });

  it("gives CSV as Postgres writes values", async () => {
    const { data } = await asAda.from("authors").select("name, scores, seen_at, facts, born")
      .eq("id", 1).csv();
    expect(data).toBe(
      'name,scores,seen_at,facts,born\n"Le Guin","{1.50,2}","2026-01-02 03:04:05.6+00",{},1929-10-21',
    );
  });

  it("counts what it gives as CSV", async () => {
    const query = () => asAda.from("books").select("id", { count: "exact" }).order("id").limit(1);
    const { data, count } = await query().csv();
    expect({ data, count }).toEqual({ data: "id\n1", count: 4 });
  });

  it("gives no more than a thousand rows", async () => {
    await service.database.sql.unsafe(`
      create table public.many (n int primary key);
      insert into public.many select generate_series(1, 1500);
      grant select on public.many to authenticated;`);
    await expect.poll(async () => (await asAda.from("many").select("n")).data?.length).toBe(1000);
  });
});

describe("one row", () => {
  it("single refuses none and several", async () => {
    for (const ids of [[99], [1, 2]]) {
      const { error, status } = await asAda.from("books").select("id").in("id", ids).single();
      expect({ status, code: error?.code }).toEqual({ status: 406, code: "PGRST116" });
    }
  });

  it("maybeSingle gives null for none", async () => {
    const { data, error } = await asAda.from("books").select("id").eq("id", 99).maybeSingle();
    expect({ data, error }).toEqual({ data: null, error: null });
  });
});

describe("writing", () => {
  it("inserts with defaults and gives the row back", async () => {
    const { data, status } = await asAda.from("authors").insert({ name: "Dick" })
      .select("name, owner").single();
    expect({ data, status }).toEqual({ data: { name: "Dick", owner: ada }, status: 201 });
  });

  it("inserts without giving anything back", async () => {
    const { data, status } = await asAda.from("tags").insert({ id: 50, label: "fifty" });
    expect({ data, status }).toEqual({ data: null, status: 201 });
  });

  it("fills the keys that some rows of a bulk insert lack", async () => {
    const { data, error } = await asAda.from("books").insert([{ id: 60, title: "a", price: 1 }, {
      id: 61,
      title: "b",
    }]).select("id, price");
    expect(error).toBeNull();
    expect(data).toEqual([{ id: 60, price: 1 }, { id: 61, price: null }]);
  });

  it.each([["text"], ['{"looks":"like json"}'], [true], [3], [[true, "x"]], [{
    a: [null, { b: "c" }],
  }]])(
    "keeps %j in a json column as it is",
    async (value) => {
      const { data, error } = await asAda.from("authors").insert({ name: "json", facts: value })
        .select("facts").single();
      expect(error).toBeNull();
      expect(data!.facts).toEqual(value);
    },
  );

  it("updates what the filter names and nothing else", async () => {
    const { data } = await asAda.from("books").update({ price: 12.5 }).eq("id", 2).select();
    expect(data).toEqual([{ id: 2, author_id: 1, title: "The Lathe of Heaven", price: 12.5 }]);
    expect((await asAda.from("books").select("price").eq("id", 1).single()).data!.price).toBe(9.9);
  });

  it("upserts: changes the known, adds the new", async () => {
    const { data } = await asAda.from("tags").upsert([{ id: 1, label: "Utopia" }, {
      id: 70,
      label: "new",
    }])
      .select();
    expect(data).toEqual([{ id: 1, label: "Utopia" }, { id: 70, label: "new" }]);
  });

  it("upserts on another key, leaving what is there", async () => {
    await asAda.from("tags").upsert({ id: 71, label: "dream" }, {
      onConflict: "label",
      ignoreDuplicates: true,
    });
    expect((await asAda.from("tags").select("id").eq("label", "dream")).data).toEqual([{ id: 2 }]);
  });

  it("deletes and gives the rows back", async () => {
    await asAda.from("tags").insert({ id: 80, label: "gone" });
    expect((await asAda.from("tags").delete().eq("id", 80).select()).data)
      .toEqual([{ id: 80, label: "gone" }]);
    expect((await asAda.from("tags").select().eq("id", 80)).data).toEqual([]);
  });
});

describe("who sees what", () => {
  it("keeps two users apart while both ask at once", async () => {
    const answers = await Promise.all(
      Array.from(
        { length: 60 },
        (_, index) => (index % 2 ? asBob : asAda).from("authors").select("owner"),
      ),
    );
    answers.forEach(({ data, error }, index) => {
      expect(error).toBeNull();
      expect(new Set(data!.map((row) => row.owner))).toEqual(new Set([index % 2 ? bob : ada]));
    });
  });

  it("changes nothing of a stranger's", async () => {
    const { data } = await asBob.from("authors").update({ name: "mine" }).eq("owner", ada).select();
    expect(data).toEqual([]);
  });

  it("refuses a row for somebody else with 403", async () => {
    const { error, status } = await asBob.from("authors").insert({ name: "x", owner: ada });
    expect({ status, code: error?.code }).toEqual({ status: 403, code: "42501" });
  });

  it("shows service_role everything", async () => {
    const { data } = await asService.from("authors").select("owner");
    expect(new Set(data!.map((row) => row.owner))).toEqual(new Set([ada, bob]));
  });

  it("lets nobody in without a grant: 401 anonymously, 403 signed in", async () => {
    await service.database.sql`create table public.locked (id int primary key)`;
    await expect.poll(
      async () => (await anonymous.from("locked").select()).status,
    ).toBe(401);
    const { error, status } = await asAda.from("locked").select();
    expect({ status, code: error?.code }).toEqual({ status: 403, code: "42501" });
  });

  it("grants nothing to anybody by itself", async () => {
    const grants = await service.database.sql`
      select from information_schema.role_table_grants
      where table_schema = 'public' and table_name = 'locked' and grantee <> 'postgres'`;
    expect(grants).toHaveLength(0);
  });

  it("serves anonymous readers what is granted to them", async () => {
    expect((await anonymous.from("tags").select("id").eq("id", 2)).data).toEqual([{ id: 2 }]);
  });
});
