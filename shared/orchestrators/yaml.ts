/** What a stack file is made of. Undefined members are left out. */
export type YamlValue =
  | string
  | number
  | boolean
  | YamlValue[]
  | { [key: string]: YamlValue | undefined };

/** Keys that no YAML version reads as anything but text; `on`, `y`, `no` … are not among what we write bare. */
const PLAIN_KEY = /^(?!(?:y|n|yes|no|on|off|true|false|null)$)[a-z][a-z0-9_-]*$/;

/**
 * Writes block-style YAML in which every string is a double-quoted JSON string, so that no text, whatever it holds,
 * can end its value, open another one, or be read as a number, an anchor or a comment.
 */
export function toYaml(value: { [key: string]: YamlValue | undefined }): string {
  return mapping(value, "");
}

function mapping(value: { [key: string]: YamlValue | undefined }, indent: string): string {
  let text = "";
  for (const [key, member] of Object.entries(value)) {
    if (member === undefined) continue;
    const name = PLAIN_KEY.test(key) ? key : quote(key);
    text += `${indent}${name}:${writeMember(member, indent)}`;
  }
  return text;
}

function writeMember(value: YamlValue, indent: string): string {
  const deeper = `${indent}  `;
  if (Array.isArray(value)) {
    if (value.length === 0) return " []\n";
    return "\n" + value.map((item) => `${deeper}-${writeItem(item, deeper)}`).join("");
  }
  if (typeof value === "object") {
    const text = mapping(value, deeper);
    return text === "" ? " {}\n" : `\n${text}`;
  }
  return ` ${scalar(value)}\n`;
}

/** A mapping inside a list begins on the line of its dash. */
function writeItem(value: YamlValue, indent: string): string {
  if (typeof value === "object" && !Array.isArray(value)) {
    const text = mapping(value, `${indent}  `);
    return text === "" ? " {}\n" : ` ${text.trimStart()}`;
  }
  return writeMember(value, indent);
}

function scalar(value: string | number | boolean): string {
  return typeof value === "string" ? quote(value) : String(value);
}

/** JSON's quoting is YAML's, except that YAML forbids some characters that JSON leaves bare. */
function quote(text: string): string {
  return JSON.stringify(text).replace(
    /[\u007f-\u009f\u2028\u2029\ufeff\ufffe\uffff]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
