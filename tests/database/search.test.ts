import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createWorld, type Person, refusal, type World } from "./support.ts";

interface Found {
  results: {
    agent: { id: string; name: string };
    relevance_score: number | null;
    highlighted_fields: { name: string; description: string | null; platform: string };
  }[];
  total: number;
  total_is_estimate: boolean;
  similar: boolean;
  search_ms: number;
}

let world: World;
let owner: Person;
let stranger: Person;
let operator: Person;

async function make(person: Person, name: string, rest: Record<string, unknown> = {}) {
  const [made] = await person.do((t) =>
    t`insert into agents ${t({ name, ...rest } as Record<string, string>)} returning id`
  );
  return made!.id as string;
}

async function search(person: Person, args: Record<string, unknown>): Promise<Found> {
  const names = Object.keys(args);
  const call = `select search_agents(${
    names.map((name, index) => `${name} => $${index + 1}`).join(", ")
  }) as found`;
  const [row] = await person.do((t) => t.unsafe(call, Object.values(args) as never[]));
  return row!.found as Found;
}

const names = (found: Found) => found.results.map((result) => result.agent.name);

beforeAll(async () => {
  world = await createWorld();
  [owner, stranger, operator] = await Promise.all([
    world.person(),
    world.person(),
    world.person("operator"),
  ]);
  await make(owner, "trading-bot", {
    description: "AI trading assistant",
    platforms: ["discord"],
  });
  await make(owner, "helper", { description: "Answers traders", platforms: ["telegram"] });
  await make(owner, "Übersetzer", { description: "Übersetzt Briefe" });
  await make(owner, "weather", { description: "Rain & <b>sun</b>", platforms: ["telegram"] });
  await make(stranger, "trading of a stranger");
});

test("every word must stand somewhere: in the name, the description or the platforms", async () => {
  expect(names(await search(owner, { q: "trading discord" }))).toEqual(["trading-bot"]);
  expect((await search(owner, { q: "trading telegram" })).total).toBe(0);
});

test("case and what separates words do not matter", async () => {
  expect(names(await search(owner, { q: "Trading_BOT" }))).toEqual(["trading-bot"]);
});

test("letters beyond ASCII are found in either case", async () => {
  expect(names(await search(owner, { q: "übersetzer" }))).toEqual(["Übersetzer"]);
});

test("the beginning of a word and its inside are found", async () => {
  expect(names(await search(owner, { q: "trad" }))).toEqual(["trading-bot", "helper"]);
  expect(names(await search(owner, { q: "eather" }))).toEqual(["weather"]);
});

test("one or two letters are the beginning of a word only", async () => {
  expect(names(await search(owner, { q: "bo" }))).toEqual(["trading-bot"]);
  expect((await search(owner, { q: "ot" })).total).toBe(0);
});

test("the better match comes first, with a score between 0 and 1", async () => {
  const found = await search(owner, { q: "trad" });
  const scores = found.results.map((result) => result.relevance_score!);
  expect(scores).toEqual([...scores].sort((a, b) => b - a));
  expect(scores[0]).toBeGreaterThan(scores[1]!);
  expect(scores.every((score) => score > 0 && score <= 1)).toBe(true);
});

test("a name that is the query scores 1", async () => {
  expect((await search(owner, { q: "trading bot" })).results[0]!.relevance_score).toBe(1);
});

test.each(["tradng", "tradign", "trsding", "dicsord", "telegarm", "waether"])(
  "the typing error %s is forgiven",
  async (q) => {
    const found = await search(owner, { q });
    expect(found.similar).toBe(true);
    expect(found.total).toBeGreaterThan(0);
    expect(JSON.stringify(found.results[0]!.highlighted_fields)).toContain("<mark>");
  },
);

test("who spells right gets nothing similar beside it", async () => {
  const found = await search(owner, { q: "traders" });
  expect(found.similar).toBe(false);
  expect(names(found)).toEqual(["helper"]);
});

test("what resembles nothing finds nothing", async () => {
  expect(await search(owner, { q: "zebra" })).toMatchObject({
    results: [],
    total: 0,
    similar: false,
  });
});

test("a query without a letter finds nothing", async () => {
  expect((await search(owner, { q: "&<>" })).total).toBe(0);
});

test.each(["%", "_", "\\", "' or true --", "trading\\' %"])(
  "%s is no pattern and no SQL",
  async (q) => {
    for (const person of [owner, operator]) {
      expect((await search(person, { q })).results.map((each) => each.agent.name))
        .not.toContain("weather");
    }
  },
);

