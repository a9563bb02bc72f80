/**
 * Kubernetes quantities (`250m`, `1.5`, `512Mi`, `1Gi`): the unit in which agents ask for CPU and
 * memory, whatever orchestrator runs them.
 */

const SUFFIX: Record<string, number> = {
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  "": 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  E: 1e18,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
  Ei: 2 ** 60,
};

const QUANTITY = /^(\d+(?:\.\d*)?|\.\d+)(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][+-]?\d{1,2})?$/;

/**
 * The plain number a quantity stands for, cores or bytes: `500m` → 0.5, `1Gi` → 1073741824, `1e3` → 1000.
 * Null for anything else, negative numbers included.
 */
export function parseQuantity(text: string): number | null {
  if (text.length > 32) return null;
  const match = QUANTITY.exec(text);
  if (match === null) return null;
  const [, digits, suffix = ""] = match;
  const factor = SUFFIX[suffix] ?? Number(`1${suffix}`);
  const value = Number(digits) * factor;
  return Number.isFinite(value) ? value : null;
}
