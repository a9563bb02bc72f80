-- Relationships that PostgREST cannot read from foreign keys: operations and events are the record of what was done, also
-- to an agent or a stack that is gone, so nothing in them refers to either. A function of a table's row that gives rows of
-- another is one to PostgREST: `agents?select=name,operations(kind,state)`, `operations?select=kind,agents(name)`.
--
-- Mind: a function that pins its search path is not merged into the query around it, so each gives all rows of its parent
-- before a filter or limit is applied. Log lines, measurements and conversations, of which an agent has millions, have no
-- such function: ask for them by agent_id.

create function public.operations(public.agents) returns setof public.operations
language sql stable rows 100
set search_path = ''
as $$
  select o.* from public.operations o where o.agent_id = $1.id;
$$;
comment on function public.operations(public.agents) is 'Relationship: operations of an agent, for embedding them in a query of agents.';

create function public.agent_events(public.agents) returns setof public.agent_events
language sql stable rows 100
set search_path = ''
as $$
  select e.* from public.agent_events e where e.agent_id = $1.id;
$$;
comment on function public.agent_events(public.agents) is 'Relationship: events of an agent, for embedding them in a query of agents.';

create function public.agents(public.operations) returns setof public.agents
language sql stable rows 1
set search_path = ''
as $$
  select a.* from public.agents a where a.id = $1.agent_id;
$$;
comment on function public.agents(public.operations) is 'Relationship: the agent of an operation, null when it is gone or the operation is a stack''s.';

create function public.agents(public.agent_events) returns setof public.agents
language sql stable rows 1
set search_path = ''
as $$
  select a.* from public.agents a where a.id = $1.agent_id;
$$;
comment on function public.agents(public.agent_events) is 'Relationship: the agent that an event is about, null when it is gone.';

create function public.operations(public.stacks) returns setof public.operations
language sql stable rows 100
set search_path = ''
as $$
  select o.* from public.operations o where o.stack_id = $1.id;
$$;
comment on function public.operations(public.stacks) is 'Relationship: operations of a stack, for embedding them in a query of stacks.';

create function public.stacks(public.operations) returns setof public.stacks
language sql stable rows 1
set search_path = ''
as $$
  select s.* from public.stacks s where s.id = $1.stack_id;
$$;
comment on function public.stacks(public.operations) is 'Relationship: the stack of an operation, null when it is gone or the operation is an agent''s.';

grant execute on function
  public.operations(public.agents), public.agent_events(public.agents), public.agents(public.operations),
  public.agents(public.agent_events), public.operations(public.stacks), public.stacks(public.operations)
  to authenticated, service_role;
