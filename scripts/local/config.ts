import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { StackError } from "./errors.ts";
import { parseToml, type TomlTable, type TomlValue } from "./toml.ts";

/** Where the stack listens and keeps its state. Everything listens on `host` only. */
export interface StackConfig {
  /** The checkout: the folder that holds `supabase/` and `functions/`. */
  root: string;
  stateDir: string;
  host: string;
  ports: StackPorts;
  urls: {
    api: string;
    /** As role `postgres`. */
    db: string;
    inbox: string;
    portainer: string;
  };
  rest: {
    /** Exposed schemas, the first is the default. */
    schemas: string[];
    /** Most rows of one answer. */
    maxRows: number;
  };
  storage: {
    /** Most bytes of one file. */
    fileSizeLimit: number;
  };
  /** Where links in mails lead when the request names no other place. */
  siteUrl: string;
  functions: FunctionConfig[];
}

export interface StackPorts {
  api: number;
  db: number;
  inbox: number;
  portainer: number;
}

/** One Edge Function as `[functions.NAME]` of the CLI's configuration describes it. */
export interface FunctionConfig {
  name: string;
  /** Absolute path of the module that calls `Deno.serve`. */
  entrypoint: string;
  /** Absolute path of its `deno.json`. */
  importMap: string;
}

/** Environment variable of each port, for messages. */
export const PORT_VARIABLES: Record<keyof StackPorts, string> = {
  api: "LAUNCHPAD_API_PORT",
  db: "LAUNCHPAD_DB_PORT",
  inbox: "LAUNCHPAD_INBOX_PORT",
  portainer: "LAUNCHPAD_PORTAINER_PORT",
};

/** Local databases of the Supabase CLI have this password too; they listen on loopback only. */
export const DATABASE_PASSWORD = "postgres";

const HOST = "127.0.0.1";

/**
 * The stack's configuration: environment first, then `supabase/config.toml` where the CLI has the
 * setting, then the CLI's defaults.
 *
 * @param env the environment, by default the process's own
 * @throws {StackError} for a port that is none, two equal ports, or an unreadable config.toml
 */
export function loadConfig(
  env: Record<string, string | undefined> = Deno.env.toObject(),
  root: string = resolve(dirname(fileURLToPath(import.meta.url)), "../.."),
): StackConfig {
  const supabaseDir = join(root, "supabase");
  const toml = readToml(join(supabaseDir, "config.toml"));
  const ports: StackPorts = {
    api: port(env, "api", at(toml, "api", "port"), 54321),
    db: port(env, "db", at(toml, "db", "port"), 54322),
    inbox: port(env, "inbox", at(toml, "local_smtp", "port"), 54324),
    portainer: port(env, "portainer", undefined, 54325),
  };
  refuseEqualPorts(ports);
  return {
    root,
    stateDir: resolve(root, env.LAUNCHPAD_STATE_DIR ?? ".stack"),
    host: HOST,
    ports,
    urls: {
      api: `http://${HOST}:${ports.api}`,
      db: databaseUrl("postgres", ports.db),
      inbox: `http://${HOST}:${ports.inbox}`,
      portainer: `http://${HOST}:${ports.portainer}`,
    },
    rest: {
      schemas: strings(at(toml, "api", "schemas")) ?? ["public"],
      maxRows: number(at(toml, "api", "max_rows")) ?? 1000,
    },
    storage: { fileSizeLimit: fileSize(at(toml, "storage", "file_size_limit")) },
    siteUrl: string(at(toml, "auth", "site_url")) ?? "http://127.0.0.1:3000",
    functions: functionConfigs(at(toml, "functions"), supabaseDir, root),
  };
}

/** Connection string of the local database for one of its login roles. */
export function databaseUrl(role: string, port: number): string {
  return `postgresql://${role}:${DATABASE_PASSWORD}@${HOST}:${port}/postgres`;
}

/** Bytes of `50MiB`; the CLI counts in 1024s whatever the unit is called. */
function fileSize(configured: TomlValue | undefined): number {
  const [, amount, unit] =
    /^(\d+(?:\.\d+)?)\s*(?:([kmgtp]?)i?b?)$/i.exec(String(configured ?? "50MiB")) ?? [];
  if (amount === undefined || unit === undefined) {
    throw new StackError(
      `storage.file_size_limit in supabase/config.toml is ${JSON.stringify(configured)}.`,
      "Write it as 50MiB, 1GiB or a number of bytes.",
    );
  }
  return Math.floor(Number(amount) * 1024 ** " kmgtp".indexOf(unit.toLowerCase() || " "));
}

function readToml(file: string): TomlTable {
  try {
    return parseToml(Deno.readTextFileSync(file), "supabase/config.toml");
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new StackError(`${file} is missing.`, "Run the command in a complete checkout.");
  }
}

function port(
  env: Record<string, string | undefined>,
  name: keyof StackPorts,
  configured: TomlValue | undefined,
  fallback: number,
): number {
  const variable = PORT_VARIABLES[name];
  const text = env[variable] || undefined;
  const value = text === undefined ? configured ?? fallback : Number(text);
  if (typeof value === "number" && Number.isInteger(value) && value > 0 && value < 65536) {
    return value;
  }
  const source = text === undefined ? "supabase/config.toml" : variable;
  throw new StackError(
    `${source} gives ${JSON.stringify(text ?? value)} as the ${name} port.`,
    "A port is a whole number from 1 to 65535.",
  );
}

function refuseEqualPorts(ports: StackPorts): void {
  const names = Object.keys(ports) as (keyof StackPorts)[];
  for (const [index, name] of names.entries()) {
    const twin = names.slice(0, index).find((other) => ports[other] === ports[name]);
    if (twin === undefined) continue;
    throw new StackError(
      `Port ${ports[name]} is asked for twice: ${PORT_VARIABLES[twin]} and ${
        PORT_VARIABLES[name]
      }.`,
      "Give each its own port.",
    );
  }
}

function functionConfigs(
  section: TomlValue | undefined,
  supabaseDir: string,
  root: string,
): FunctionConfig[] {
  return Object.entries(table(section)).flatMap(([name, value]) => {
    const settings = table(value);
    if (settings.enabled === false) return [];
    return [{
      name,
      entrypoint: resolve(supabaseDir, string(settings.entrypoint) ?? `functions/${name}/index.ts`),
      importMap: string(settings.import_map) === null
        ? join(root, "deno.json")
        : resolve(supabaseDir, string(settings.import_map)!),
    }];
  });
}

function at(value: TomlTable, ...path: string[]): TomlValue | undefined {
  let current: TomlValue | undefined = value;
  for (const key of path) current = table(current)[key];
  return current;
}

function table(value: TomlValue | undefined): TomlTable {
  return typeof value === "object" && !Array.isArray(value) ? value : {};
}

function string(value: TomlValue | undefined): string | null {
  return typeof value === "string" ? value : null;
}

function number(value: TomlValue | undefined): number | null {
  return typeof value === "number" ? value : null;
}

function strings(value: TomlValue | undefined): string[] | null {
  return Array.isArray(value) ? value.filter((item) => typeof item === "string") : null;
}
