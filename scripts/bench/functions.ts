/** What a function weighs as one file, and how soon a cold one answers. */
import * as fs from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import postgres from "postgres";
import type { FunctionConfig } from "../local/config.ts";
import { withThrowAwayDatabase } from "../throw-away-database.ts";
import { configuredFunctions, startFunctions } from "./function-process.ts";
import { createOwner } from "./owner.ts";
import type { BenchResult } from "./result.ts";
import { median, range } from "./statistics.ts";

const STARTS = 9;

export async function run(): Promise<BenchResult[]> {
  const functions = configuredFunctions();
  const api = functions.find(({ name }) => name === "api")!;
  return [
    ...await withThrowAwayDatabase(async (url, superuserUrl) => {
      const admin = postgres(superuserUrl, { max: 1, onnotice: () => {} });
      const owner = await createOwner(admin);
      await admin.end();
      return [
        await timeFirstAnswer(api, url, "/api/-/health", null),
        // This one needs the database, the keys of tokens and the route's own code, too.
        await timeFirstAnswer(api, url, "/api/agents", owner),
      ];
    }),
    ...await Promise.all(functions.map(weigh)),
  ];
}

async function timeFirstAnswer(
  api: FunctionConfig,
  databaseUrl: string,
  path: string,
  userId: string | null,
): Promise<BenchResult> {
  const taken: number[] = [];
  for (let start = 0; start < STARTS; start++) {
    const functions = await startFunctions([api], databaseUrl);
    try {
      const headers = new Headers();
      if (userId !== null) headers.set("Authorization", `Bearer ${await functions.sign(userId)}`);
      const url = `http://127.0.0.1:${await functions.port("api")}${path}`;
      const answer = await fetch(url, { headers });
      taken.push((performance.now() - functions.startedAt) / 1000);
      if (answer.status !== 200) throw new Error(`${path} answered ${await answer.text()}`);
      await answer.body?.cancel();
    } finally {
      await functions.close();
    }
  }
  return {
    name: `cold api function: start and first answer (${path}), seconds`,
    ratio: median(taken),
    target: "at most 0.4",
    detail: `${range(taken, 2)} s over ${STARTS} starts`,
  };
}

/** Bytes of the function and all packages it imports as one file, as `deno bundle` makes it. */
async function weigh({ name, entrypoint, importMap }: FunctionConfig): Promise<BenchResult> {
  const folder = await fs.mkdtemp(path.join(tmpdir(), "agent-launchpad-bundle-"));
  try {
    const file = path.join(folder, `${name}.js`);
    const bundle = await new Deno.Command(Deno.execPath(), {
      args: ["bundle", "--quiet", `--config=${importMap}`, "--output", file, entrypoint],
      env: { NO_COLOR: "1" },
    }).output();
    if (!bundle.success) {
      // Deno fetches its bundler from the npm registry when it is used first.
      throw new Error(`deno bundle: ${new TextDecoder().decode(bundle.stderr).trim()}`);
    }
    const { size } = await fs.stat(file);
    return {
      name: `${name} function as one bundle, MB`,
      ratio: size / 1_000_000,
      target: "at most 2",
      detail: `${size.toLocaleString("en")} bytes, not minified`,
    };
  } finally {
    await fs.rm(folder, { recursive: true, force: true });
  }
}