test("without a query it lists, newest first, without scores", async () => {
  const found = await search(owner, {});
  expect(names(found)).toEqual(["weather", "Übersetzer", "helper", "trading-bot"]);
  expect(found.results[0]!.relevance_score).toBeNull();
});

describe("highlighted fields", () => {
  test("mark the words that match and leave the others", async () => {
    const [result] = (await search(owner, { q: "trading" })).results;
    expect(result!.highlighted_fields).toEqual({
      name: "<mark>trading</mark>-bot",
      description: "AI <mark>trading</mark> assistant",
      platform: "discord",
    });
  });

  test.each([
    [
      "<script>alert(1)</script>",
      "script",
      "&lt;<mark>script</mark>&gt;alert(1)&lt;/<mark>script</mark>&gt;",
    ],
    ["R&D \"lab\" 'x'", "lab", "R&amp;D &quot;<mark>lab</mark>&quot; &#39;x&#39;"],
    ["<mark>fake</mark>", "fake", "&lt;mark&gt;<mark>fake</mark>&lt;/mark&gt;"],
    ["&amp; sons", "amp", "&amp;<mark>amp</mark>; sons"],
    ["<img src=x onerror=alert(1)>", "<img", "&lt;<mark>img</mark> src=x onerror=alert(1)&gt;"],
  ])("of %s searched for %s are safe in a page", async (name, q, html) => {
    const person = await world.person();
    await make(person, name, { description: name });
    const [result] = (await search(person, { q })).results;
    expect(result!.highlighted_fields).toMatchObject({ name: html, description: html });
  });

  test("nothing of the query but its words gets into them", async () => {
    const found = await search(owner, { q: "<script>trading</script>" });
    expect(JSON.stringify(found)).not.toContain("<script>");
  });
});

describe("filters and order", () => {
  let person: Person;
  beforeAll(async () => {
    person = await world.person();
    const ids = [
      await make(person, "beta unit", { status: "idle", platforms: ["discord"] }),
      await make(person, "Alpha unit", { status: "thinking", platforms: ["twitter"] }),
      await make(person, "gamma unit", { status: "idle" }),
    ];
    for (const [index, id] of ids.entries()) {
      await world.sql`
        update agents set created_at = ${`2024-01-0${index + 1}T12:00:00Z`},
          last_activity_at = ${["2024-02-02T00:00:00Z", "2024-02-03T00:00:00Z", null][index]!}
        where id = ${id}`;
      if (index < 2) {
        await world.sql`
          insert into agent_metrics (agent_id, user_id, replicas, cpu_usage, cpu_limit, memory_usage)
          values (${id}, ${person.id}, 1, ${[0.9, 0.5][index]!}, ${[4, 0.5][index]!}, ${[
          5,
          3,
        ][index]!})`;
      }
    }
  });

  test.each([
    [{ status: ["idle"] }, ["beta unit", "gamma unit"]],
    [{ platform: "twitter" }, ["Alpha unit"]],
    [{ created_after: "2024-01-02T12:00:00Z" }, ["Alpha unit", "gamma unit"]],
    [{ created_before: "2024-01-02T12:00:00Z" }, ["beta unit"]],
    [{ status: ["idle"], created_after: "2024-01-02T00:00:00Z" }, ["gamma unit"]],
  ])("%j leaves %j", async (filter, expected) => {
    const found = await search(person, {
      q: "unit",
      sort_by: "created_at",
      sort_order: "asc",
      ...filter,
    });
    expect(names(found)).toEqual(expected);
    expect(found.total).toBe(expected.length);
  });

  // Percent of its limit: 22.5 for beta, 100 for Alpha. What is not known comes last in both orders.
  test.each([
    ["name", "asc", ["Alpha unit", "beta unit", "gamma unit"]],
    ["name", "desc", ["gamma unit", "beta unit", "Alpha unit"]],
    ["created_at", "asc", ["beta unit", "Alpha unit", "gamma unit"]],
    ["created_at", "desc", ["gamma unit", "Alpha unit", "beta unit"]],
    ["last_activity", "asc", ["beta unit", "Alpha unit", "gamma unit"]],
    ["last_activity", "desc", ["Alpha unit", "beta unit", "gamma unit"]],
    ["cpu_usage", "desc", ["Alpha unit", "beta unit", "gamma unit"]],
    ["cpu_usage", "asc", ["beta unit", "Alpha unit", "gamma unit"]],
    ["memory_usage", "desc", ["beta unit", "Alpha unit", "gamma unit"]],
    ["memory_usage", "asc", ["Alpha unit", "beta unit", "gamma unit"]],
  ])("by %s %s it is %j", async (sort_by, sort_order, expected) => {
    expect(names(await search(person, { sort_by, sort_order }))).toEqual(expected);
    expect(names(await search(person, { q: "unit", sort_by, sort_order }))).toEqual(expected);
  });

  test("pages together are the whole, and the total does not depend on the page", async () => {
    const pages = await Promise.all(
      [0, 1, 2, 3].map((row_offset) => search(person, { q: "unit", row_limit: 1, row_offset })),
    );
    expect(pages.flatMap(names).sort()).toEqual(["Alpha unit", "beta unit", "gamma unit"]);
    expect(pages.map((page) => page.total)).toEqual([3, 3, 3, 3]);
  });

  test("wrong parameters are all named", async () => {
    const refused = await refusal(
      search(person, { q: "x".repeat(201), sort_by: "colour", sort_order: "up", row_limit: 0 }),
    );
    expect(refused).toMatchObject({ code: "VALIDATION_ERROR", status: 400 });
    expect(Object.keys(refused.details!).sort()).toEqual(["limit", "order", "q", "sort"]);
  });
});

