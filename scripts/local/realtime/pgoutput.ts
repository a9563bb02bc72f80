import type { Buffer } from "node:buffer";

/** A table as the stream describes it before its first change and after each change of its shape. */
export interface Relation {
  oid: number;
  schema: string;
  name: string;
  columns: RelationColumn[];
}

export interface RelationColumn {
  name: string;
  type: number;
  /** Part of the replica identity. */
  key: boolean;
}

/** Text form of each value in the order of the relation's columns; undefined is unchanged TOAST. */
export type Tuple = (string | null | undefined)[];

export interface Change {
  type: "INSERT" | "UPDATE" | "DELETE";
  new: Tuple | null;
  /** What the replica identity tells of the row before. */
  old: Tuple | null;
  /** Whether `old` has the key columns only. */
  keysOnly: boolean;
}

/** Microseconds between 1970 and 2000, where Postgres counts from. */
const POSTGRES_EPOCH_MS = Date.UTC(2000, 0, 1);

export const MESSAGE = {
  begin: 0x42,
  commit: 0x43,
  relation: 0x52,
  insert: 0x49,
  update: 0x55,
  delete: 0x44,
} as const;

/** When the transaction was committed, in milliseconds since 1970. */
export function commitTime(begin: Buffer): number {
  return POSTGRES_EPOCH_MS + Number(begin.readBigInt64BE(9) / 1000n);
}

/** The transaction's 32-bit id. */
export function transactionId(begin: Buffer): number {
  return begin.readUInt32BE(17);
}

/** Where the transaction ends in the write-ahead log. */
export function commitEnd(commit: Buffer): bigint {
  return commit.readBigUInt64BE(10);
}

/** The table of an insert, update or delete. */
export function relationOf(message: Buffer): number {
  return message.readUInt32BE(1);
}

/** Reads a Relation message (`R`) of pgoutput's protocol version 1. */
export function decodeRelation(message: Buffer): Relation {
  let offset = 5;
  const name = () => {
    const end = message.indexOf(0, offset);
    const value = message.toString("utf8", offset, end);
    offset = end + 1;
    return value;
  };
  const schema = name() || "pg_catalog";
  const table = name();
  const columns = Array<RelationColumn>(message.readUInt16BE(offset + 1));
  offset += 3;
  for (let index = 0; index < columns.length; index++) {
    const key = (message[offset]! & 1) === 1;
    offset += 1;
    columns[index] = { key, name: name(), type: message.readUInt32BE(offset) };
    offset += 8;
  }
  return { oid: relationOf(message), schema, name: table, columns };
}

/** Reads an Insert, Update or Delete message. */
export function decodeChange(message: Buffer): Change {
  let offset = 5;
  const tuple = (): Tuple => {
    const values: Tuple = Array(message.readUInt16BE(offset + 1));
    offset += 3;
    for (let index = 0; index < values.length; index++) {
      const kind = message[offset++];
      if (kind === 0x74) {
        const length = message.readUInt32BE(offset);
        offset += 4;
        values[index] = message.toString("utf8", offset, offset += length);
      } else {
        values[index] = kind === 0x6e ? null : undefined;
      }
    }
    return values;
  };
  const change: Change = { type: "INSERT", new: null, old: null, keysOnly: false };
  if (message[0] !== MESSAGE.insert) {
    change.type = message[0] === MESSAGE.update ? "UPDATE" : "DELETE";
    const mark = message[offset];
    if (mark === 0x4b || mark === 0x4f) {
      change.keysOnly = mark === 0x4b;
      change.old = tuple();
    }
  }
  if (change.type !== "DELETE") change.new = tuple();
  return change;
}
