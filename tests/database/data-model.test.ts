/** supabase/README.md draws the data model; here it is held against the catalog. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { beforeAll, expect, test } from "vitest";
import { createWorld, type World } from "./support.ts";

const page = readFileSync(
  fileURLToPath(new URL("../../supabase/README.md", import.meta.url)),
  "utf8",
);
let world: World;
beforeAll(async () => {
  world = await createWorld();
});

test("the page lists every exposed table, and no other", async () => {
  const rows = await world.sql`
    select relname as name from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v')`;
  const listed = [...page.matchAll(/^\| `([a-z_]+)` \|/gm)].map((match) => match[1]);
  expect(listed.sort()).toEqual(rows.map((row) => row.name).sort());
});

/** A function of one row without a name for it is a relationship: it is embedded, and nobody calls it. */
const isRelationship = "proargnames is null and pronargs = 1";

test("the page lists every exposed function with its arguments, and no other", async () => {
  const rows = await world.sql.unsafe(`
    select proname || '(' || coalesce(array_to_string(proargnames[1:pronargs], ', '), '') || ')' as signature
    from pg_proc where pronamespace = 'public'::regnamespace and not (${isRelationship})`);
  const table = page.slice(page.indexOf("## Functions"), page.indexOf("## Rules"));
  const listed = [...table.matchAll(/`([a-z_]+\([a-z_, ]*\))`/g)].map((match) => match[1]);
  expect(listed.sort()).toEqual(rows.map((row) => row.signature).sort());
});

test("the page lists every relationship that is no foreign key, and no other", async () => {
  const rows = await world.sql.unsafe(`
    select proargtypes[0]::regtype || ' → ' || proname as relationship
    from pg_proc where pronamespace = 'public'::regnamespace and ${isRelationship}`);
  const listed = [...page.matchAll(/`([a-z_]+ → [a-z_]+)`/g)].map((match) => match[1]);
  expect(listed.sort()).toEqual(rows.map((row) => row.relationship).sort());
});

test.each([
  "raise_error",
  "owner_bound",
  "ensure_partitions",
  "drop_expired_partitions",
  "password_verification_hook",
  "record_security_signals",
  "autoscale",
  "queue_storage_removal",
  "continue_erasures",
])(
  "private.%s, which the page names, exists",
  async (name) => {
    expect(
      await world
        .sql`select 1 from pg_proc where proname = ${name} and pronamespace = 'private'::regnamespace`,
    )
      .toHaveLength(1);
  },
);
