/** What stands where a secret stood. */
export const REDACTED = "[redacted]";

/**
 * Values shorter than this are not looked for: taking out every `1`, `true` or `debug` would make logs
 * unreadable and hide nothing worth hiding.
 */
const SHORTEST_SECRET = 6;

/** Lines of a many-line secret (a PEM key) are looked for one by one from this length on. */
const SHORTEST_LINE = 16;

export interface Redactor {
  /** `text` with every known secret replaced. */
  text(text: string): string;
  /** The same for a batch, cheap when nothing matches, which is nearly always. */
  texts(texts: string[]): string[];
  /** A deep copy of plain data with every string (keys too) redacted. */
  data<T>(value: T): T;
}

/**
 * Takes known secret values out of text: as they are, as JSON would escape them, percent-encoded, in
 * base64, and line by line where a value has many lines.
 *
 * @param secrets the values, in clear
 */
export function createRedactor(secrets: Iterable<string>): Redactor {
  const forms = new Set<string>();
  for (const secret of secrets) for (const form of formsOf(secret)) forms.add(form);
  if (forms.size === 0) {
    return { text: (text) => text, texts: (texts) => texts, data: (value) => value };
  }
  // Longest first, so that a secret that contains another goes whole.
  const pattern = new RegExp(
    [...forms].sort((a, b) => b.length - a.length).map(escapePattern).join("|"),
    "g",
  );
  const text = (value: string) => value.replace(pattern, REDACTED);
  const data = (value: unknown): unknown => {
    if (typeof value === "string") return text(value);
    if (Array.isArray(value)) return value.map(data);
    if (value !== null && typeof value === "object") {
      return Object.fromEntries(
        Object.entries(value).map(([key, item]) => [text(key), data(item)]),
      );
    }
    return value;
  };
  return {
    text,
    texts: (values) => {
      pattern.lastIndex = 0;
      const found = pattern.test(values.join("\n"));
      pattern.lastIndex = 0;
      return found ? values.map(text) : values;
    },
    data: <T>(value: T) => data(value) as T,
  };
}

function formsOf(secret: string): string[] {
  const value = secret.trim();
  if (value.length < SHORTEST_SECRET) return [];
  const lines = value.includes("\n")
    ? value.split(/\r?\n/).map((line) => line.trim()).filter((line) => line.length >= SHORTEST_LINE)
    : [];
  return [value, ...lines].flatMap((form) => [
    form,
    JSON.stringify(form).slice(1, -1),
    encodeURIComponent(toWellFormed(form)),
    base64(form),
  ]);
}

/** Without the padding and the last characters, which depend on what follows the value. */
function base64(value: string): string {
  const bytes = new TextEncoder().encode(value);
  const encoded = btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
  const whole = Math.floor(bytes.length / 3) * 4;
  return encoded.slice(0, Math.max(whole, 8));
}

function toWellFormed(value: string): string {
  return new TextDecoder().decode(new TextEncoder().encode(value));
}

function escapePattern(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}
