/** The guard that PostgREST calls before each request, as SQL: what it counts, and how requests at once share it. */
import type postgres from "postgres";
import { beforeAll, describe, expect, test } from "vitest";
import { createWorld, type Person, refusal, type World } from "./support.ts";

let world: World;
beforeAll(async () => {
  world = await createWorld();
});

/** Somebody with this limit, in a window that does not end meanwhile. */
async function limited(query_limit: number, query_seconds = 86_400): Promise<Person> {
  const person = await world.person();
  await world.sql`
    update profiles set rate_limit = ${
    world.sql.json({ query_limit, query_seconds })
  } where id = ${person.id}`;
  return person;
}

const guard = (sql: postgres.TransactionSql) => sql`select private.guard_request()`;
const change = (person: Person) => person.do(guard);

/** Counts that stand for a person: of this window and of the one before. */
async function counts(person: Person) {
  const [row] = await world.sql`
    select coalesce(sum(queries), 0)::integer as queries, coalesce(sum(queries_before), 0)::integer as before
    from private.query_counts where user_id = ${person.id}`;
  return row as unknown as { queries: number; before: number };
}

/** What /api tells the person. */
async function allowance(person: Person) {
  const [row] = await world
    .sql`select * from private.take_rate_limit(${`user:${person.id}`}, ${person.id})`;
  return row!;
}

/** A request that goes on until it is told to end. */
async function openRequest(person: Person): Promise<{ end(): Promise<void> }> {
  let end!: () => void;
  const ended = new Promise<void>((resolve) => end = resolve);
  let request!: Promise<unknown>;
  await new Promise<void>((ready, failed) => {
    request = person.do(async (sql) => {
      await guard(sql);
      ready();
      await ended;
    });
    request.catch(failed);
  });
  return {
    end: async () => {
      end();
      await request;
    },
  };
}

describe("the limit", () => {
  test.each([1, 3, 8, 13])("of %i admits exactly so many, one after the other", async (limit) => {
    const person = await limited(limit);
    for (let n = 0; n < limit; n++) await change(person);
    expect(await refusal(change(person))).toMatchObject({
      code: "RATE_LIMIT_EXCEEDED",
      status: 429,
      details: { limit_type: "supabase_queries", limit, user_id: person.id },
    });
  });

  test("of 0 admits nothing", async () => {
    expect((await refusal(change(await limited(0)))).code).toBe("RATE_LIMIT_EXCEEDED");
  });

  test("is the installation's where the user has none of their own", async () => {
    const person = await world.person();
    const [held] = await world.sql`select * from private.query_allowance(${person.id})`;
    expect(held).toMatchObject({ query_limit: 1000, query_seconds: 60 });
    expect(held!.window_start.getUTCSeconds()).toBe(0);
    await world
      .sql`update settings set value = '7' where category = 'rate_limit' and key = 'query_limit'`;
    try {
      const [changed] = await world.sql`select * from private.query_allowance(${person.id})`;
      expect(changed).toMatchObject({ query_limit: 7 });
    } finally {
      await world
        .sql`update settings set value = '1000' where category = 'rate_limit' and key = 'query_limit'`;
    }
  });

  test.each(['"many"', "null", "{}"])(
    "is the documented one where the setting is %s",
    async (value) => {
      const person = await world.person();
      const set = (to: string) =>
        world.sql`
      update settings set value = ${to}::text::jsonb where category = 'rate_limit' and key like 'query%'`;
      await set(value);
      try {
        const [held] = await world.sql`select * from private.query_allowance(${person.id})`;
        expect(held).toMatchObject({ query_limit: 1000, query_seconds: 60 });
        await change(person);
        expect(await allowance(person)).toMatchObject({ query_remaining: 999 });
      } finally {
        await world.sql`
        update settings set value = case key when 'query_limit' then '1000' else '60' end::jsonb
        where category = 'rate_limit' and key like 'query%'`;
      }
    },
  );

  test("counts what was done, not what failed or was refused", async () => {
    const person = await limited(2);
    await change(person);
    await refusal(person.do(async (sql) => {
      await guard(sql);
      await sql`select 1 / 0`;
    }));
    expect(await counts(person)).toMatchObject({ queries: 1 });
    await change(person);
    await refusal(change(person));
    expect(await counts(person)).toMatchObject({ queries: 2 });
  });

  test("begins anew with each window, which remembers the one before", async () => {
    const person = await limited(2);
    await change(person);
    await change(person);
    await refusal(change(person));
    await world.sql`
      update private.query_counts set window_start = window_start - interval '1 day' where user_id = ${person.id}`;
    await change(person);
    expect(await counts(person)).toMatchObject({ queries: expect.any(Number), before: 1 });
    expect(await allowance(person)).toMatchObject({ query_remaining: 1 });
  });
});

