import { existsSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

/** The checkout. */
export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");

/**
 * npm's Deno itself. Its `deno` command is a Node script in between that dies of a signal without
 * handing it on; it serves where the package keeps the binary elsewhere.
 */
export function denoCommand(): { command: string; args: string[] } {
  const libc = process.platform === "linux" ? "-glibc" : "";
  const places = [
    path.join(root, "node_modules", "@deno", `${process.platform}-${process.arch}${libc}`, "deno"),
    path.join(root, "node_modules", "deno", "deno"),
  ];
  const binary = places.find((place) => existsSync(place));
  if (binary !== undefined) return { command: binary, args: [] };
  return {
    command: process.execPath,
    args: [path.join(root, "node_modules", "deno", "bin.cjs")],
  };
}
