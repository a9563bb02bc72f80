import type { Table } from "./catalog.ts";
import type { Change, Relation, Tuple } from "./pgoutput.ts";
import { toJson, type ValueType } from "./values.ts";

/** A decoded change with everything a payload needs. */
export interface TableChange {
  relation: Relation;
  table: Table;
  change: Change;
  /** Milliseconds since 1970. */
  committedAt: number;
  types: Map<number, ValueType>;
}

/** Above this size large values are left out and `errors` says so, as on the platform. */
const MOST_RECORD_BYTES = 1024 * 1024;
const ALWAYS_KEPT_BYTES = 64;

/**
 * `data` of a `postgres_changes` message as JSON text.
 *
 * @param selectable columns that the subscriber's role may select
 * @param selected columns asked for; the primary key always comes along
 * @param rowSecurity with it, a DELETE tells the primary key only: no policy can be asked any more
 */
export function changeData(
  event: TableChange,
  selectable: Set<string>,
  selected: Set<string> | null,
  rowSecurity: boolean,
): string {
  const { table, change, relation } = event;
  const keys = new Set(table.primaryKey);
  const shown = (name: string) =>
    selectable.has(name) && (selected === null || selected.has(name) || keys.has(name));
  const large = size(change.new) + size(change.old) > MOST_RECORD_BYTES;
  const record = (tuple: Tuple, include: (name: string, index: number) => boolean): string => {
    const members: string[] = [];
    relation.columns.forEach(({ name, type }, index) => {
      const value = tuple[index];
      if (value === undefined || !shown(name) || !include(name, index)) return;
      if (large && (value?.length ?? 0) > ALWAYS_KEPT_BYTES) return;
      members.push(`${JSON.stringify(name)}:${toJson(event.types.get(type)!, value)}`);
    });
    return `{${members.join(",")}}`;
  };

  const parts = [
    ...head(event),
    `"columns":${JSON.stringify(table.columns.filter(({ name }) => shown(name)))}`,
    `"errors":${large ? '["Error 413: Payload Too Large"]' : "null"}`,
  ];
  if (change.new !== null) {
    // A large value that did not change is not in the log; a full replica identity has it.
    const whole = change.old === null || change.keysOnly
      ? change.new
      : change.new.map((value, index) => value === undefined ? change.old![index] : value);
    parts.push(`"record":${record(whole, () => true)}`);
  }
  if (change.type === "UPDATE") {
    const before = change.old ?? change.new!;
    const identity = change.old === null
      ? (name: string) => keys.has(name)
      : (_: string, index: number) => !change.keysOnly || relation.columns[index]!.key;
    parts.push(`"old_record":${record(before, identity)}`);
  } else if (change.type === "DELETE") {
    const identity = (name: string, index: number) =>
      (!change.keysOnly || relation.columns[index]!.key) && (!rowSecurity || keys.has(name));
    parts.push(`"old_record":${record(change.old ?? [], identity)}`);
  }
  return `{${parts.join(",")}}`;
}

/** `data` of a change that cannot be told; no row is in it. */
export function errorData(event: TableChange, error: string): string {
  const parts = [...head(event), `"columns":[],"record":{},"errors":[${JSON.stringify(error)}]`];
  return `{${parts.join(",")}}`;
}

function head({ table, change, committedAt }: TableChange): string[] {
  return [
    `"schema":${JSON.stringify(table.schema)}`,
    `"table":${JSON.stringify(table.name)}`,
    `"commit_timestamp":${JSON.stringify(new Date(committedAt).toISOString())}`,
    `"type":"${change.type}"`,
  ];
}

function size(tuple: Tuple | null): number {
  return tuple?.reduce((sum, value) => sum + (value?.length ?? 0), 0) ?? 0;
}
