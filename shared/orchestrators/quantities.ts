import { parseQuantity } from "../contract/quantities.ts";

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
