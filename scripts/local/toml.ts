import { StackError } from "./errors.ts";

export type TomlValue = string | number | boolean | TomlValue[] | TomlTable;
export interface TomlTable {
  [key: string]: TomlValue;
}

/**
 * Reads the TOML that `supabase/config.toml` is written in: tables, dotted and quoted keys,
 * single-line strings, numbers, booleans, arrays over several lines and inline tables. Dates,
 * multi-line strings and arrays of tables do not occur there and are refused by line number.
 *
 * @throws {StackError} naming the line that cannot be read
 */
export function parseToml(text: string, file = "config.toml"): TomlTable {
  const root: TomlTable = {};
  let table = root;
  const reader = new Reader(text, file);
  for (reader.skipBlank(); !reader.done; reader.skipBlank()) {
    if (reader.take("[")) {
      const path = reader.keyPath();
      reader.expect("]");
      table = descend(root, path, reader);
    } else {
      assign(table, reader.keyPath(), reader.valueAfterEquals(), reader);
    }
    reader.endOfLine();
  }
  return root;
}

function descend(from: TomlTable, path: string[], reader: Reader): TomlTable {
  let table = from;
  for (const key of path) {
    const next = Object.hasOwn(table, key) ? table[key] : (table[key] = {});
    if (typeof next !== "object" || Array.isArray(next)) throw reader.fail(`${key} is not a table`);
    table = next;
  }
  return table;
}

function assign(table: TomlTable, path: string[], value: TomlValue, reader: Reader): void {
  const target = descend(table, path.slice(0, -1), reader);
  const key = path[path.length - 1]!;
  if (Object.hasOwn(target, key)) throw reader.fail(`${key} is set twice`);
  target[key] = value;
}

const ESCAPES: Record<string, string> = {
  n: "\n",
  t: "\t",
  r: "\r",
  b: "\b",
  f: "\f",
  '"': '"',
  "\\": "\\",
};

class Reader {
  private at = 0;
  constructor(private readonly text: string, private readonly file: string) {}

  get done(): boolean {
    return this.at >= this.text.length;
  }

  fail(reason: string): StackError {
    const line = this.text.slice(0, this.at).split("\n").length;
    return new StackError(`${this.file} line ${line}: ${reason}.`, "Correct the file and retry.");
  }

  take(token: string): boolean {
    if (!this.text.startsWith(token, this.at)) return false;
    this.at += token.length;
    return true;
  }

  expect(token: string): void {
    this.match(/[ \t]*/y);
    if (!this.take(token)) throw this.fail(`expected ${token}`);
  }

  skipBlank(): void {
    this.match(/(?:\s+|#[^\n]*)*/y);
  }

  endOfLine(): void {
    if (this.match(/[ \t]*(?:#[^\n]*)?(?:\r?\n|$)/y) === null) throw this.fail("unexpected text");
  }

  keyPath(): string[] {
    const path: string[] = [];
    do {
      this.match(/[ \t]*/y);
      path.push(this.string() ?? this.match(/[A-Za-z0-9_-]+/y) ?? this.missingKey());
      this.match(/[ \t]*/y);
    } while (this.take("."));
    return path;
  }

  valueAfterEquals(): TomlValue {
    this.expect("=");
    this.match(/[ \t]*/y);
    return this.value();
  }

  private missingKey(): never {
    throw this.fail("expected a key");
  }

  private match(pattern: RegExp): string | null {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (found === null) return null;
    this.at = pattern.lastIndex;
    return found[0];
  }

  private value(): TomlValue {
    const text = this.string();
    if (text !== null) return text;
    if (this.take("[")) return this.array();
    if (this.take("{")) return this.inlineTable();
    const word = this.match(/[A-Za-z0-9_+.-]+/y) ?? "";
    if (word === "true" || word === "false") return word === "true";
    const number = Number(word.replaceAll("_", ""));
    if (word === "" || Number.isNaN(number)) throw this.fail("value not understood");
    return number;
  }

  private string(): string | null {
    if (this.text.startsWith('"""', this.at) || this.text.startsWith("'''", this.at)) {
      throw this.fail("multi-line strings are not supported");
    }
    const literal = this.match(/'[^'\n]*'/y);
    if (literal !== null) return literal.slice(1, -1);
    const basic = this.match(/"(?:[^"\\\n]|\\.)*"/y);
    if (basic === null) return null;
    return basic.slice(1, -1).replace(
      /\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))/g,
      (_, short?: string, long?: string, escape?: string) => {
        const code = short ?? long;
        if (code !== undefined) return String.fromCodePoint(parseInt(code, 16));
        const plain = ESCAPES[escape!];
        if (plain === undefined) throw this.fail(`unknown escape \\${escape}`);
        return plain;
      },
    );
  }

  private array(): TomlValue[] {
    const values: TomlValue[] = [];
    for (this.skipBlank(); !this.take("]"); this.skipBlank()) {
      if (this.done) throw this.fail("the array is not closed");
      values.push(this.value());
      this.skipBlank();
      if (!this.take(",")) {
        this.expect("]");
        break;
      }
    }
    return values;
  }

  private inlineTable(): TomlTable {
    const table: TomlTable = {};
    this.match(/[ \t]*/y);
    if (this.take("}")) return table;
    do assign(table, this.keyPath(), this.valueAfterEquals(), this); while (
      (this.match(/[ \t]*/y), this.take(","))
    );
    this.expect("}");
    return table;
  }
}
