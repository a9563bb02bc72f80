import type { Sql } from "postgres";
import type { Relation } from "./pgoutput.ts";
import type { ValueType } from "./values.ts";

/** A table as subscribers know it: a partition's changes are its root's. */
export interface Table {
  oid: number;
  schema: string;
  name: string;
  /** In the order of the table; `type` is `pg_type.typname`. */
  columns: { name: string; type: string }[];
  /** In the order of the key. */
  primaryKey: string[];
}

export interface Catalog {
  /** What `table` has found already; undefined when it was not asked yet. */
  known(relation: Relation): Table | null | undefined;
  /** The table a relation of the stream belongs to; null when it was dropped since. */
  table(relation: Relation): Promise<Table | null>;
  types(oids: Iterable<number>): Promise<Map<number, ValueType>>;
  /** Forgets everything: another database may stand behind the connection. */
  clear(): void;
}

/** Looks tables and types up once; a changed table comes as a new Relation object. */
export function createCatalog(sql: Sql): Catalog {
  let tables = new WeakMap<Relation, Promise<Table | null>>();
  let found = new WeakMap<Relation, Table | null>();
  const types = new Map<number, ValueType>();

  async function loadTypes(wanted: number[]): Promise<void> {
    const rows = await sql<TypeRow[]>`
      with recursive needed (oid) as (
        select unnest(${wanted}::oid[])
        union
        select further.oid
        from needed
        join pg_catalog.pg_type on pg_type.oid = needed.oid
        cross join lateral (
          select typelem where typcategory = 'A'
          union all select typbasetype where typtype = 'd'
          union all
          select atttypid from pg_catalog.pg_attribute
          where attrelid = typrelid and typtype = 'c' and attnum > 0 and not attisdropped
        ) as further (oid)
        where further.oid <> 0
      )
      select
        pg_type.oid::int8::float8 as oid, typname as name, typdelim as delimiter,
        case when typcategory = 'A' then typelem::int8::float8 else 0 end as element,
        case when typtype = 'd' then typbasetype::int8::float8 else 0 end as base,
        case when typtype = 'c' then (
          select coalesce(json_agg(json_build_object('name', attname, 'type', atttypid::int8)
            order by attnum), '[]')::text
          from pg_catalog.pg_attribute
          where attrelid = typrelid and attnum > 0 and not attisdropped
        ) end as attributes
      from needed join pg_catalog.pg_type on pg_type.oid = needed.oid`;
    for (const row of rows) {
      types.set(row.oid, {
        oid: row.oid,
        name: row.name,
        delimiter: row.delimiter,
        element: null,
        base: null,
        attributes: null,
      });
    }
    for (const row of rows) {
      const type = types.get(row.oid)!;
      type.element = types.get(row.element) ?? null;
      type.base = types.get(row.base) ?? null;
      if (row.attributes === null) continue;
      const attributes = JSON.parse(row.attributes) as { name: string; type: number }[];
      type.attributes = attributes.map(({ name, type }) => ({ name, type: types.get(type)! }));
    }
  }

  return {
    known: (relation) => found.get(relation),
    table(relation) {
      let table = tables.get(relation);
      if (table === undefined) {
        table = loadTable(sql, relation.oid);
        tables.set(relation, table);
        table.then(
          (value) => found.set(relation, value),
          // A failure is that moment's; the next change asks again.
          () => tables.delete(relation),
        );
      }
      return table;
    },
    async types(oids) {
      const missing = [...new Set(oids)].filter((oid) => !types.has(oid));
      if (missing.length > 0) await loadTypes(missing);
      return types;
    },
    clear() {
      tables = new WeakMap();
      found = new WeakMap();
      types.clear();
    },
  };
}

interface TypeRow {
  oid: number;
  name: string;
  delimiter: string;
  element: number;
  base: number;
  attributes: string | null;
}

async function loadTable(sql: Sql, relation: number): Promise<Table | null> {
  const [row] = await sql<
    { oid: number; schema: string; name: string; columns: string; primary_key: string[] }[]
  >`
    select
      root.oid::int8::float8 as oid, nspname as schema, root.relname as name,
      (
        select json_agg(json_build_object('name', attname, 'type', typname) order by attnum)::text
        from pg_catalog.pg_attribute join pg_catalog.pg_type on pg_type.oid = atttypid
        where attrelid = root.oid and attnum > 0 and not attisdropped
      ) as columns,
      array(select name from _realtime.primary_key(root.oid) order by place) as primary_key
    from pg_catalog.pg_class root
    join pg_catalog.pg_namespace on pg_namespace.oid = root.relnamespace
    where root.oid = coalesce(pg_catalog.pg_partition_root(${relation}::oid), ${relation}::oid)`;
  if (row === undefined) return null;
  return { ...row, columns: JSON.parse(row.columns ?? "[]"), primaryKey: row.primary_key };
}
