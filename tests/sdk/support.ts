import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { createClient } from "@supabase/supabase-js";
import { denoCommand, root } from "../support/deno.ts";
import { type StackAccess, useStack } from "../support/stack.ts";

export const run = promisify(execFile);
/** For a deployment, or the compiler, on a busy machine. */
export const PATIENCE_MS = 300_000;

export interface Account {
  access: StackAccess;
  email: string;
  password: string;
  userId: string;
  token: string;
}

/** A user of the run's stack. */
export async function signUp(): Promise<Account> {
  const access = await useStack();
  const supabase = createClient(access.apiUrl, access.publishableKey, {
    auth: { persistSession: false, autoRefreshToken: false },
  });
  const [email, password] = [`${crypto.randomUUID()}@example.com`, "correct horse battery"];
  const { data, error } = await supabase.auth.signUp({ email, password });
  if (error) throw error;
  const { user, access_token: token } = data.session!;
  return { access, email, password, userId: user.id, token };
}

/** An API key of a user. */
export async function makeKey({ access, token }: Account): Promise<string> {
  const answer = await fetch(`${access.apiUrl}/api/auth/generate-key`, {
    method: "POST",
    headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
    body: "{}",
  });
  return (await answer.json()).apiKey;
}

/**
 * A folder in which the built package is installed, as `npm install` would.
 * @returns the folder and how to remove it
 */
export async function installPackage(): Promise<{ folder: string; remove(): Promise<void> }> {
  const folder = await mkdtemp(path.join(tmpdir(), "agent-launchpad-sdk-"));
  const modules = path.join(folder, "node_modules");
  const target = path.join(modules, "@agent-launchpad", "sdk");
  const { command, args } = denoCommand();
  await run(command, [...args, "run", "-A", "--quiet", "scripts/sdk.ts", target], { cwd: root });
  await mkdir(modules, { recursive: true });
  for (const name of ["@supabase", "zod", "@types", "undici-types"]) {
    await symlink(path.join(root, "node_modules", name), path.join(modules, name));
  }
  return { folder, remove: () => rm(folder, { recursive: true, force: true }) };
}
