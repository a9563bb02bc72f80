import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { root } from "./deno.ts";

/**
 * The site that a user of Agent Launchpad would have, at an origin of its own: a page with unmodified
 * `supabase-js` in it.
 */
export async function startSite(
  script: () => string,
): Promise<{ url: string; close(): Promise<unknown> }> {
  const bundle = path.join(root, "node_modules/@supabase/supabase-js/dist/umd/supabase.js");
  const library = await readFile(bundle);
  const server = createServer((request, response) => {
    if (request.url === "/supabase.js") {
      response.writeHead(200, { "content-type": "text/javascript" }).end(library);
    } else {
      response.writeHead(200, { "content-type": "text/html" }).end(
        `<!doctype html><title>Site</title><p id="who">Loading</p>
        <script src="/supabase.js"></script><script>${script()}</script>`,
      );
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () => new Promise((resolve) => server.close(resolve)),
  };
}
