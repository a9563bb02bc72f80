/**
 * The stack's gateway and functions host without a database: rest, auth and realtime are services
 * that tell what reached them. `deno run -A gateway-host.ts FOLDER`, where FOLDER holds
 * `functions/NAME/index.ts`; prints `{port, keys, pids}` as one line and ends with its input.
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { createFunctions } from "../../../scripts/local/functions.ts";
import { startGateway } from "../../../scripts/local/gateway.ts";
import { loadKeys } from "../../../scripts/local/keys.ts";
import { createLog } from "../../../scripts/local/log.ts";
import { loadConfig } from "../../../scripts/local/config.ts";

const folder = Deno.args[0]!;
const port = Number(Deno.args[1]);
const log = createLog("info", (line) => console.error(line));
const config = {
  ...loadConfig({ LAUNCHPAD_API_PORT: String(port), LAUNCHPAD_STATE_DIR: join(folder, "state") }),
  root: folder,
  functions: readdirSync(join(folder, "functions")).map((name) => ({
    name,
    entrypoint: join(folder, "functions", name, "index.ts"),
    importMap: join(folder, "deno.json"),
  })),
};
const keys = await loadKeys(config);

const mirror = (service: string) => ({
  fetch: async (request: Request) => {
    if (request.headers.get("upgrade") === "websocket") {
      const { socket, response } = Deno.upgradeWebSocket(request);
      socket.onopen = () => socket.send(JSON.stringify(describe(service, request, "")));
      return response;
    }
    if (request.url.endsWith("/throws")) throw new Error("password=hunter2");
    return Response.json(describe(service, request, await request.text()));
  },
});

function describe(service: string, request: Request, body: string) {
  const { pathname, search } = new URL(request.url);
  return {
    service,
    method: request.method,
    path: pathname,
    search,
    headers: Object.fromEntries(request.headers),
    body,
  };
}

const functions = await createFunctions({ config, keys, log });
await Promise.all(functions.children.map((child) => child.ready().catch(() => null)));
const gateway = startGateway({
  host: config.host,
  port,
  keys,
  log,
  services: {
    rest: mirror("rest"),
    auth: mirror("auth"),
    storage: mirror("storage"),
    realtime: mirror("realtime"),
    functions,
  },
});
console.log(JSON.stringify({ keys }));

for await (const _ of Deno.stdin.readable) {
  const pids = functions.children.map(({ name, pid }) => [name, pid]);
  console.log(JSON.stringify(Object.fromEntries(pids)));
}
await gateway.close();
await functions.close();
Deno.exit();
