import { request } from "node:http";
import { readdir, readFile, stat } from "node:fs/promises";
import path from "node:path";
import { createClient } from "@supabase/supabase-js";
import postgres from "postgres";
import { afterAll, beforeAll, expect, it } from "vitest";
import {
  freshStackEnvironment,
  runScript,
  type StackProcess,
  startStackProcess,
} from "../support/stack-process.ts";
import { PATIENCE } from "../support/until.ts";
import { must, refused } from "./support.ts";

let environment: Record<string, string>;
let stack: StackProcess;
beforeAll(async () => {
  environment = await freshStackEnvironment();
  stack = await startStackProcess(environment);
});
afterAll(() => stack.stop());

function storage() {
  return createClient(stack.apiUrl, stack.secretKey, {
    auth: { persistSession: false },
    realtime: { transport: class {} as unknown as typeof WebSocket },
  }).storage;
}

/** Files that the stack keeps for buckets, drafts included, with their sizes. */
async function filesOnDisk(): Promise<number[]> {
  const root = path.join(stack.stateDir, "storage");
  const names = await readdir(root, { recursive: true }).catch(() => []);
  const found = await Promise.all(names.map((name) => stat(path.join(root, name))));
  return found.filter((entry) => entry.isFile()).map(({ size }) => size);
}

async function rows(): Promise<string[]> {
  const sql = postgres(stack.dbUrl, { max: 1, onnotice: () => {} });
  try {
    return (await sql`select name from storage.objects order by name`).map(({ name }) => name);
  } finally {
    await sql.end({ timeout: 1 });
  }
}

/** Begins an upload that never ends by itself. */
function endlessUpload(name: string): void {
  const upload = request(`${stack.apiUrl}/storage/v1/object/kept/${name}`, {
    method: "POST",
    headers: { apikey: stack.secretKey, authorization: `Bearer ${stack.secretKey}` },
  });
  upload.on("error", () => {});
  upload.write(new Uint8Array(300_000));
}

async function restart(): Promise<void> {
  stack.child.kill("SIGKILL");
  await new Promise((resolve) => stack.child.once("close", resolve));
  stack = await startStackProcess(environment);
}

it("a stack that is killed keeps what it accepted and leaves no half of an upload", async () => {
  must(await storage().createBucket("kept"));
  must(await storage().from("kept").upload("whole", "accepted"));
  endlessUpload("half");
  await expect.poll(filesOnDisk, PATIENCE).toHaveLength(2);

  await restart();

  expect(await rows()).toEqual(["whole"]);
  expect(await must(await storage().from("kept").download("whole")).text()).toBe("accepted");
  await expect.poll(filesOnDisk, PATIENCE).toEqual([8]);
});

it("a sender who goes away leaves nothing", async () => {
  const upload = request(`${stack.apiUrl}/storage/v1/object/kept/gone`, {
    method: "POST",
    headers: { apikey: stack.secretKey, authorization: `Bearer ${stack.secretKey}` },
  });
  upload.on("error", () => {});
  upload.write(new Uint8Array(300_000));
  await expect.poll(filesOnDisk, PATIENCE).toHaveLength(2);
  upload.destroy();
  await expect.poll(filesOnDisk, PATIENCE).toEqual([8]);
  expect(await rows()).toEqual(["whole"]);
});

/** Most memory that the stack's own process ever had; null where the system does not tell. */
async function mostMemory(): Promise<number | null> {
  const status = await readFile(`/proc/${stack.child.pid}/status`, "utf8").catch(() => null);
  return status === null ? null : Number(/VmHWM:\s+(\d+)/.exec(status)![1]) * 1024;
}

it("many large uploads at once are not held in memory", async (context) => {
  const before = await mostMemory();
  if (before === null) return context.skip();
  const size = 40 * 1024 * 1024;
  const blob = new Blob([new Uint8Array(size)]);
  await Promise.all(
    Array.from(
      { length: 8 },
      async (_, index) => must(await storage().from("kept").upload(`large/${index}`, blob)),
    ),
  );
  const grown = (await mostMemory())! - before;
  expect(grown).toBeLessThan(4 * size);
});

it("a reset takes the files with the database", async () => {
  const launch = runScript("reset", environment);
  expect(await launch.ended).toBe(0);
  expect(await filesOnDisk()).toEqual([]);
  expect(refused(await storage().getBucket("kept")).statusCode).toBe("404");
  must(await storage().createBucket("kept"));
  must(await storage().from("kept").upload("new", "works again"));
});
