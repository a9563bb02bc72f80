/** Folders of agents in Storage: who makes buckets, and whose files the policies show to whom. */
import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import {
  call,
  createAgent,
  createRunningAgent,
  createWorld,
  type Person,
  refusal,
  type World,
} from "./support.ts";

let world: World;
let owner: Person;
let stranger: Person;
let admin: Person;
beforeAll(async () => {
  world = await createWorld();
  [owner, stranger, admin] = await Promise.all([
    world.person(),
    world.person(),
    world.person("admin"),
  ]);
});

const freshBucket = () => `b-${crypto.randomUUID().slice(0, 12)}`;

async function agentWith(person: Person, bucket: string, public_access?: boolean): Promise<string> {
  const storage = { bucket, ...(public_access !== undefined && { public_access }) };
  return (await createAgent(person, { supabase_config: { storage } })).agent.id;
}

/** Over PostgREST: /api waits until the agent is deployed. */
const configure = (person: Person, id: string, storage: object) =>
  person.do((t) =>
    t`update public.agents set supabase_config = ${t.json({ storage } as never)} where id = ${id}`
  );

const insert =
  (name: string, bucket: string) =>
  (t: World["sql"] | Parameters<Parameters<Person["do"]>[0]>[0]) =>
    t`insert into storage.objects (bucket_id, name) values (${bucket}, ${name})`;

const namesIn = (bucket: string) => async (t: Parameters<Parameters<Person["do"]>[0]>[0]) =>
  (await t`select name from storage.objects where bucket_id = ${bucket} order by name`)
    .map(({ name }) => name as string);

const folders = (id: string) =>
  world.sql`
    select bucket_id, prefix, public_access, retired_at is not null as retired
    from public.agent_buckets where agent_id = ${id} order by created_at`;

const removals = async (bucket: string) =>
  (await world.sql`select prefix from private.storage_removals where bucket_id = ${bucket}`)
    .map(({ prefix }) => prefix as string);

const faultOf = async (work: Promise<unknown>) => {
  const { code, status, details } = await refusal(work);
  expect([code, status]).toEqual(["VALIDATION_ERROR", 400]);
  return details!;
};

describe("supabase_config.storage", () => {
  test("makes a private bucket and registers the agent's folder", async () => {
    const bucket = freshBucket();
    const id = await agentWith(owner, bucket);
    expect(await world.sql`select name, public from storage.buckets where id = ${bucket}`)
      .toEqual([{ name: bucket, public: false }]);
    expect(await folders(id)).toEqual([
      { bucket_id: bucket, prefix: `${owner.id}/${id}/`, public_access: false, retired: false },
    ]);
  });

  test("shares one bucket between all agents that name it, also at once", async () => {
    const bucket = freshBucket();
    const people = [owner, owner, stranger, stranger, admin];
    await Promise.all(people.map((person) => agentWith(person, bucket)));
    expect(await world.sql`select from public.agent_buckets where bucket_id = ${bucket}`)
      .toHaveLength(5);
  });

  test("takes effect for rows written over PostgREST too", async () => {
    const bucket = freshBucket();
    const [row] = await owner.do((t) =>
      t`insert into public.agents (name, supabase_config)
        values ('direct', ${t.json({ storage: { bucket } })}) returning id`
    );
    expect(await folders(row!.id)).toMatchObject([{ bucket_id: bucket }]);
    await owner.do((t) =>
      t`update public.agents set supabase_config = ${
        t.json({ storage: { bucket, public_access: true } })
      } where id = ${row!.id}`
    );
    expect(await folders(row!.id)).toMatchObject([{ public_access: true }]);
  });

  test("does not take an operator's own bucket, by id or by name", async () => {
    const [id, name] = [freshBucket(), freshBucket()];
    await world.sql`insert into storage.buckets (id, name) values (${id}, ${name})`;
    for (const taken of [id, name]) {
      expect((await faultOf(agentWith(owner, taken)))["supabase_config.storage.bucket"])
        .toContain("is there already and is not one for agents");
    }
    const mine = await createAgent(owner);
    const refused = configure(owner, mine.agent.id, { bucket: id });
    expect(await faultOf(refused)).toHaveProperty(["supabase_config.storage.bucket"]);
    expect(await folders(mine.agent.id)).toEqual([]);
  });

  test("does not use a bucket that somebody has made public since", async () => {
    const bucket = freshBucket();
    await agentWith(owner, bucket);
    await world.sql`update storage.buckets set public = true where id = ${bucket}`;
    expect((await faultOf(agentWith(stranger, bucket)))["supabase_config.storage.bucket"])
      .toContain("is public");
  });

  test.each([
    "ab",
    "Assets",
    "a_b",
    "-ab",
    "ab-",
    "a..b",
    "10.0.0.1",
    "a/b",
    "a".repeat(64),
    "x--iceberg",
  ])(
    "does not name a bucket %j",
    async (bucket) => {
      expect((await faultOf(agentWith(owner, bucket)))["supabase_config.storage.bucket"])
        .toContain("3 to 63 lower-case letters");
    },
  );

  test("names all that is wrong at once", async () => {
    const refused = owner.do((t) =>
      t`insert into public.agents (name, supabase_config)
        values ('', ${t.json({ storage: { public_access: "yes" } })})`
    );
    expect(Object.keys(await faultOf(refused)).sort()).toEqual([
      "name",
      "supabase_config.storage.bucket",
      "supabase_config.storage.public_access",
    ]);
  });

  test("makes only so many buckets for one user, and lets them name those of others", async () => {
    const person = await world.person();
    const others = freshBucket();
    await agentWith(owner, others);
    await world.sql`update public.settings set value = '2' where key = 'max_buckets_per_user'`;
    try {
      await agentWith(person, freshBucket());
      await agentWith(person, freshBucket());
      expect((await faultOf(agentWith(person, freshBucket())))["supabase_config.storage.bucket"])
        .toContain("have made 2 buckets");
      await agentWith(person, others);
    } finally {
      await world.sql`update public.settings set value = '10' where key = 'max_buckets_per_user'`;
    }
  });
});