describe("requests at once", () => {
  test("do not wait for one that takes long", async () => {
    const person = await limited(100);
    const slow = await openRequest(person);
    await change(person);
    await change(person);
    await slow.end();
    expect(await counts(person)).toMatchObject({ queries: 3 });
  });

  test("wait where the last of the limit may yet come free, and get it when it does", async () => {
    const person = await limited(1);
    let fail!: (reason: Error) => void;
    const failed = new Promise<never>((_resolve, reject) => fail = reject);
    let first!: Promise<unknown>;
    await new Promise<void>((ready) => {
      first = person.do(async (sql) => {
        await guard(sql);
        ready();
        await failed;
      });
    });
    const second = change(person);
    await expect.poll(async () =>
      (await world.sql`
        select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`)
        .length
    ).toBe(1);
    fail(new Error("undone"));
    await expect(first).rejects.toThrow("undone");
    await second;
    expect(await counts(person)).toMatchObject({ queries: 1 });
  });

  test("are never admitted beyond the limit, nor short of it", async () => {
    const person = await limited(20);
    const outcomes = await Promise.allSettled(Array.from({ length: 30 }, () => change(person)));
    expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(20);
  });
});

describe("the request that leaves nothing over", () => {
  test("is one security event, which its user sees", async () => {
    const person = await limited(10);
    await Promise.allSettled(Array.from({ length: 15 }, () => change(person)));
    const events = await person.do((sql) => sql`select * from security_events`);
    expect(events).toHaveLength(1);
    expect(events[0]).toMatchObject({
      event_type: "RATE_LIMIT_REACHED",
      severity: "LOW",
      user_id: person.id,
      details: { limit_type: "supabase_queries", limit: 10 },
      automated_response: { action_taken: "REQUESTS_REFUSED" },
    });
  });
});

describe("what is known of requests to Auth", () => {
  const hook = (event: Record<string, unknown>, name = "custom_access_token_hook") =>
    world.sql`select private.${world.sql(name)}(${world.sql.json(event as never)}) as answer`;
  const left = async (person: Person) => (await allowance(person)).auth_remaining;

  test("is nothing while no hook told of any", async () => {
    await world.sql`delete from private.auth_requests`;
    expect(await left(await world.person())).toBeNull();
  });

  test("are tokens given and passwords refused, within the hour", async () => {
    const person = await world.person();
    await hook({ user_id: person.id, claims: {} });
    expect(await left(person)).toBe(29);
    await hook({ user_id: person.id, valid: false }, "password_verification_hook");
    expect(await left(person)).toBe(28);
    // One that is right goes on to get a token.
    await hook({ user_id: person.id, valid: true }, "password_verification_hook");
    expect(await left(person)).toBe(28);
    await world.sql`
      update private.auth_requests set at = at - interval '1 hour' where user_id = ${person.id}`;
    await hook({ user_id: (await world.person()).id, claims: {} });
    expect(await left(person)).toBe(30);
  });

  test("never falls below nothing", async () => {
    const person = await world.person();
    const event = { user_id: person.id, claims: {}, authentication_method: "token_refresh" };
    for (let n = 0; n < 31; n++) await hook(event);
    expect(await left(person)).toBe(0);
  });
});

describe("signing in", () => {
  const signIn = async (person: Person, authentication_method = "password") => {
    const event = { user_id: person.id, claims: {}, authentication_method };
    const [row] = await world.sql`
      select private.custom_access_token_hook(${world.sql.json(event)}) as answer`;
    return row!.answer as { claims?: object; error?: { http_code: number; message: string } };
  };
  const withLimit = async (auth_limit: number) => {
    const person = await world.person();
    await world.sql`
      update public.profiles set rate_limit = ${
      world.sql.json({ auth_limit })
    } where id = ${person.id}`;
    return person;
  };

  test("is refused after 30 tokens within an hour, and says when it may be tried again", async () => {
    const person = await world.person();
    for (let n = 0; n < 30; n++) expect(await signIn(person)).toHaveProperty("claims");
    expect(await signIn(person)).toEqual({
      error: { http_code: 429, message: expect.stringMatching(/Try again in (59|60) minutes\.$/) },
    });
    await world.sql`
      update private.auth_requests set at = at - interval '61 minutes'
      where (user_id, at) = (select user_id, min(at) from private.auth_requests where user_id = ${person.id} group by 1)`;
    expect(await signIn(person)).toHaveProperty("claims");
  });

  test.each(["otp", "oauth", "magiclink", "recovery"])("by %s is counted too", async (method) => {
    const person = await withLimit(1);
    await signIn(person, method);
    expect(await signIn(person, method)).toMatchObject({ error: { http_code: 429 } });
  });

  test("is not what refreshing does", async () => {
    const person = await withLimit(1);
    await signIn(person);
    expect(await signIn(person, "token_refresh")).toHaveProperty("claims");
  });

  test("is not refused for passwords that somebody else got wrong", async () => {
    const person = await withLimit(1);
    const wrong = world.sql.json({ user_id: person.id, valid: false });
    for (let n = 0; n < 3; n++) {
      await world.sql`select private.password_verification_hook(${wrong})`;
    }
    expect(await signIn(person)).toHaveProperty("claims");
  });

  test("of one takes nothing from another", async () => {
    const person = await withLimit(1);
    await signIn(person);
    expect(await signIn(await withLimit(1))).toHaveProperty("claims");
  });
});
