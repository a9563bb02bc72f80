/**
 * `npm run types`: writes shared/database/types.ts from the migrations, by the official CLI against a
 * database that exists for this purpose only. With `--check` it writes nothing and fails when the
 * file is not what the migrations amount to.
 */
import * as fs from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { startDatabase } from "./local/database.ts";
import { StackError } from "./local/errors.ts";
import { createLog } from "./local/log.ts";
import { removeDatabase } from "./local/postgres.ts";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const file = path.join(root, "shared", "database", "types.ts");
const header = "// Generated from supabase/migrations by `npm run types`. Do not edit.\n";

try {
  const types = header + await withDatabase(generateTypes);
  if (!Deno.args.includes("--check")) {
    await fs.mkdir(path.dirname(file), { recursive: true });
    await fs.writeFile(file, types);
    console.log(`${path.relative(root, file)} is written.`);
  } else if (await fs.readFile(file, "utf8").catch(() => "") !== types) {
    throw new StackError(`${path.relative(root, file)} is stale.`, "Run npm run types.");
  }
} catch (error) {
  if (!(error instanceof StackError)) throw error;
  console.error(`${error.message}\n  ${error.hint}`);
  Deno.exit(1);
}

async function withDatabase<T>(use: (url: string) => Promise<T>): Promise<T> {
  const stateDir = await fs.mkdtemp(path.join(tmpdir(), "agent-launchpad-types-"));
  const log = createLog("warn", (line) => console.error(line));
  try {
    const server = await startDatabase({
      config: { stateDir, host: "127.0.0.1", ports: { db: freePort() } },
      keys: { databasePassword: "postgres" },
      log,
      settings: { fsync: "off" },
    });
    try {
      return await use(server.url("postgres"));
    } finally {
      await server.stop();
    }
  } finally {
    await removeDatabase(stateDir, log);
    await fs.rm(stateDir, { recursive: true, force: true });
  }
}

async function generateTypes(url: string): Promise<string> {
  const { code, stdout, stderr } = await new Deno.Command("node", {
    args: [
      path.join(root, "node_modules", "supabase", "dist", "supabase.js"),
      ...["gen", "types", "typescript", `--remote=${url}`, "--schema", "public"],
    ],
    cwd: root,
    env: { SUPABASE_TELEMETRY_DISABLED: "1", SUPABASE_NO_UPDATE_NOTIFIER: "1" },
  }).output();
  const text = new TextDecoder().decode(stdout);
  if (code !== 0 || !text.includes("export type Database")) {
    throw new StackError(
      "The Supabase CLI gave no types.",
      new TextDecoder().decode(stderr).trim(),
    );
  }
  // The CLI reports on its connection in the same stream, before the code.
  return await format(text.slice(text.indexOf("export type Json")));
}

/** The CLI's output has no line breaks where a diff needs them. */
async function format(code: string): Promise<string> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["fmt", "--ext", "ts", "--line-width", "100", "-"],
    stdin: "piped",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(code));
  await writer.close();
  const { stdout } = await child.output();
  return new TextDecoder().decode(stdout);
}

function freePort(): number {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  listener.close();
  return listener.addr.port;
}
