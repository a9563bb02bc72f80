/** Nanoseconds in a Go duration such as `1h30m`, `1.5s`, `500ms`; null when it is none. */
export function parseDuration(text: string): number | null {
  const units: Record<string, number> = {
    ns: 1,
    us: 1e3,
    "µs": 1e3,
    ms: 1e6,
    s: 1e9,
    m: 60e9,
    h: 3600e9,
    d: 86400e9,
  };
  if (text === "0") return 0;
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d)/gy)];
  if (parts.length === 0 || parts.map((part) => part[0]).join("") !== text) return null;
  return Math.round(parts.reduce((sum, part) => sum + Number(part[1]) * units[part[2]!]!, 0));
}

/** Bytes in a size as Compose writes it: `512M`, `1gb`, `1024`, powers of 1024; null when it is none. */
export function parseBytes(text: string): number | null {
  const match = /^(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?$/i.exec(text.trim());
  if (!match) return null;
  const power = { "": 0, k: 1, m: 2, g: 3, t: 4 }[match[2]!.toLowerCase()] ?? 0;
  return Math.floor(Number(match[1]) * 1024 ** power);
}

/** Docker's spelling of a time: RFC 3339 with nine fractional digits. */
export function rfc3339(milliseconds: number, nanoseconds = 0): string {
  const fraction = String((milliseconds % 1000) * 1e6 + nanoseconds).padStart(9, "0");
  return `${new Date(milliseconds).toISOString().slice(0, 19)}.${fraction}Z`;
}

/** Docker's zero time, which stands for "never". */
export const NEVER = "0001-01-01T00:00:00Z";
