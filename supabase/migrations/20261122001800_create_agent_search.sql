-- Search of agents (seed 000): by the words of name, description and platforms, typing errors forgiven.
--
-- A word is found as it stands, as the beginning of a word and, from three letters on, inside one. Only when no agent has
-- all the words so, similar ones are taken too: who spells right gets nothing they did not ask for.
-- Mind: `like` and the similarity operators are not leakproof, so under row level security no index on the text serves
-- them. A user's own agents are few and come by the index on the owner. For those who see everybody's,
-- private.search_everywhere asks for that right itself and uses the trigram index; only ids leave it, and what is shown of
-- them is read as the caller.

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

create index agents_search_idx on public.agents
  using gin (private.search_text(name, description, platforms) extensions.gin_trgm_ops) where deleted_at is null;

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
  conditions text[] := array['a.deleted_at is null'];
  key constant text := case sort_by
    when 'relevance' then 's.score'
    when 'name' then 'lower(a.name)'
    -- For everybody's agents as agents_age_idx has it.
    when 'created_at' then case when owner is null then '(a.created_at at time zone ''UTC'')' else 'a.created_at' end
    when 'last_activity' then 'a.last_activity_at'
    when 'cpu_usage' then '100 * (l.metrics ->> ''cpu_usage'')::float8 / nullif((l.metrics ->> ''cpu_limit'')::float8, 0)'
    when 'memory_usage' then '(l.metrics ->> ''memory_usage'')::float8'
  end;
  word text;
  page jsonb;
begin
  if owner is not null then
    conditions := conditions || 'a.user_id = $1'::text;
  else
    -- The trigram index finds what has these; the score decides.
    foreach word in array words loop
      conditions := conditions || format('(private.search_text(a.name, a.description, a.platforms) like %L%s)',
        case when char_length(word) < 3 then '% ' else '%' end || word || '%',
        case when similar_too and char_length(word) > 2 then
          format(' or %L operator(extensions.<%%) private.search_text(a.name, a.description, a.platforms)', word) end);
    end loop;
    if similar_too then
      -- With less the index finds a quarter of a million agents (20 s); what it costs is slips in the midst of short words.
      perform set_config('pg_trgm.word_similarity_threshold', '0.45', true);
    end if;
  end if;
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
  'One page of a search, of the agents that the role calling it sees → {total, page: [{id, score}]}; owner null: of all owners.';

create function private.search_everywhere(
  words text[], similar_too boolean, status text[], platform text, created_after timestamptz, created_before timestamptz,
  sort_by text, sort_order text, row_limit integer, row_offset integer
) returns jsonb
language plpgsql stable security definer
set search_path = ''
as $$
begin
  if private.reach('agents:read') <> 'all' then
    perform private.raise_error('PERMISSION_DENIED', 'This needs the permission agents:read_all.', '{"permission": "agents:read_all"}', 403);
  end if;
  return private.search_page(null, words, similar_too, status, platform, created_after, created_before, sort_by, sort_order, row_limit, row_offset);
end;
$$;
comment on function private.search_everywhere is
  'search_page over everybody''s agents. Definer: see the head of this file; it asks for the right to see all and gives ids only.';

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
    'results', results, 'total', found -> 'total', 'limit', row_limit, 'offset', row_offset, 'similar', similar_too and results <> '[]',
    'search_ms', round(extract(epoch from clock_timestamp() - began) * 1000, 3)
  );
end;
$$;
comment on function public.search_agents is
  'Agents whose name, description or platforms have all words of q (seed 000); when none has, those with similar words → {results: [{agent, deployment, metrics, relevance_score 0–1 | null without q, highlighted_fields {name, description, platform} as HTML with <mark>}], total, limit, offset, similar, search_ms}. status: words of agents.status or deployments.state; created_after ≤ created_at < created_before; sort_by: relevance, name, created_at, last_activity, cpu_usage, memory_usage, what is unknown last. row_limit 1–100. Errors: PERMISSION_DENIED 403, VALIDATION_ERROR 400.';

-- The index calls search_text as whoever writes an agent.
grant execute on function private.search_text, private.plain_words, private.search_words, private.mistyped, private.search_score,
  private.escape_html, private.highlight, private.search_page, private.search_everywhere
  to authenticated, service_role;
grant execute on function public.search_agents to authenticated, service_role;
