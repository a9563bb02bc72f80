/**
 * `npm run sdk`: writes dist/sdk, the package `@agent-launchpad/sdk`: one file for `import`, one for
 * `require`, and the types. `npm run sdk -- <folder>` writes it elsewhere.
 */
import * as fs from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const target = path.resolve(Deno.args[0] ?? path.join(root, "dist", "sdk"));
const entry = path.join("shared", "sdk", "client.ts");
const { version, license, dependencies, engines } = JSON.parse(
  await fs.readFile(path.join(root, "package.json"), "utf8"),
);

await fs.rm(target, { recursive: true, force: true });
await Promise.all([
  ...[["esm", "index.mjs"], ["cjs", "index.cjs"]].map(([format, file]) =>
    deno(
      ...["bundle", "--quiet", "--platform", "browser", "--format", format!],
      ...["--external", "@supabase/supabase-js", "--output", path.join(target, file!), entry],
    )
  ),
  deno(
    ...["run", "-A", "--quiet", path.join("node_modules", "typescript", "bin", "tsc"), entry],
    ...["--declaration", "--emitDeclarationOnly", "--outDir", path.join(target, "types")],
    ...["--rootDir", "shared", "--allowImportingTsExtensions", "--strict", "--skipLibCheck"],
    ...["--target", "esnext", "--module", "esnext", "--moduleResolution", "bundler"],
  ),
]);
const types = "./types/sdk/client.d.ts";
await fs.writeFile(
  path.join(target, "package.json"),
  JSON.stringify(
    {
      name: "@agent-launchpad/sdk",
      version,
      description: "Client of the Agent Launchpad API, for Node, Deno and browsers.",
      license,
      engines,
      main: "./index.cjs",
      module: "./index.mjs",
      types,
      exports: { ".": { types, import: "./index.mjs", require: "./index.cjs" } },
      dependencies: {
        "@supabase/supabase-js": `^${dependencies["@supabase/supabase-js"]}`,
        // The types are inferred from its schemas; none of it runs.
        zod: `^${dependencies.zod}`,
      },
    },
    null,
    2,
  ) + "\n",
);
await fs.copyFile(path.join(root, "LICENSE"), path.join(target, "LICENSE"));
const written = `./${path.relative(Deno.cwd(), target)}`;
console.log(`${written} is written: npm install ${written}, or npm publish ${written}.`);

async function deno(...args: string[]): Promise<void> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args,
    cwd: root,
    env: { NO_COLOR: "1" },
  }).output();
  if (code === 0) return;
  const text = new TextDecoder();
  throw new Error(`deno ${args[0]} failed:\n${text.decode(stdout)}${text.decode(stderr)}`);
}
