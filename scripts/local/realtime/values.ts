/** What is known of a type: enough to write its values as `to_jsonb` does. */
export interface ValueType {
  oid: number;
  /** `pg_type.typname`: `int4`, `_text`, `jsonb`. */
  name: string;
  /** Element type of an array. */
  element: ValueType | null;
  delimiter: string;
  /** Attributes of a composite type. */
  attributes: { name: string; type: ValueType }[] | null;
  /** A domain's base type; a value is written as that. */
  base: ValueType | null;
}

/**
 * Writes a value as JSON text, the way `to_jsonb(value::type)` would: numbers as they stand (so that
 * no digit of a numeric or bigint is lost here), json as it is, timestamps in ISO 8601.
 *
 * @param text Postgres's text form, in DateStyle ISO and time zone UTC
 */
export function toJson(type: ValueType, text: string | null): string {
  if (text === null) return "null";
  if (type.base !== null) return toJson(type.base, text);
  if (type.element !== null) return arrayToJson(type, text);
  if (type.attributes !== null) return compositeToJson(type.attributes, text);
  switch (type.name) {
    case "bool":
      return text === "t" ? "true" : "false";
    case "int2":
    case "int4":
    case "int8":
    case "float4":
    case "float8":
    case "numeric":
      // NaN and the infinities are strings in to_jsonb too.
      return /^-?\d/.test(text) ? jsonNumber(text) : JSON.stringify(text);
    case "json":
    case "jsonb":
      return text;
    case "timestamp":
      return JSON.stringify(text.replace(" ", "T"));
    case "timestamptz":
      return JSON.stringify(text.replace(" ", "T").replace(/([+-]\d\d)(?= BC$|$)/, "$1:00"));
    default:
      return JSON.stringify(text);
  }
}

/** JSON knows neither a leading dot nor `1e+16` without digits; Postgres writes none of the former. */
function jsonNumber(text: string): string {
  return text.endsWith(".") ? text.slice(0, -1) : text;
}

/** `{a,"b c",NULL,{…}}` and `[2:3]={…}`. */
function arrayToJson(type: ValueType, text: string): string {
  const element = type.element!;
  let offset = text[0] === "[" ? text.indexOf("=") + 1 : 0;
  const list = (): string => {
    const items: string[] = [];
    offset++;
    while (text[offset] !== "}") {
      if (text[offset] === "{") {
        items.push(list());
      } else if (text[offset] === '"') {
        const quoted = readQuoted(text, offset);
        offset = quoted.end;
        items.push(toJson(element, quoted.value));
      } else {
        const start = offset;
        while (text[offset] !== type.delimiter && text[offset] !== "}") offset++;
        const bare = text.slice(start, offset);
        items.push(bare.toUpperCase() === "NULL" ? "null" : toJson(element, bare));
      }
      if (text[offset] === type.delimiter) offset++;
    }
    offset++;
    return `[${items.join(",")}]`;
  };
  return list();
}

/** `(1,"a ""b""",)`: nothing between commas is null. */
function compositeToJson(attributes: { name: string; type: ValueType }[], text: string): string {
  let offset = 1;
  const members = attributes.map(({ name, type }) => {
    let value: string | null = null;
    while (text[offset] !== "," && offset < text.length - 1) {
      if (text[offset] === '"') {
        const quoted = readQuoted(text, offset);
        value = (value ?? "") + quoted.value;
        offset = quoted.end;
      } else {
        value = (value ?? "") + text[offset++];
      }
    }
    offset++;
    return `${JSON.stringify(name)}:${toJson(type, value)}`;
  });
  return `{${members.join(",")}}`;
}

/** Arrays escape with a backslash, composites double the quote; either reads both. */
function readQuoted(text: string, start: number): { value: string; end: number } {
  let value = "";
  let offset = start + 1;
  while (offset < text.length) {
    const character = text[offset]!;
    if (character === "\\") {
      value += text[offset + 1] ?? "";
      offset += 2;
    } else if (character === '"') {
      if (text[offset + 1] !== '"') return { value, end: offset + 1 };
      value += '"';
      offset += 2;
    } else {
      value += character;
      offset++;
    }
  }
  return { value, end: offset };
}

/** The elements of a one-dimensional array in Postgres's text form; null elements are left out. */
export function arrayElements(text: string): string[] {
  const items: string[] = [];
  let offset = 1;
  while (offset < text.length && text[offset] !== "}") {
    if (text[offset] === '"') {
      const quoted = readQuoted(text, offset);
      items.push(quoted.value);
      offset = quoted.end;
    } else {
      const start = offset;
      while (text[offset] !== "," && text[offset] !== "}") offset++;
      const bare = text.slice(start, offset);
      if (bare !== "NULL") items.push(bare);
    }
    if (text[offset] === ",") offset++;
  }
  return items;
}
