/**
 * `npm run bench [-- PIECE …]`: the figures that the project has targets for. It reports and does not
 * judge: a missed target is no failure, for the machine may be busy or slow.
 */
import type { BenchResult } from "./bench/result.ts";

type Piece = () => Promise<{ run(): Promise<BenchResult | BenchResult[]> }>;

const pieces: Record<string, Piece> = {
  lists: () => import("./bench/lists.ts"),
  search: () => import("./bench/search.ts"),
  requests: () => import("./bench/requests.ts"),
  functions: () => import("./bench/functions.ts"),
  start: () => import("./bench/start.ts"),
  operations: () => import("./bench/operations.ts"),
  logs: () => import("./bench/logs.ts"),
  metrics: () => import("./bench/metrics.ts"),
  guard: () => import("./bench/guard.ts"),
};

const asked = Deno.args.length > 0 ? Deno.args : Object.keys(pieces);
const unknown = asked.filter((name) => !(name in pieces));
if (unknown.length > 0) {
  console.error(`There is no ${unknown.join(", ")}. There are: ${Object.keys(pieces).join(", ")}`);
  Deno.exit(2);
}

const rows = [["name", "figure", "target", "detail"]];
let broken = false;
for (const name of asked) {
  console.error(`${name} …`);
  try {
    const { run } = await pieces[name]!();
    for (const result of [await run()].flat()) {
      rows.push([result.name, formatFigure(result.ratio), result.target, result.detail]);
    }
  } catch (error) {
    broken = true;
    rows.push([name, "-", "", `failed: ${error instanceof Error ? error.message : error}`]);
  }
}
console.log(formatTable(rows));
Deno.exit(broken ? 1 : 0);

function formatFigure(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

/** Columns as wide as their widest cell, the last one as it comes. */
function formatTable(rows: string[][]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map((row) => row.map((cell, column) => cell.padEnd(widths[column]!)).join("  ").trimEnd())
    .join("\n");
}
