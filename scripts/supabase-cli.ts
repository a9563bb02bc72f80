/** The official Supabase CLI, from its npm package, without its telemetry. */
import path from "node:path";
import { fileURLToPath } from "node:url";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");

/** Runs the CLI in the checkout and gives what it printed. */
export async function runSupabase(
  ...args: string[]
): Promise<{ ok: boolean; stdout: string; stderr: string }> {
  const { code, stdout, stderr } = await new Deno.Command("node", {
    args: [path.join(root, "node_modules", "supabase", "dist", "supabase.js"), ...args],
    cwd: root,
    env: { SUPABASE_TELEMETRY_DISABLED: "1", SUPABASE_NO_UPDATE_NOTIFIER: "1" },
  }).output();
  const text = new TextDecoder();
  return { ok: code === 0, stdout: text.decode(stdout), stderr: text.decode(stderr) };
}
