-- Search of agents (seed 000): by the words of name, description and platforms, typing errors forgiven.
--
-- A word is found as it stands, as the beginning of a word and, from three letters on, inside one. Only when no agent has
-- all the words so, similar ones are taken too: who spells right gets nothing they did not ask for.
-- Mind: `like` is not leakproof, so under row level security no index on the text serves it. A user's own agents are few and
-- come by the index on the owner. For those who see everybody's, private.search_everywhere asks for that right itself and
-- looks in private.searchable, which has of each agent only what is searched; only ids leave it, and what is shown of them is
-- read as the caller. There no more than settings search.ranked_matches are counted and ranked, the newest: a word that every
-- tenth of a million agents has would else be read a hundred thousand times for one page.

create extension if not exists fuzzystrmatch with schema extensions;

create function private.plain_words(value text) returns text
language sql immutable parallel safe
set search_path = ''
as $$
  -- ASCII's separators only: then every letter of every language belongs to a word, under whatever locale.
  select lower(regexp_replace(value, '[\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u007f]+', ' ', 'g'));
$$;
comment on function private.plain_words is 'Text in lower case with one space for whatever stands between words.';

create function private.search_text(name text, description text, platforms text[]) returns text
language plpgsql immutable parallel safe
set search_path = ''
as $$
begin
  return lower(regexp_replace(
    concat(' ', translate(name, E'\x01', ' '), E' \x01 ', translate(description, E'\x01', ' '), E' \x01 ',
      array_to_string(platforms, ' '), ' '),
    '[\u0002-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u007f]+', ' ', 'g'));
end;
$$;
comment on function private.search_text is
  'What is searched of an agent: the words of name, description and platforms with spaces around each, the fields parted by U+0001.';

insert into public.settings (category, key, value, description) values
  ('search', 'ranked_matches', '1000', 'Matches among everybody''s agents that are counted, ranked and paged through: of more the newest, and the total is an estimate.');

create table private.searchable (
  agent_id uuid primary key references public.agents (id) on delete cascade,
  created_at timestamptz not null,
  name text not null,
  searched text not null
);
comment on table private.searchable is 'What is searched of each agent that is not deleted: search_text, and the name in lower case.';
create index searchable_words_idx on private.searchable using gin (searched extensions.gin_trgm_ops);
create index searchable_age_idx on private.searchable (created_at desc, agent_id desc);
create index searchable_name_idx on private.searchable (name, agent_id);
-- A common word with a rare status would else be looked for in all of them.
create index agents_status_idx on public.agents (status);
create index deployments_state_idx on public.deployments (state);
-- Whether a word is common decides over the index; with the usual hundred samples every twentieth agent would go unseen.
alter table private.searchable alter column searched set statistics 1000;

create table private.vocabulary (
  word text primary key
);
comment on table private.vocabulary is 'The words of all agents, of three to forty characters: what a mistyped word may have meant. Behind by some seconds; words that no agent has any more go at night.';

create table private.unlearned (
  id bigint generated always as identity primary key,
  agent_id uuid not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);
comment on table private.unlearned is 'Agents whose words are to be put into the vocabulary. Not at once: two that learn the same new words would wait for each other.';

create function private.keep_searchable() returns trigger
language plpgsql volatile security definer
set search_path = ''
as $$
begin
  if new.deleted_at is not null then
    delete from private.searchable s where s.agent_id = new.id;
    return null;
  end if;
  insert into private.searchable (agent_id, created_at, name, searched)
  values (new.id, new.created_at, lower(new.name), private.search_text(new.name, new.description, new.platforms))
  on conflict (agent_id) do update set created_at = excluded.created_at, name = excluded.name, searched = excluded.searched;
  insert into private.unlearned (agent_id) values (new.id);
  return null;
end;
$$;
comment on function private.keep_searchable is 'Trigger: keeps what is searched of an agent. Definer: the tables are private.';
create trigger agents_keep_searchable after insert on public.agents
  for each row when (new.deleted_at is null) execute function private.keep_searchable();
create trigger agents_keep_changed_searchable after update of name, description, platforms, deleted_at, created_at on public.agents
  for each row when (
    (new.name, new.description, new.platforms, new.deleted_at is null, new.created_at)
      is distinct from (old.name, old.description, old.platforms, old.deleted_at is null, old.created_at)
  ) execute function private.keep_searchable();