describe("whose agents are found", () => {
  test("a user's own only", async () => {
    expect(names(await search(stranger, { q: "trading" }))).toEqual(["trading of a stranger"]);
    expect(names(await search(owner, { q: "trading" }))).toEqual(["trading-bot"]);
  });

  test("everybody's for an operator, with the same scores and marks", async () => {
    const found = await search(operator, { q: "trading" });
    expect(names(found).sort()).toEqual(["trading of a stranger", "trading-bot"]);
    const [own] = (await search(owner, { q: "trading" })).results;
    expect(found.results.find((result) => result.agent.id === own!.agent.id)).toEqual(own);
  });

  test("an operator's typing errors are forgiven too", async () => {
    await world.sql`select private.learn_words()`;
    const found = await search(operator, { q: "tradng stranger" });
    expect(names(found)).toEqual(["trading of a stranger"]);
    expect(found.similar).toBe(true);
    expect((await search(operator, { q: "tradng", sort_by: "name" })).total).toBe(2);
  });

  test("an operator filters, sorts and pages over everybody's", async () => {
    const all = await search(operator, { sort_by: "name", row_limit: 100 });
    const some = await search(operator, { sort_by: "name", row_limit: 2, row_offset: 1 });
    expect(names(some)).toEqual(names(all).slice(1, 3));
    expect(some.total).toBe(all.total);
  });

  test("an operator's key without agents:read_all finds the operator's only", async () => {
    const key = await world.withKey(operator, ["agents:read"]);
    expect((await search(key, { q: "trading" })).total).toBe(0);
  });

  test("a key without agents:read finds nothing at all", async () => {
    const key = await world.withKey(owner, ["monitoring:read"]);
    expect(await refusal(search(key, { q: "trading" }))).toMatchObject({
      code: "PERMISSION_DENIED",
      status: 403,
    });
  });

  test("nobody gets past the policies by calling what is behind it", async () => {
    const call = "(array['trading'], false, null, null, null, null, 'name', 'asc', 20, 0) as found";
    expect(await refusal(owner.do((t) => t.unsafe(`select private.search_everywhere${call}`))))
      .toMatchObject({ code: "PERMISSION_DENIED", status: 403 });
    const [page] = await owner.do((t) =>
      t.unsafe(`select private.search_page${call.replace("(", "(null, ")}`)
    );
    expect(page!.found.total).toBe(0);
  });

  test("not what was deleted", async () => {
    const person = await world.person();
    const id = await make(person, "shortlived");
    await person.do((t) => t`select delete_agent(${id})`);
    for (const each of [person, operator]) {
      expect((await search(each, { q: "shortlived" })).total).toBe(0);
      expect((await search(each, { q: "deleted agent" })).total).toBe(0);
    }
  });
});

