/** Multipliers of Kubernetes' quantity suffixes. */
const SUFFIX: Record<string, number> = {
  "n": 1e-9,
  "u": 1e-6,
  "m": 1e-3,
  "": 1,
  "k": 1e3,
  "M": 1e6,
  "G": 1e9,
  "T": 1e12,
  "P": 1e15,
  "E": 1e18,
  "Ki": 2 ** 10,
  "Mi": 2 ** 20,
  "Gi": 2 ** 30,
  "Ti": 2 ** 40,
  "Pi": 2 ** 50,
  "Ei": 2 ** 60,
};

/**
 * Reads a Kubernetes quantity: `500m` → 0.5, `1Gi` → 1073741824, `100n` → 1e-7, `1e3` → 1000.
 * Gives null for anything else, negative numbers included.
 */
export function parseQuantity(text: string): number | null {
  const match = /^(\d+(?:\.\d*)?|\.\d+)(?:([eE][+-]?\d+)|(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei))?$/
    .exec(text);
  if (!match) return null;
  const [, digits = "", exponent = "", suffix = ""] = match;
  const value = Number(digits + exponent) * (SUFFIX[suffix] ?? 1);
  return Number.isFinite(value) ? value : null;
}

/** CPU in cores, as Docker's `cpus` wants it: at most three decimals, never 0. */
export function cpuForDocker(quantity: string): string | null {
  const cores = parseQuantity(quantity);
  if (cores === null || cores <= 0) return null;
  return String(Math.max(0.001, Math.round(cores * 1000) / 1000));
}

/** Memory in whole bytes with Docker's suffix, so that no reader takes it for another unit. */
export function memoryForDocker(quantity: string): string | null {
  const bytes = parseQuantity(quantity);
  if (bytes === null || bytes < 1) return null;
  return `${Math.floor(bytes)}b`;
}
