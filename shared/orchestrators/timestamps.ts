const RFC3339 = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/;

/** Nanoseconds since 1970, which `Date` cannot hold; null when the text is not RFC 3339. */
export function toNanoseconds(timestamp: string): bigint | null {
  const match = RFC3339.exec(timestamp);
  if (!match) return null;
  const [, seconds = "", fraction = "", zone = ""] = match;
  const milliseconds = Date.parse(seconds + zone);
  if (Number.isNaN(milliseconds)) return null;
  return BigInt(milliseconds) * 1_000_000n + BigInt(fraction.padEnd(9, "0"));
}

/** Docker's form of a point in time: Unix seconds with nine decimals. */
export function toUnixSeconds(nanoseconds: bigint): string {
  const seconds = nanoseconds / 1_000_000_000n;
  return `${seconds}.${(nanoseconds % 1_000_000_000n).toString().padStart(9, "0")}`;
}

/** Docker and Kubernetes write the year 1 for "never". */
export function realTime(timestamp: string | null | undefined): string | null {
  return timestamp && !timestamp.startsWith("0001-") ? timestamp : null;
}
