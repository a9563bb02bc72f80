/**
 * `npm run check`: format, lint and types of all TypeScript, the format of the SQL, whether the
 * generated files are fresh, and what Supabase's advisors say of the schema. Exits 1 when anything
 * is wrong, after all of it has run.
 */
import * as fs from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { runSupabase } from "./supabase-cli.ts";
import { withThrowAwayDatabase } from "./throw-away-database.ts";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const folders = ["functions", "shared", "scripts", "tests"];

let failed = 0;
await step("format", () => deno("fmt", "--check"));
await step("lint", () => deno("lint", "--quiet"));
await step("types", () => deno("check", "--quiet", ...folders));
await step("SQL format", checkSqlFormat);
await step("generated types", () => deno("run", "-A", "--quiet", "scripts/types.ts", "--check"));
await step("advisors", checkAdvisors);
console.log(failed === 0 ? "All checks passed." : `${failed} of the checks failed.`);
Deno.exit(failed === 0 ? 0 : 1);

/** Runs one check; what it returns are its complaints. */
async function step(name: string, check: () => Promise<string[]>): Promise<void> {
  const complaints = await check();
  console.log(`${complaints.length === 0 ? "ok    " : "FAILED"} ${name}`);
  for (const complaint of complaints) console.log(complaint.replace(/^/gm, "  "));
  if (complaints.length > 0) failed += 1;
}

async function deno(...args: string[]): Promise<string[]> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args,
    cwd: root,
    env: { NO_COLOR: "1" },
  }).output();
  const text = new TextDecoder();
  return code === 0 ? [] : [(text.decode(stdout) + text.decode(stderr)).trim()];
}

/** The rules of our SQL that no tool at hand checks: names, header, spaces, case, search path. */
async function checkSqlFormat(): Promise<string[]> {
  const complaints: string[] = [];
  const folder = path.join(root, "supabase", "migrations");
  for (const name of (await fs.readdir(folder)).sort()) {
    const text = await fs.readFile(path.join(folder, name), "utf8");
    const say = (what: string, line?: number) =>
      complaints.push(`supabase/migrations/${name}${line ? `:${line}` : ""}: ${what}`);
    if (!/^\d{14}_[a-z][a-z0-9_]*\.sql$/.test(name)) {
      say("is not named YYYYMMDDHHmmss_verb_object.sql");
    }
    if (!text.startsWith("-- ")) say("has no header comment");
    if (!text.endsWith("\n") || text.endsWith("\n\n")) say("does not end with one line break");
    text.split("\n").forEach((line, index) => {
      if (/\s$/.test(line)) say("space at the end of the line", index + 1);
      if (line.includes("\t")) say("tab", index + 1);
      if (/^\s*(CREATE|ALTER|SELECT|INSERT|UPDATE|DELETE|GRANT|BEGIN|END)\b/.test(line)) {
        say("keyword in upper case", index + 1);
      }
      if (line.length > 240) {
        if (!line.trimStart().startsWith("'")) say("longer than 240 characters", index + 1);
      }
    });
  }
  return complaints;
}

interface Advice {
  name: string;
  level: string;
  detail: string;
}

async function checkAdvisors(): Promise<string[]> {
  const { ok, stdout, stderr } = await withThrowAwayDatabase((url) =>
    runSupabase("db", "advisors", `--remote=${url}`, "--level", "info", "--output-format", "json")
  );
  if (!ok) return [stderr.trim()];
  const { results } = JSON.parse(stdout.slice(stdout.indexOf("{"))) as { results: Advice[] };
  return results
    // In a database that was made a second ago no index has been used yet.
    .filter((advice) => advice.name !== "unused_index")
    .map((advice) => `${advice.level} ${advice.name}: ${advice.detail}`);
}
