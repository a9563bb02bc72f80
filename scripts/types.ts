/**
 * `npm run types`: writes shared/database/types.ts from the migrations, by the official CLI against a
 * database that exists for this purpose only. With `--check` it writes nothing and fails when the
 * file is not what the migrations amount to.
 */
import * as fs from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { StackError } from "./local/errors.ts";
import { runSupabase } from "./supabase-cli.ts";
import { withThrowAwayDatabase } from "./throw-away-database.ts";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const file = path.join(root, "shared", "database", "types.ts");
const header = "// Generated from supabase/migrations by `npm run types`. Do not edit.\n";

try {
  const types = header + await withThrowAwayDatabase(generateTypes);
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

async function generateTypes(url: string): Promise<string> {
  const { ok, stdout, stderr } = await runSupabase(
    ...["gen", "types", "typescript", `--remote=${url}`, "--schema", "public"],
  );
  if (!ok || !stdout.includes("export type Database")) {
    throw new StackError("The Supabase CLI gave no types.", stderr.trim());
  }
  // The CLI reports on its connection in the same stream, before the code.
  return await format(stdout.slice(stdout.indexOf("export type Json")));
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
