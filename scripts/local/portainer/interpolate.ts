/**
 * Replaces `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME-default}`, `${NAME:?message}`, `${NAME?message}`,
 * `${NAME:+other}` and `${NAME+other}` as Compose does; `$$` stands for a dollar. Unknown names become empty.
 * @throws Error when a required name is missing or the expression is malformed
 */
export function interpolate(text: string, env: Record<string, string>): string {
  let result = "";
  for (let at = 0; at < text.length;) {
    if (text[at] !== "$") {
      result += text[at++];
    } else if (text[at + 1] === "$") {
      result += "$";
      at += 2;
    } else if (text[at + 1] === "{") {
      const end = closingBrace(text, at + 2);
      result += expand(text.slice(at + 2, end), env);
      at = end + 1;
    } else {
      const name = /^[A-Za-z_]\w*/.exec(text.slice(at + 1))?.[0];
      if (!name) throw invalid(text);
      result += env[name] ?? "";
      at += 1 + name.length;
    }
  }
  return result;
}

const invalid = (text: string) =>
  new Error(
    `invalid interpolation format: ${
      JSON.stringify(text)
    }. You may need to escape any $ with another $`,
  );

function closingBrace(text: string, from: number): number {
  let depth = 1;
  for (let at = from; at < text.length; at++) {
    if (text[at] === "{" && text[at - 1] === "$") depth++;
    else if (text[at] === "}" && --depth === 0) return at;
  }
  throw invalid(text);
}

function expand(expression: string, env: Record<string, string>): string {
  const match = /^([A-Za-z_]\w*)(?:(:?[-?+])([\s\S]*))?$/.exec(expression);
  if (!match) throw invalid("${" + expression + "}");
  const [, name = "", operator, operand = ""] = match;
  const value = env[name];
  const isSet = operator?.startsWith(":") ? Boolean(value) : value !== undefined;
  switch (operator?.at(-1)) {
    case "-":
      return isSet ? value! : interpolate(operand, env);
    case "+":
      return isSet ? interpolate(operand, env) : "";
    case "?":
      if (isSet) return value!;
      throw new Error(
        `required variable ${name} is missing a value: ${interpolate(operand, env) || "not set"}`,
      );
    default:
      return value ?? "";
  }
}