create function private.words_of(searched text) returns setof text
language sql immutable
set search_path = ''
as $$
  select distinct w from regexp_split_to_table(searched, '[ \u0001]+') w where char_length(w) between 3 and 40;
$$;
comment on function private.words_of is 'The words of a search_text that the vocabulary holds.';

create function private.learn_words() returns integer
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  learned integer;
begin
  -- In the order of the key, should two learn at once.
  with due as (
    delete from private.unlearned u where u.id in (select n.id from private.unlearned n limit 20000 for update skip locked) returning u.agent_id
  )
  insert into private.vocabulary (word)
  select distinct w from due d join private.searchable s on s.agent_id = d.agent_id, private.words_of(s.searched) w order by 1
  on conflict (word) do nothing;
  get diagnostics learned = row_count;
  return learned;
end;
$$;
comment on function private.learn_words is 'Puts words of new and changed agents into the vocabulary → how many were new. Definer: runs from cron.';
select cron.schedule('learn-words', '10 seconds', 'select private.learn_words()');

create function private.forget_words() returns integer
language plpgsql volatile security definer
set search_path = ''
as $$
declare
  forgotten integer;
begin
  with present as materialized (
    select distinct w as word from private.searchable s, private.words_of(s.searched) w
  )
  delete from private.vocabulary v where not exists (select from present p where p.word = v.word);
  get diagnostics forgotten = row_count;
  return forgotten;
end;
$$;
comment on function private.forget_words is 'Takes the words out of the vocabulary that no agent has any more → how many. Definer: runs from cron.';
select cron.schedule('forget-words', '37 3 * * *', 'select private.forget_words()');

create function private.meant_words(word text) returns text[]
language plpgsql stable security definer
set search_path = ''
as $$
declare
  slips constant integer := case when char_length(word) < 6 then 1 else 2 end;
begin
  return coalesce((
    select array_agg(m.word) from (
      select v.word from private.vocabulary v
      where char_length(v.word) between char_length(meant_words.word) - slips and char_length(meant_words.word) + slips
        and extensions.levenshtein_less_equal(meant_words.word, v.word, slips) <= slips
      order by extensions.levenshtein_less_equal(meant_words.word, v.word, slips), v.word limit 20
    ) m), '{}');
end;
$$;
comment on function private.meant_words is
  'Up to twenty words of the vocabulary that are as near as private.mistyped allows, the nearest first. Definer: the table is private.';

create function private.search_words(q text) returns text[]
language sql immutable
set search_path = ''
as $$
  select coalesce(array_agg(w.word order by w.place), '{}') from (
    select s.word, min(s.place) as place
    from string_to_table(private.plain_words(q), ' ') with ordinality s (word, place)
    where s.word <> '' group by 1 order by 2 limit 10
  ) w;
$$;
comment on function private.search_words is 'The words of a query, each once; the first ten count.';

create function private.mistyped(word text, field text) returns boolean
language plpgsql immutable
set search_path = ''
as $$
declare
  slips constant integer := case when char_length(word) < 6 then 1 else 2 end;
  meant text;
begin
  -- A loop and no query: this is asked of hundreds of fields in one search.
  foreach meant in array string_to_array(field, ' ') loop
    if abs(char_length(meant) - char_length(word)) <= slips
      and extensions.levenshtein_less_equal(word, meant, slips) <= slips
    then
      return true;
    end if;
  end loop;
  return false;
end;
$$;
comment on function private.mistyped is 'Whether a word of the field is one letter away from the given one, or two when it has six or more.';

create function private.search_score(words text[], searched text, similar_too boolean) returns real
language plpgsql immutable
set search_path = ''
as $$
declare
  weights constant real[] := '{0.95, 0.7, 0.85}';
  fields constant text[] := string_to_array(searched, E'\x01');
  total real := 0;
  best real;
  word text;
begin
  foreach word in array words loop
    best := 0;
    for place in 1..cardinality(fields) loop
      best := greatest(best, weights[place] * case
        when position(' ' || word || ' ' in fields[place]) > 0 then 1
        when position(' ' || word in fields[place]) > 0 then 0.9
        when char_length(word) < 3 then 0
        when position(word in fields[place]) > 0 then 0.75
        -- The first question is the cheap one: two letters changed about in a word of seven leave 0.33.
        when similar_too and extensions.word_similarity(word, fields[place]) >= 0.3 and private.mistyped(word, fields[place])
          then 0.7 * extensions.word_similarity(word, fields[place])
        else 0
      end);
    end loop;
    if best = 0 then
      return null;
    end if;
    total := total + best;
  end loop;
  return case when trim(fields[1]) = array_to_string(words, ' ') then 1 else round((total / cardinality(words))::numeric, 2) end;
