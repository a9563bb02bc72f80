/** The official Supabase CLI from its npm package, run on the checkout. */
import { spawn } from "node:child_process";
import path from "node:path";
import { root } from "../../support/deno.ts";

export interface CliRun {
  code: number | null;
  /** Both streams; the CLI tells its progress on one and its results on the other. */
  output: string;
}

/** Without telemetry, and without whatever project or token the environment may name. */
export async function runSupabase(
  args: string[],
  environment: Record<string, string> = {},
): Promise<CliRun> {
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith("SUPABASE_"));
  const child = spawn(
    process.execPath,
    [path.join(root, "node_modules", "supabase", "dist", "supabase.js"), ...args],
    {
      cwd: root,
      env: {
        ...Object.fromEntries(inherited),
        SUPABASE_TELEMETRY_DISABLED: "1",
        SUPABASE_NO_UPDATE_NOTIFIER: "1",
        ...environment,
      },
      stdio: ["ignore", "pipe", "pipe"],
    },
  );
  let output = "";
  child.stdout.on("data", (chunk) => output += chunk);
  child.stderr.on("data", (chunk) => output += chunk);
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  return { code, output };
}