describe("among everybody's agents", () => {
  test("the trigram index serves rare words", async () => {
    const plan = await world.sql.begin(async (t) => {
      // Of so few rows a plain scan is cheaper; here it matters that the index can.
      await t`set local enable_seqscan = off`;
      return await t`explain select s.agent_id from private.searchable s where s.searched like '%trading%'`;
    });
    expect(JSON.stringify(plan)).toContain("searchable_words_idx");
  });

  test("what is searched follows every change of an agent", async () => {
    const id = await make(stranger, "chameleon", { platforms: ["slack"] });
    const found = async (q: string) => (await search(operator, { q })).total;
    expect(await found("chameleon slack")).toBe(1);
    await stranger.do((t) =>
      t`update agents set name = 'iguana', platforms = '{irc}' where id = ${id}`
    );
    expect([await found("chameleon"), await found("iguana irc")]).toEqual([0, 1]);
    await world.sql`update agents set deleted_at = now() where id = ${id}`;
    expect(await found("iguana")).toBe(0);
    await world.sql`update agents set deleted_at = null where id = ${id}`;
    expect(await found("iguana")).toBe(1);
    await world.sql`delete from agents where id = ${id}`;
    expect(await found("iguana")).toBe(0);
  });

  test("it is what counting finds, also after what was rolled back and at the same time", async () => {
    await world.sql.begin(async (t) => {
      await t`insert into agents (user_id, name) values (${owner.id}, 'undone')`;
      throw new Error("back");
    }).catch(() => {});
    await Promise.all(
      Array.from(
        { length: 8 },
        (_, n) => make(stranger, `at once ${n}`, { description: "newword" }),
      ),
    );
    const [row] = await world.sql`
      select count(*)::int as wrong from public.agents a full join private.searchable s on s.agent_id = a.id
      where (a.deleted_at is null) is distinct from (s.agent_id is not null)
        or s.searched <> private.search_text(a.name, a.description, a.platforms)`;
    expect(row!.wrong).toBe(0);
    await Promise.all([1, 2, 3].map(() => world.sql`select private.learn_words()`));
    expect((await search(operator, { q: "newwrd" })).total).toBe(8);
    await world.sql`delete from agents where name like 'at once %'`;
    await world.sql`select private.forget_words()`;
    expect(await world.sql`select from private.vocabulary where word = 'newword'`).toHaveLength(0);
  });

  describe("of which too many match", () => {
    beforeAll(async () => {
      await world.sql`update settings set value = '20' where category = 'search'`;
      await world.sql`
        insert into agents (user_id, name, created_at, last_activity_at)
        select ${stranger.id}, case when n % 2 = 0 then 'common' else 'rare' end || ' ' || n, now() - n * interval '1 minute', now() - (200 - n) * interval '1 minute'
        from generate_series(1, 200) n`;
    });
    afterAll(async () => {
      await world.sql`delete from agents where name ~ '^(common|rare) '`;
      await world.sql`update settings set value = '1000' where category = 'search'`;
    });

    test("the newest are ranked, and how many there are is estimated", async () => {
      const found = await search(operator, { q: "common", row_limit: 100 });
      expect(found.results).toHaveLength(20);
      expect(names(found)).toContain("common 2");
      expect(names(found)).not.toContain("common 200");
      expect(found.total_is_estimate).toBe(true);
      expect(found.total).toBeGreaterThan(80);
      expect(found.total).toBeLessThan(120);
    });

    test("fewer are counted", async () => {
      const found = await search(operator, { q: "common 42" });
      expect(found).toMatchObject({ total: 1, total_is_estimate: false });
      const [row] = await world.sql`select created_at from agents where name = 'common 40'`;
      const twenty = await search(operator, {
        q: "common",
        created_after: new Date(row!.created_at.getTime() - 30_000).toISOString(),
      });
      expect(twenty).toMatchObject({ total: 20, total_is_estimate: false });
    });

    test.each(["name", "created_at"])("pages in the order of %s go to the end", async (sort_by) => {
      const found = await search(operator, {
        q: "common",
        sort_by,
        sort_order: "desc",
        row_limit: 30,
        row_offset: 90,
      });
      expect(found.results).toHaveLength(10);
    });

    test("sorted by activity it is the newest too", async () => {
      const found = await search(operator, { q: "common", sort_by: "last_activity" });
      expect(names(found)[0]).toBe("common 40");
    });

    test("without words all are sorted", async () => {
      const found = await search(operator, { sort_by: "last_activity", status: ["idle"] });
      expect(names(found)[0]).toBe("common 200");
      expect(found.total_is_estimate).toBe(true);
      expect((await search(operator, {})).total_is_estimate).toBe(false);
    });

    test("a user's own are counted, whatever their number", async () => {
      const found = await search(stranger, { q: "common" });
      expect(found).toMatchObject({ total: 100, total_is_estimate: false });
    });
  });
});
