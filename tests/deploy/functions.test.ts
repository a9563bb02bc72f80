/** `supabase functions deploy --use-api`, against a stand-in for the management API. */
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { root } from "../support/deno.ts";
import {
  type FunctionUpload,
  type ManagementApi,
  startManagementApi,
} from "./support/management-api.ts";
import { runDeno, startFunction } from "./support/deno-process.ts";
import { runSupabase } from "./support/supabase-cli.ts";

const names = (await readdir(path.join(root, "functions"), { withFileTypes: true }))
  .filter((entry) => entry.isDirectory())
  .map((entry) => entry.name);

let api: ManagementApi;
let printed: string;
let scratch: string;

beforeAll(async () => {
  scratch = await mkdtemp(path.join(tmpdir(), "agent-launchpad-deploy-"));
  api = await startManagementApi();
  const deploy = await runSupabase(
    ["functions", "deploy", "--use-api", `--remote=${api.projectRef}`, "--yes"],
    api.environment,
  );
  printed = deploy.output;
  expect(deploy.code, printed).toBe(0);
});

afterAll(async () => {
  await api.close();
  await rm(scratch, { recursive: true, force: true });
});

test("every function of the checkout is deployed, and nothing is missing or skipped", () => {
  expect([...api.deployed].sort()).toEqual([...names].sort());
  expect(printed).not.toMatch(/WARN/i);
});

test.each(names)("%s is uploaded with the files that it imports, and no other", async (name) => {
  const { files } = uploadOf(name);
  const imported = await localModules(`functions/${name}/index.ts`);
  expect(imported).toContain(`functions/${name}/index.ts`);
  expect([...files.keys()].sort()).toEqual([...imported, "deno.json"].sort());
  for (const [file, text] of files) {
    expect(text, file).toBe(await readFile(path.join(root, file), "utf8"));
  }
});

test.each(names)("%s starts at its own entrypoint and judges tokens itself", (name) => {
  const { metadata, files } = uploadOf(name);
  expect(metadata).toMatchObject({
    name,
    entrypoint_path: `functions/${name}/index.ts`,
    import_map_path: "deno.json",
    static_patterns: [],
    // The platform's check knows neither API keys nor the new keys.
    verify_jwt: false,
  });
  expect(files.has(metadata.entrypoint_path)).toBe(true);
});

test.each(names)(
  "%s finds its packages on the platform, at the versions used here",
  async (name) => {
    const { files, metadata } = uploadOf(name);
    const settings = JSON.parse(files.get(metadata.import_map_path)!);
    // With either, the platform would look for packages in a folder that is not uploaded.
    expect(settings).not.toHaveProperty("nodeModulesDir");
    expect(settings).not.toHaveProperty("vendor");
    const { dependencies } = JSON.parse(await readFile(path.join(root, "package.json"), "utf8"));
    const packages = new Set([...files].flatMap(([, text]) => packagesOf(text)));
    expect(packages.size).toBeGreaterThan(0);
    for (const imported of packages) {
      expect(settings.imports, imported).toHaveProperty(
        [imported],
        `npm:${imported}@${dependencies[imported]}`,
      );
    }
  },
);

/** What a function answers itself to a request that brings nothing. */
const refusals: Record<string, number> = { api: 401, worker: 401, ws: 426 };

test.each(names)("%s runs from its upload alone", async (name) => {
  const folder = path.join(scratch, name);
  await unpack(uploadOf(name), folder);
  // The platform installs the packages; here are the same ones already.
  await symlink(path.join(root, "node_modules"), path.join(folder, "node_modules"));
  const started = await startFunction(folder, `functions/${name}/index.ts`);
  try {
    const answer = await fetch(`http://127.0.0.1:${started.port}/${name}/agents`);
    expect(answer.status, started.output()).toBe(refusals[name]);
    expect(await answer.json()).toHaveProperty("error.code");
  } finally {
    await started.stop();
  }
});

test("secrets of the shell are set by name and value", async () => {
  const set = await runSupabase(
    [
      ...["secrets", "set", "PORTAINER_URL=https://portainer.example.com"],
      ...["PORTAINER_API_KEY=ptr_example", `--remote=${api.projectRef}`, "--yes"],
    ],
    api.environment,
  );
  expect(set.code, set.output).toBe(0);
  expect(Object.fromEntries(api.secrets)).toEqual({
    PORTAINER_URL: "https://portainer.example.com",
    PORTAINER_API_KEY: "ptr_example",
  });
});

function uploadOf(name: string): FunctionUpload {
  const upload = api.uploads.get(name);
  if (!upload) throw new Error(`${name} was not uploaded:\n${printed}`);
  return upload;
}

/** Files of the checkout that a module loads, at once or later, itself included. */
async function localModules(entrypoint: string): Promise<string[]> {
  const graph = JSON.parse(await runDeno(["info", "--json", entrypoint], root));
  return (graph.modules as { specifier: string }[])
    .filter(({ specifier }) => specifier.startsWith("file:"))
    .map(({ specifier }) => path.relative(root, fileURLToPath(specifier)))
    .filter((file) => !file.startsWith("node_modules"));
}

/** Names of the npm packages that a module imports. */
function packagesOf(text: string): string[] {
  return [...text.matchAll(/(?:^|\n)(?:import|export)\b[^;"]*?from "([^."][^"]*)"/g)]
    .map(([, specifier]) => specifier!)
    .filter((specifier) => !specifier.startsWith("node:"));
}

async function unpack({ files }: FunctionUpload, folder: string): Promise<void> {
  for (const [file, text] of files) {
    await mkdir(path.dirname(path.join(folder, file)), { recursive: true });
    await writeFile(path.join(folder, file), text);
  }
}
