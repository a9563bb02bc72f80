/** A fleet of agents for benchmarks: a hundred of each owner, under names and descriptions as people give them. */
import type postgres from "postgres";

const agentsPerOwner = 100;

const ownerId = (number: number) =>
  `00000000-0000-4000-8000-${number.toString(16).padStart(12, "0")}`;

/** Another one of the owners in each round. */
export const ownerOf = (round: number, owners: number) => ownerId(1 + (round * 7919) % owners);

/** Claims of the owner's access token. */
export const claimsOf = (owner: string) => JSON.stringify({ sub: owner, role: "authenticated" });

/** Makes the owner an administrator. */
export const promote = (admin: postgres.Sql, owner: string) =>
  admin`update public.profiles set role = 'admin' where id = ${owner}`;

/** Owners `from` to `to` with their agents and deployments, past the triggers. */
export async function fillFleet(admin: postgres.Sql, from: number, to: number): Promise<void> {
  const owner = `('00000000-0000-4000-8000-' || lpad(to_hex(o), 12, '0'))::uuid`;
  const pick = (words: string, by: string) => {
    const list = words.split(" ");
    return `(array['${list.join("', '")}'])[1 + (${by}) % ${list.length}]`;
  };
  const subject = pick(
    "trading support research weather garden invoice travel music recipe fitness legal museum",
    "n * 7 + o",
  );
  const kind = pick("bot helper watcher scribe guide planner analyst", "n + o * 3");
  const topic = pick(
    "markets customers papers storms plants bills trains songs dinners running",
    "n * 3 + o",
  );
  // An index on words takes many times longer to grow row by row than to be made at once.
  const [search] =
    await admin`select pg_get_indexdef('private.searchable_words_idx'::regclass) as made`;
  await admin.unsafe(`
    drop index private.searchable_words_idx;
    set session_replication_role = replica;
    insert into auth.users (id, email, instance_id, aud, role)
      select ${owner}, 'u' || o || '@example.com', '00000000-0000-0000-0000-000000000000', 'authenticated', 'authenticated'
      from generate_series(${from}, ${to}) o;
    insert into public.profiles (id, username) select ${owner}, 'u' || o from generate_series(${from}, ${to}) o;
    insert into public.agents (user_id, name, description, platforms, model, status, created_at)
      select ${owner}, ${subject} || '-' || ${kind} || ' ' || n,
        'Answers questions about ' || ${topic} || ' and reports to team ' || o % 1000,
        array[${pick("discord telegram twitter slack", "n + o")}],
        'gpt-4o', 'deployed', now() - random() * interval '100 days'
      from generate_series(1, ${agentsPerOwner}) n, generate_series(${from}, ${to}) o;
    insert into public.deployments (agent_id, user_id, stack_name, state)
      select a.id, a.user_id, 's-' || a.id, 'running' from public.agents a
      where a.user_id between '${ownerId(from)}' and '${ownerId(to)}';
    insert into private.searchable (agent_id, created_at, name, searched)
      select a.id, a.created_at, lower(a.name), private.search_text(a.name, a.description, a.platforms) from public.agents a
      where a.user_id between '${ownerId(from)}' and '${ownerId(to)}';
    reset session_replication_role;
    ${search!.made};
  `);
  await admin`select private.recount()`;
  await admin`
    insert into private.vocabulary
    select distinct w from private.searchable s, private.words_of(s.searched) w on conflict do nothing`;
  for (
    const table of [
      "private.searchable",
      "public.agents",
      "public.deployments",
      "public.profiles",
      "auth.users",
    ]
  ) {
    await admin.unsafe(`vacuum analyze ${table}`);
  }
  await admin.unsafe("checkpoint");
}