describe("files of an agent", () => {
  let bucket: string;
  let id: string;
  let file: string;
  beforeEach(async () => {
    // So that the owner may make as many buckets as there are tests.
    owner = await world.person();
    bucket = freshBucket();
    id = await agentWith(owner, bucket);
    file = `${owner.id}/${id}/notes/a.txt`;
    await owner.do(insert(file, bucket));
  });

  test("are read, changed, moved and removed by their owner", async () => {
    expect(await owner.do(namesIn(bucket))).toEqual([file]);
    await owner.do(async (t) => {
      expect(await t`update storage.objects set metadata = '{}' where name = ${file} returning id`)
        .toHaveLength(1);
      await t`update storage.objects set name = ${`${owner.id}/${id}/b.txt`} where name = ${file}`;
      await t`select set_config('storage.allow_delete_query', 'true', true)`;
      expect(await t`delete from storage.objects where bucket_id = ${bucket} returning id`)
        .toHaveLength(1);
    });
  });

  test.each([
    ["a stranger", () => stranger],
    ["an administrator", () => admin],
  ])("are not there for %s", async (_, who) => {
    await agentWith(who(), bucket);
    expect(await who().do(namesIn(bucket))).toEqual([]);
    await who().do(async (t) => {
      await t`select set_config('storage.allow_delete_query', 'true', true)`;
      expect(
        await t`update storage.objects set metadata = '{}' where bucket_id = ${bucket} returning id`,
      )
        .toEqual([]);
      expect(await t`delete from storage.objects where bucket_id = ${bucket} returning id`)
        .toEqual([]);
    });
    expect((await refusal(who().do(insert(`${owner.id}/${id}/planted`, bucket)))).code).toBe(
      "42501",
    );
    expect(await world.sql`select from storage.objects where bucket_id = ${bucket}`).toHaveLength(
      1,
    );
  });

  test("are not there for those without an account", async () => {
    expect(await world.anonymous(namesIn(bucket))).toEqual([]);
    expect((await refusal(world.anonymous(insert(`${owner.id}/${id}/planted`, bucket)))).code).toBe(
      "42501",
    );
  });

  test("are in the agent's folder and nowhere else", async () => {
    const other = await agentWith(stranger, bucket);
    const outside = [
      "top.txt",
      `${owner.id}/top.txt`,
      `${owner.id}/${crypto.randomUUID()}/a.txt`,
      `${owner.id}/${other}/a.txt`,
      `${stranger.id}/${other}/a.txt`,
      `${stranger.id}/${id}/a.txt`,
      `${owner.id}/${id}`,
      `${owner.id}/${id}/`,
    ];
    for (const name of outside) {
      expect((await refusal(owner.do(insert(name, bucket)))).code, name).toBe("42501");
      const move = owner.do((t) =>
        t`update storage.objects set name = ${name} where name = ${file}`
      );
      expect((await refusal(move)).code, name).toBe("42501");
    }
    const elsewhere = freshBucket();
    await world.sql`insert into storage.buckets (id, name) values (${elsewhere}, ${elsewhere})`;
    expect((await refusal(owner.do(insert(file, elsewhere)))).code).toBe("42501");
  });

  test("with public_access are read by everybody and written by their owner alone", async () => {
    await configure(owner, id, { bucket, public_access: true });
    const closed = await agentWith(stranger, bucket);
    await stranger.do(insert(`${stranger.id}/${closed}/mine`, bucket));
    expect(await world.anonymous(namesIn(bucket))).toEqual([file]);
    expect(await admin.do(namesIn(bucket))).toEqual([file]);
    expect((await refusal(world.anonymous(insert(`${owner.id}/${id}/planted`, bucket)))).code).toBe(
      "42501",
    );
    expect(await world.sql`select public from storage.buckets where id = ${bucket}`)
      .toEqual([{ public: false }]);
    await configure(owner, id, { bucket, public_access: false });
    expect(await world.anonymous(namesIn(bucket))).toEqual([]);
  });

  test("stay readable and removable in the old bucket when the agent names another", async () => {
    const next = freshBucket();
    await configure(owner, id, { bucket: next, public_access: true });
    expect(await folders(id)).toMatchObject([
      { bucket_id: bucket, retired: true, public_access: false },
      { bucket_id: next, retired: false, public_access: true },
    ]);
    expect(await owner.do(namesIn(bucket))).toEqual([file]);
    expect(await world.anonymous(namesIn(bucket))).toEqual([]);
    expect((await refusal(owner.do(insert(`${file}2`, bucket)))).code).toBe("42501");
    expect(await removals(bucket)).toEqual([]);
    await configure(owner, id, { bucket });
    await owner.do(insert(`${file}2`, bucket));
    expect(await folders(id)).toMatchObject([{ bucket_id: bucket, retired: false }, {
      retired: true,
    }]);
  });

  test("are removed with the agent, out of every bucket it had, and are gone for its owner at once", async () => {
    const next = freshBucket();
    await configure(owner, id, { bucket: next });
    await call(owner, "public.delete_agent($1::uuid)", id);
    expect(await folders(id)).toEqual([]);
    expect(await removals(bucket)).toEqual([`${owner.id}/${id}/`]);
    expect(await removals(next)).toEqual([`${owner.id}/${id}/`]);
    expect(await owner.do(namesIn(bucket))).toEqual([]);
    expect((await refusal(owner.do(insert(`${file}2`, bucket)))).code).toBe("42501");
  });

  test("are removed with an agent that still runs, with a row deleted over PostgREST, and with the user", async () => {
    const running = await createRunningAgent(world, owner, {
      supabase_config: { storage: { bucket } },
    });
    await call(owner, "public.delete_agent($1::uuid)", running);
    const deleted = await agentWith(owner, bucket);
    await owner.do((t) => t`delete from public.agents where id = ${deleted}`);
    expect((await removals(bucket)).sort())
      .toEqual([`${owner.id}/${running}/`, `${owner.id}/${deleted}/`].sort());
    await world.sql`delete from auth.users where id = ${owner.id}`;
    expect(await removals(bucket)).toContain(`${owner.id}/${id}/`);
  });

  test("are the owner's to see in agent_buckets, and nobody writes there", async () => {
    const shown = (person: Person) =>
      person.do((t) => t`select prefix from public.agent_buckets where bucket_id = ${bucket}`);
    expect(await shown(owner)).toEqual([{ prefix: `${owner.id}/${id}/` }]);
    expect(await shown(stranger)).toEqual([]);
    for (
      const write of [
        `update public.agent_buckets set public_access = true`,
        `delete from public.agent_buckets`,
        `insert into public.agent_buckets (agent_id, bucket_id, user_id) values ('${id}', 'x', '${owner.id}')`,
        `select private.queue_storage_removal('${bucket}', '${stranger.id}/')`,
        `select private.make_agent_bucket('x', '${owner.id}')`,
      ]
    ) {
      expect((await refusal(owner.do((t) => t.unsafe(write)))).code, write).toBe("42501");
    }
  });
});

