import type postgres from "postgres";

/**
 * What the migrations have made of a database, one line per fact: relations, columns, constraints,
 * indexes, functions, triggers, policies, rights, comments, settings' rows, scheduled jobs. Two
 * databases whose lines are equal are the same to the application.
 */
export async function describeCatalog(sql: postgres.Sql): Promise<string[]> {
  const rows = await sql<{ line: string }[]>`
    with schemas as (
      select oid, nspname from pg_namespace where nspname in ('public', 'private')
    ), relations as (
      select c.*, format('%I.%I', nspname, relname) as name
      from pg_class c join schemas s on s.oid = relnamespace
    )
    select concat_ws(' ', 'schema', nspname, pg_get_userbyid(nspowner), nspacl::text) as line
      from pg_namespace join schemas using (oid, nspname)
    union all select concat_ws(' ', 'relation', name, relkind, pg_get_userbyid(relowner), relacl::text,
      relrowsecurity, reloptions::text, obj_description(oid, 'pg_class')) from relations
    union all select concat_ws(' ', 'view', name, pg_get_viewdef(oid)) from relations where relkind = 'v'
    union all select concat_ws(' ', 'column', name, attnum, attname, format_type(atttypid, atttypmod),
      attnotnull, attacl::text, col_description(r.oid, attnum),
      (select pg_get_expr(adbin, adrelid) from pg_attrdef where adrelid = r.oid and adnum = attnum))
      from relations r join pg_attribute a on attrelid = r.oid and attnum > 0 and not attisdropped
    union all select concat_ws(' ', 'constraint', name, conname, pg_get_constraintdef(c.oid))
      from relations r join pg_constraint c on conrelid = r.oid
    union all select concat_ws(' ', 'index', pg_get_indexdef(indexrelid))
      from relations r join pg_index on indrelid = r.oid
    union all select concat_ws(' ', 'trigger', pg_get_triggerdef(t.oid))
      from relations r join pg_trigger t on tgrelid = r.oid and not tgisinternal
    union all select concat_ws(' ', 'policy', schemaname, tablename, policyname, permissive, roles::text,
      cmd, qual, with_check) from pg_policies
    union all select concat_ws(' ', 'function', pg_get_functiondef(p.oid), pg_get_userbyid(proowner),
      proacl::text, obj_description(p.oid, 'pg_proc'))
      from pg_proc p join schemas s on s.oid = pronamespace where prokind = 'f'
    union all select concat_ws(' ', 'type', typname, typtype, (
      select string_agg(enumlabel, ',' order by enumsortorder) from pg_enum where enumtypid = t.oid
    )) from pg_type t join schemas s on s.oid = typnamespace where typtype in ('d', 'e')
    union all select concat_ws(' ', 'extension', extname) from pg_extension
    union all select concat_ws(' ', 'publication', tablename) from pg_publication_tables
      where schemaname in ('public', 'private')
    union all select concat_ws(' ', 'default', defaclobjtype, defaclacl::text) from pg_default_acl
    union all select concat_ws(' ', 'job', jobname, schedule, command) from cron.job
    union all select concat_ws(' ', 'setting', category, key, value) from public.settings
    order by 1`;
  return rows.map((row) => row.line);
}
