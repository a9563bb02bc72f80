import { interpolate } from "./interpolate.ts";

const WHOLE_LINE_COMMENT = /^#[^\n]*/;
const NAME = /^(?:export[ \t]+)?([\p{L}\p{N}_.\-[\] \t]*?)[ \t]*([=:\n]|$)/u;
const ESCAPES: Record<string, string> = {
  a: "\x07",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
  v: "\v",
  "\\": "\\",
  '"': '"',
};

function unescape(text: string): string {
  return text.replaceAll(/\\(0\d{0,3}|[abfnrtv"\\$])/g, (_, code: string) => {
    // A dollar stays doubled, so that it does not begin a reference in the step that follows.
    if (code === "$") return "$$";
    return ESCAPES[code] ?? String.fromCharCode(parseInt(code.slice(1) || "0", 8));
  });
}

/**
 * Reads an env file as Compose does: `NAME=value` up to the line's end or ` #`, `'…'` as it stands, `"…"` with escapes,
 * both over several lines; `$NAME` refers to earlier ones except in `'…'`.
 * @throws Error that names the line and shows nothing of it, because values are secrets
 */
export function parseEnvFile(text: string): Record<string, string> {
  const env: Record<string, string> = {};
  let at = 0;
  const fail = (what: string): never => {
    throw new Error(
      `failed to read stack.env: line ${text.slice(0, at).split("\n").length}: ${what}`,
    );
  };
  const expand = (value: string): string => {
    try {
      return interpolate(value, env);
    } catch {
      return fail("invalid interpolation format");
    }
  };
  const skip = (pattern: RegExp) => at += pattern.exec(text.slice(at))?.[0].length ?? 0;
  while (true) {
    skip(/^\s+/);
    if (at >= text.length) return env;
    if (text[at] === "#") {
      skip(WHOLE_LINE_COMMENT);
      continue;
    }
    const match = NAME.exec(text.slice(at));
    if (!match) return fail("unexpected character in variable name");
    const [whole, name = "", separator] = match;
    if (/\s/.test(name)) fail("key cannot contain a space");
    at += whole.length;
    // A name alone would take the value of the surrounding environment, in which a stack has none.
    if (separator !== "=" && separator !== ":") continue;
    skip(/^[ \t\r\v\f]+/);
    const quote = text[at];
    if (quote !== '"' && quote !== "'") {
      const line = /^[^\n]*/.exec(text.slice(at))![0];
      at += line.length;
      env[name] = expand(line.split(" #", 1)[0]!.trimEnd());
      continue;
    }
    const quoted = (quote === '"' ? /^"((?:[^"\\]|\\[\s\S])*)"/ : /^'((?:[^'\\]|\\[\s\S])*)'/)
      .exec(text.slice(at));
    if (!quoted) return fail("unterminated quoted value");
    at += quoted[0].length;
    const content = quoted[1]!;
    env[name] = quote === '"' ? expand(unescape(content)) : content.replaceAll("\\'", "'");
  }
}

/** What Compose makes of a stack's variables: Portainer writes them into an env file, a line each and unquoted. */
export function throughEnvFile(
  variables: { name: string; value: string }[],
): Record<string, string> {
  return parseEnvFile(variables.map(({ name, value }) => `${name}=${value}\n`).join(""));
}