describe("the queue of removals", () => {
  interface Claimed {
    id: string;
    lease_token: string;
    bucket_id: string;
    prefix: string;
  }

  const queue = (bucket: string, prefix = "u/a/") =>
    world.sql`select private.queue_storage_removal(${bucket}, ${prefix})`;
  const claim = async (most = 100) =>
    (await world.sql<{ removal: Claimed }[]>`
      select removal from private.claim_storage_removals(${most}, 60) removal`)
      .map(({ removal }) => removal);
  const end = async ({ id, lease_token }: Claimed, outcome: string, reason: string | null = null) =>
    (await world.sql`
      select private.end_storage_removal(${id}, ${lease_token}, ${outcome}, ${reason}) as answer`)[
      0
    ]!
      .answer;
  const pass = (text: string) =>
    world.sql.unsafe(
      `update private.storage_removals set run_after = run_after - interval '${text}',
      settles_at = settles_at - interval '${text}'`,
    );

  beforeEach(() => world.sql`truncate private.storage_removals`);

  test.each(["", "/", "/a/", "folder"])(
    "takes no prefix %j, which is more than a folder",
    async (prefix) => {
      expect((await refusal(queue("b", prefix))).code).toBe("23514");
    },
  );

  test("gives a folder to one worker, and to another when the first is silent", async () => {
    await queue("b");
    const claims = await Promise.all([claim(), claim(), claim()]);
    const [first] = claims.flat();
    expect(claims.flat()).toEqual([expect.objectContaining({ bucket_id: "b", prefix: "u/a/" })]);
    expect(await claim()).toEqual([]);
    await pass("2 minutes");
    const [second] = await claim();
    expect(await end(first!, "empty")).toBe("lost");
    expect(await end(second!, "empty")).toBe("settling");
  });

  test("looks once more when signed upload URLs have run out", async () => {
    await queue("b");
    expect(await end((await claim())[0]!, "empty")).toBe("settling");
    expect(await claim()).toEqual([]);
    await pass("3 hours");
    expect(await end((await claim())[0]!, "empty")).toBe("done");
    expect(await removals("b")).toEqual([]);
  });

  test("begins anew for what is queued again meanwhile", async () => {
    await queue("b");
    const [held] = await claim();
    await queue("b");
    expect(await end(held!, "empty")).toBe("lost");
    expect(await claim()).toHaveLength(1);
  });

  test("goes on with a folder that was too much for one turn", async () => {
    await queue("b");
    expect(await end((await claim())[0]!, "more")).toBe("more");
    expect(await claim()).toHaveLength(1);
  });

  test("tries for ever, at growing intervals of at most an hour", async () => {
    await queue("b");
    const pauses: { least: number; most: number }[] = [];
    for (let attempt = 0; attempt < 14; attempt++) {
      const [before] = await world.sql`select clock_timestamp()::text as moment`;
      expect(await end((await claim())[0]!, "failed", "Storage is away")).toBe("retrying");
      const [row] = await world.sql`
        select last_error,
          extract(epoch from run_after - clock_timestamp())::float as least,
          extract(epoch from run_after - ${before!.moment}::text::timestamptz)::float as most
        from private.storage_removals`;
      expect(row!.last_error).toBe("Storage is away");
      pauses.push({ least: row!.least, most: row!.most });
      await pass("2 hours");
    }
    // Five seconds and an hour, each a quarter more or less. The pause began between the two looks at the clock.
    expect(pauses[0]!.most).toBeGreaterThanOrEqual(3.75);
    expect(pauses[0]!.least).toBeLessThanOrEqual(6.25);
    expect(pauses[13]!.most).toBeGreaterThanOrEqual(2700);
    expect(pauses[13]!.least).toBeLessThanOrEqual(4500);
  });
});
