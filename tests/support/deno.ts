import { existsSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
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

/** Ports that nobody listens on, all different. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  const ports = await Promise.all(servers.map((server) =>
    new Promise<number>((resolve, reject) => {
      server.once("error", reject);
      server.listen(0, "127.0.0.1", () => resolve((server.address() as AddressInfo).port));
    })
  ));
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}
