/** Nanoseconds since 1970 as RFC 3339 in UTC with nine digits of a second. */
export function fromNanoseconds(nanoseconds: bigint): string {
  const fraction = nanoseconds % 1_000_000_000n;
  const seconds = new Date(Number((nanoseconds - fraction) / 1_000_000n)).toISOString();
  return `${seconds.slice(0, 19)}.${fraction.toString().padStart(9, "0")}Z`;
}