end;
$$;
comment on function private.search_score is
  'How well a search_text answers the words of a query, 0–1; null when it has not all of them. Each word counts by its best place: the name before platforms before the description, a whole word before its beginning, its inside and a similar word. 1: the name is the query.';

create function private.escape_html(value text) returns text
language sql immutable
set search_path = ''
as $$
  select replace(replace(replace(replace(replace(value, '&', '&amp;'), '<', '&lt;'), '>', '&gt;'), '"', '&quot;'), '''', '&#39;');
$$;
comment on function private.escape_html is 'Text as HTML that shows it.';

create function private.highlight(value text, words text[], similar_too boolean) returns text
language plpgsql immutable strict
set search_path = ''
as $$
declare
  searched constant text := ' ' || private.plain_words(value) || ' ';
  present text[] := '{}';
  word text;
begin
  foreach word in array words loop
    if private.search_score(array[word], searched, similar_too) is not null then
      present := present || word;
    end if;
  end loop;
  if present = '{}' then
    return private.escape_html(value);
  end if;
  return (
    select string_agg(case when exists (
        select from unnest(present) w (word)
        where private.search_score(array[w.word], ' ' || lower(s.part[1]) || ' ', similar_too) is not null
      ) then '<mark>' || private.escape_html(s.part[1]) || '</mark>' else private.escape_html(s.part[1]) end, '' order by s.place)
    from regexp_matches(value, '[\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u007f]+|[^\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u007f]+', 'g')
      with ordinality s (part, place)
  );
end;
$$;
comment on function private.highlight is
  'Text as HTML, each word that answers the query in <mark> and all else escaped: safe in a page, as the content of an element.';

create function private.search_page(
  owner uuid, words text[], similar_too boolean, status text[], platform text, created_after timestamptz, created_before timestamptz,
  sort_by text, sort_order text, row_limit integer, row_offset integer
) returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
  conditions text[] := array['a.deleted_at is null', 'a.user_id = $1'];
  key constant text := case sort_by
    when 'relevance' then 's.score'
    when 'name' then 'lower(a.name)'
    when 'created_at' then 'a.created_at'
    when 'last_activity' then 'a.last_activity_at'
    when 'cpu_usage' then '100 * (l.metrics ->> ''cpu_usage'')::float8 / nullif((l.metrics ->> ''cpu_limit'')::float8, 0)'
    when 'memory_usage' then '(l.metrics ->> ''memory_usage'')::float8'
  end;
  page jsonb;
begin
  if words <> '{}' then
    conditions := conditions || 's.score is not null'::text;
  end if;
  if status is not null then
    conditions := conditions || '(a.status = any ($4) or d.state = any ($4))'::text;
  end if;
  if platform is not null then
    conditions := conditions || '$5 = any (a.platforms)'::text;
  end if;
  if created_after is not null then
    conditions := conditions || 'a.created_at >= $6'::text;
  end if;
  if created_before is not null then
    conditions := conditions || 'a.created_at < $7'::text;
  end if;
  execute format(
    $statement$
      with found as %s (
        select a.id, s.score, %s as key
        from public.agents a
        left join public.deployments d on d.agent_id = a.id
        left join public.agent_metrics_latest l on l.agent_id = a.id
        cross join lateral (select %s as score offset 0) s
        where %s
      )
      select jsonb_build_object('total', (select count(*) from found), 'page', (
        select coalesce(jsonb_agg(jsonb_build_object('id', p.id, 'score', p.score)), '[]')
        from (select * from found f order by f.key %s nulls last, f.id %5$s limit $8 offset $9) p
      ))
    $statement$,
    -- With words each row is scored once for both; without, the page may come in the order of an index.
    case when words = '{}' then 'not materialized' else 'materialized' end,
    key,
    case when words = '{}' then 'null::real'
      else 'private.search_score($2, private.search_text(a.name, a.description, a.platforms), $3)' end,
    array_to_string(conditions, ' and '),
    case sort_order when 'asc' then 'asc' else 'desc' end
  ) into page using owner, words, similar_too, status, platform, created_after, created_before, row_limit, row_offset;
  return page;
end;
$$;
comment on function private.search_page is
  'One page of a search among the agents of an owner, of those that the role calling it sees → {total, page: [{id, score}]}.';

create function private.searchable_since(since timestamptz, until timestamptz) returns bigint
language sql stable security definer
set search_path = ''
as $$
  select case when since is null and until is null then (select private.count_of(private.fleet_counts(), 'agents')) else (
    select count(*) from private.searchable s
    where s.created_at >= coalesce(since, '-infinity') and s.created_at < coalesce(until, 'infinity')
  ) end;
$$;
comment on function private.searchable_since is 'How many agents there are of a time. Definer: called by search_everywhere, which asks for the right.';

create function private.search_everywhere(
  words text[], similar_too boolean, status text[], platform text, created_after timestamptz, created_before timestamptz,
  sort_by text, sort_order text, row_limit integer, row_offset integer
) returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
declare
  most constant integer := (private.setting('search', 'ranked_matches'))::int;
  -- In the order of an index a page needs no look at all matches, and without words there is nothing to rank.
  ranked constant boolean := words <> '{}' and sort_by not in ('name', 'created_at');
  -- Columns that are never null need no word of it, which would keep the index from giving the order.
  ordered constant text := sort_order || case when sort_by in ('name', 'created_at') then '' else ' nulls last' end;
  key constant text := case sort_by
    when 'relevance' then 's.score'
    when 'name' then 's.name'
    when 'created_at' then 's.created_at'
    when 'last_activity' then 'k.last_activity_at'
    when 'cpu_usage' then '100 * (l.metrics ->> ''cpu_usage'')::float8 / nullif((l.metrics ->> ''cpu_limit'')::float8, 0)'
    when 'memory_usage' then '(l.metrics ->> ''memory_usage'')::float8'
  end;
  key_source constant text := case sort_by
    when 'last_activity' then ' join public.agents k on k.id = s.agent_id'
    when 'cpu_usage' then ' left join public.agent_metrics_latest l on l.agent_id = s.agent_id'
    when 'memory_usage' then ' left join public.agent_metrics_latest l on l.agent_id = s.agent_id'
    else ''
  end;
  score constant text := case when words = '{}' then 'null::real' else 'private.search_score($1, s.searched, $2)' end;
  source text := 'private.searchable s';
  conditions text[] := '{true}';
  word text;
  patterns text[];
  spans text;
  among_newest integer;
  -- What the status is asked by: its words, or the agents that have it.
  by_status text[] := status;
  with_status uuid[];
  total bigint;
  oldest timestamptz;
  page jsonb;
begin
  if private.reach('agents:read') <> 'all' then
    perform private.raise_error('PERMISSION_DENIED', 'This needs the permission agents:read_all.', '{"permission": "agents:read_all"}', 403);
  end if;
  foreach word in array words loop
    patterns := array[case when char_length(word) < 3 then '% ' else '%' end || word || '%'];
    if similar_too and char_length(word) > 2 then
      patterns := patterns || array(select '% ' || m || ' %' from unnest(private.meant_words(word)) m);
    end if;
    -- One by one: of these the statistics know how common they are.
    conditions := conditions || ('(' || (select string_agg(format('s.searched like %L', p), ' or ') from unnest(patterns) p) || ')');
  end loop;
  if status is not null then
    -- A status that few agents have tells more than any word.
    execute 'select array(select a.id from public.agents a where a.status = any ($1) limit $2)
      || array(select d.agent_id from public.deployments d where d.state = any ($1) limit $2)'
    into with_status using status, 20 * most + 1;
    if cardinality(with_status) <= 20 * most then
      by_status := with_status::text[];
      among_newest := 0;
      conditions := conditions || 's.agent_id = any ($3::uuid[])'::text;
    end if;
  end if;
  if status is not null and among_newest is null or platform is not null then
    source := source || ' join public.agents a on a.id = s.agent_id left join public.deployments d on d.agent_id = s.agent_id';
  end if;
  if status is not null and among_newest is null then
    conditions := conditions || '(a.status = any ($3) or d.state = any ($3))'::text;
  end if;
  if platform is not null then
    conditions := conditions || '$4 = any (a.platforms)'::text;
  end if;
  if created_after is not null then
    conditions := conditions || 's.created_at >= $5'::text;
  end if;
  if created_before is not null then
    conditions := conditions || 's.created_at < $6'::text;
  end if;

  if conditions = '{true}' then
    total := private.count_of(private.fleet_counts(), 'agents');
  else
    if source = 'private.searchable s' then
      -- An estimate that is far off must not lead to reading all; with other tables joined, reading them whole can be best.
      perform set_config('enable_seqscan', 'off', true);
    end if;
    if words <> '{}' and among_newest is null then
      -- Words that go together or never do are far from what statistics expect of them; the newest tell.
      spans := concat_ws(' and ', 'true', case when created_after is not null then 's.created_at >= $5' end,
        case when created_before is not null then 's.created_at < $6' end);
      execute format('select count(*) from %s where %s', replace(source, 'private.searchable s', format(
          '(select * from private.searchable s where %s order by s.created_at desc, s.agent_id desc limit 10000) s', spans)),
        array_to_string(conditions, ' and '))
      into among_newest using words, similar_too, by_status, platform, created_after, created_before;
    end if;
    execute format(
      $statement$
        with matching as %s (
          select s.agent_id, s.created_at, s.searched from %s where %s
        ), newest as materialized (
          select * from matching s order by s.created_at desc, s.agent_id desc limit $7 + 1
        ), scored as materialized (
          select s.agent_id, s.created_at, %s as score from newest s
        ), found as (
          select * from scored s where %s order by s.created_at desc, s.agent_id desc limit $7
        )
        select (select count(*) from found), (select case when count(*) > $7 then min(n.created_at) end from newest n),
          case when %s then (
            select coalesce(jsonb_agg(jsonb_build_object('id', p.agent_id, 'score', p.score)), '[]')
            from (select s.agent_id, s.score from found s%s order by %s %s, s.agent_id %s limit $8 offset $9) p
          ) end
      $statement$,
      -- Common ones are soon enough of them from the newest on; of others all come by the index on words.
      case when among_newest < 200 then 'materialized' else 'not materialized' end, source, array_to_string(conditions, ' and '), score, case when words = '{}' then 'true' else 's.score is not null' end,
      ranked::text, case when ranked then key_source end, case when ranked then key else 's.created_at' end, ordered, sort_order
    ) into total, oldest, page
    using words, similar_too, by_status, platform, created_after, created_before, most, row_limit, row_offset;
  end if;
  perform set_config('enable_seqscan', 'on', true);
  if page is null then
    if similar_too then
      conditions := conditions || (score || ' is not null');
    end if;
    execute format(
      $statement$
        select coalesce(jsonb_agg(jsonb_build_object('id', p.agent_id, 'score', p.score)), '[]')
        from (select s.agent_id, %s as score from %s%s where %s order by %s %s, s.agent_id %s limit $7 offset $8) p
      $statement$,
      score, source, key_source, array_to_string(conditions, ' and '), key, ordered, sort_order
    ) into page
    using words, similar_too, by_status, platform, created_after, created_before, row_limit, row_offset;
  end if;
  if oldest is not null then
    -- As many among the older ones as among the newer ones, to two digits.
    total := greatest(most + 1, total::numeric * private.searchable_since(created_after, created_before)
      / greatest(1, private.searchable_since(greatest(oldest, created_after), created_before)));
    total := round(total::numeric, 1 - floor(log(total))::int);
  end if;
  return jsonb_build_object('total', total, 'total_is_estimate', oldest is not null, 'page', page);
end;
$$;
comment on function private.search_everywhere is
  'One page of a search over everybody''s agents → {total, total_is_estimate, page: [{id, score}]}. Beyond settings search.ranked_matches the newest matches are ranked and the total is an estimate. Definer: see the head of this file; it asks for the right to see all and gives ids only.';

create function public.search_agents(
  q text default null, status text[] default null, platform text default null,
  created_after timestamptz default null, created_before timestamptz default null,
  sort_by text default null, sort_order text default null, row_limit integer default 20, row_offset integer default 0
) returns jsonb
language plpgsql stable
set search_path = ''
as $$
declare
  began constant timestamptz := clock_timestamp();
  reached constant text := private.require_permission('agents:read');
  asked constant boolean := trim(coalesce(q, '')) <> '';
  words constant text[] := private.search_words(coalesce(q, ''));
  sorted_by constant text := coalesce(sort_by, case when asked then 'relevance' else 'created_at' end);
  ordered constant text := coalesce(sort_order, case when sorted_by = 'name' then 'asc' else 'desc' end);
  faults jsonb := '{}';
  similar_too boolean := false;
  found jsonb := '{"total": 0, "page": []}';
  ids uuid[];
  results jsonb;
begin
  if char_length(q) > 200 then
    faults := faults || '{"q": "q must be at most 200 characters"}';
  end if;
  if sorted_by not in ('relevance', 'name', 'created_at', 'last_activity', 'cpu_usage', 'memory_usage') then
    faults := faults || '{"sort": "sort must be one of: name, created_at, last_activity, cpu_usage, memory_usage"}';
  end if;
  if ordered not in ('asc', 'desc') then
    faults := faults || '{"order": "order must be asc or desc"}';
  end if;
  if row_limit is null or row_limit not between 1 and 100 or row_offset is null or row_offset < 0 then
    faults := faults || '{"limit": "limit must be from 1 to 100 and offset at least 0"}';
  end if;
  if faults <> '{}' then
    perform private.raise_error('VALIDATION_ERROR', 'Invalid request parameters', faults, 400);
  end if;

  -- A query without a letter or a digit asks for what nothing has.
  while not asked or words <> '{}' loop
    found := case when reached = 'all'
      then private.search_everywhere(words, similar_too, search_agents.status, search_agents.platform, search_agents.created_after,
        search_agents.created_before, sorted_by, ordered, row_limit, row_offset)
      else private.search_page((select auth.uid()), words, similar_too, search_agents.status, search_agents.platform, search_agents.created_after,
        search_agents.created_before, sorted_by, ordered, row_limit, row_offset)
    end;
    exit when not asked or similar_too or found -> 'total' <> '0';
    similar_too := true;
  end loop;

  ids := array(select (e.entry ->> 'id')::uuid from jsonb_array_elements(found -> 'page') with ordinality e (entry, place) order by e.place);
  select coalesce(jsonb_agg(jsonb_build_object(
    'agent', jsonb_build_object(
      'id', a.id, 'user_id', a.user_id, 'name', a.name, 'description', a.description, 'status', a.status, 'platforms', a.platforms,
      'created_at', a.created_at, 'last_activity_at', a.last_activity_at
    ),
    'deployment', case when d.id is not null then jsonb_build_object('state', d.state) end,
    'metrics', l.metrics,
    'relevance_score', found #> array['page', (array_position(ids, a.id) - 1)::text, 'score'],
    'highlighted_fields', jsonb_build_object(
      'name', private.highlight(a.name, words, similar_too), 'description', private.highlight(a.description, words, similar_too),
      'platform', private.highlight(array_to_string(a.platforms, ', '), words, similar_too)
    )
  ) order by array_position(ids, a.id)), '[]') into results
  from public.agents a
  left join public.deployments d on d.agent_id = a.id
  left join public.agent_metrics_latest l on l.agent_id = a.id
  where a.id = any (ids);
  return jsonb_build_object(
    'results', results, 'total', found -> 'total', 'total_is_estimate', coalesce((found ->> 'total_is_estimate')::boolean, false), 'limit', row_limit, 'offset', row_offset, 'similar', similar_too and results <> '[]',
    'search_ms', round(extract(epoch from clock_timestamp() - began) * 1000, 3)
  );
end;
$$;
comment on function public.search_agents is
  'Agents whose name, description or platforms have all words of q (seed 000); when none has, those with similar words → {results: [{agent, deployment, metrics, relevance_score 0–1 | null without q, highlighted_fields {name, description, platform} as HTML with <mark>}], total, total_is_estimate (of everybody''s, beyond settings search.ranked_matches, of which the newest are ranked and paged through), limit, offset, similar, search_ms}. status: words of agents.status or deployments.state; created_after ≤ created_at < created_before; sort_by: relevance, name, created_at, last_activity, cpu_usage, memory_usage, what is unknown last. row_limit 1–100. Errors: PERMISSION_DENIED 403, VALIDATION_ERROR 400.';

-- The index calls search_text as whoever writes an agent.
grant execute on function private.search_text, private.plain_words, private.search_words, private.mistyped, private.search_score,
  private.escape_html, private.highlight, private.search_page, private.search_everywhere
  to authenticated, service_role;
grant execute on function public.search_agents to authenticated, service_role;
