/**
 * @supabase/lite's connection to Postgres with what PostgREST does for a request: one transaction with
 * role, claims and the request itself as settings, set in one round trip.
 *
 * lite as shipped grants all tables to the API roles at its first request, needs a superuser and ten
 * round trips; the overrides below touch its internals, hence its version is pinned.
 */
import { PostgresConnection } from "@supabase/lite/postgres";
import { type Kysely, sql } from "kysely";
import type { TransactionSql } from "postgres";
import {
  isConnectionLost,
  surviveLostConnections,
} from "../../../shared/database/lost-connections.ts";
import { dress, statusOf, unreachable } from "./errors.ts";
import { type ApiDescription, describeApi } from "./openapi.ts";
import { kyselyOver, readWishes } from "./queries.ts";
import { readCookies, readResponseSettings, type ResponseSettings } from "./request-settings.ts";
import { restTypes } from "./types.ts";

/** Who asks and what: everything that becomes a setting of the request's transaction. */
export interface RequestContext {
  claims: { role: string; [claim: string]: unknown };
  method: string;
  path: string;
  headers: Record<string, string>;
  schema: string;
  /** What SQL said of the answer, once the request is through. */
  response?: ResponseSettings;
}

/** Rides on the claims object through lite, invisible to JSON. */
export const contextKey = Symbol("request");

export interface RoleSettings {
  /** `alter role … set statement_timeout`: PostgREST sets these per request. */
  perRole: Map<string, [name: string, value: string][]>;
  /** `alter role authenticator set pgrst.db_pre_request`: a function called before each request. */
  preRequest: string | null;
}

type Introspection = Awaited<ReturnType<PostgresConnection["introspect"]>>;
// deno-lint-ignore no-explicit-any
type Database = any;

export class RestConnection extends PostgresConnection {
  constructor(
    url: string,
    private readonly cache: Introspection,
    private readonly settings: RoleSettings,
    /** Most rows of one answer, and up to where an estimated count is exact. */
    private readonly maxRows: number,
    connections: number,
  ) {
    super({ url, postgresOptions: postgresOptions(connections) });
    // "unknown" would make lite grant everything to everybody before its first request.
    Object.assign(this, { rlsState: "active" });
    surviveLostConnections(this.driver);
  }

  override introspect(): Promise<Introspection> {
    return Promise.resolve(this.cache);
  }

  // deno-lint-ignore no-explicit-any
  override withContext(context: any, work: any, options?: any): Promise<any> {
    if (options?.transaction) return work(options.transaction);
    const claims = context?.auth?.jwt;
    const request = claims?.[contextKey] as RequestContext | undefined;
    if (!request) throw new Error("a request without context reached the database");
    return this.driver.begin(async (transaction) => {
      await this.enter(transaction, request);
      const wishes = readWishes(request.headers, this.maxRows);
      const result = await work(kyselyOver(transaction, wishes));
      request.response = await readResponseSettings(transaction);
      return result;
    });
  }

  /** What the caller may use of the schema that the request names, as OpenAPI tells it. */
  describe(request: RequestContext, url: URL): Promise<ApiDescription> {
    return this.driver.begin(async (transaction) => {
      await this.enter(transaction, request);
      return await describeApi(transaction, request.schema, url);
    });
  }

  /** PostgREST's access mode: what promises to change nothing is held to it. */
  private isReadOnly({ method, path, schema }: RequestContext): boolean {
    if (method === "GET" || method === "HEAD") return true;
    const [, name] = /^\/rpc\/([^/]+)$/.exec(path) ?? [];
    if (name === undefined) return false;
    const called = (this.cache.functions ?? []).filter((it) =>
      it.schema === schema && it.name === name
    );
    return called.length > 0 && called.every(({ volatility }) => volatility !== "v");
  }

  private async enter(transaction: TransactionSql, request: RequestContext): Promise<void> {
    const { claims, method, path, headers, schema } = request;
    const settings: [name: string, value: string][] = [
      ["search_path", `${quoteName(schema)}, public, extensions`],
      ["request.jwt.claims", JSON.stringify(claims)],
      ["request.method", method],
      ["request.path", path],
      ["request.headers", JSON.stringify(headers)],
      ["request.cookies", JSON.stringify(readCookies(headers.cookie))],
      ["response.status", ""],
      ["response.headers", ""],
      ...this.settings.perRole.get(claims.role) ?? [],
      ["transaction_read_only", this.isReadOnly(request) ? "on" : "off"],
      // Last: the role may not be allowed to change what stands above.
      ["role", claims.role],
    ];
    await transaction`
      select set_config(name, value, true)
      from unnest(
        ${settings.map(([name]) => name)}::text[], ${settings.map(([, value]) => value)}::text[]
      ) as setting (name, value)`;
    if (this.settings.preRequest) {
      const name = this.settings.preRequest.split(".").map(quoteName).join(".");
      await transaction.unsafe(`select ${name}()`);
    }
  }

  /**
   * Gives database errors PostgREST's status. lite knows a few codes and says 500 to the rest; it
   * passes on the ones that SQL raised as `PGRST`, so all others are dressed as such.
   */
  // deno-lint-ignore no-explicit-any
  override normalizeDbError(error: any): any {
    muteNextConsoleError();
    const code = error?.code;
    if (isConnectionLost(error)) return dress(unreachable);
    if (typeof code !== "string" || code.length !== 5 || !error.severity) return error;
    // These lite answers itself: the first two carry their own status, for the others it rewrites
    // the message as PostgREST's qualified names make it.
    if (code === "PGRST" && !hasTextDetails(error.message)) {
      return dress({
        status: 500,
        code: "PGRST121",
        message: `Could not parse JSON in the "RAISE SQLSTATE 'PGRST'" error`,
        details: `Invalid JSON value for MESSAGE: '${error.message}'`,
        hint:
          "MESSAGE must be a JSON object with obligatory keys: 'code', 'message' and optional " +
          "keys: 'details', 'hint'.",
      });
    }
    if (code === "PGRST" || code.startsWith("PT") || code === "42703" || code === "42883") {
      return error;
    }
    // 42501 depends on who asked, which only lite knows here.
    if (code === "42501") return error;
    return dress({
      status: statusOf(code, false),
      code,
      message: error.message,
      details: error.detail ?? null,
      hint: error.hint ?? null,
    });
  }
}

/** PostgREST takes texts only, where lite passes on whatever it finds. */
function hasTextDetails(message: string): boolean {
  try {
    const { details = null, hint = null } = JSON.parse(message);
    return [details, hint].every((value) => value === null || typeof value === "string");
  } catch {
    return false;
  }
}

/** lite prints every database error right after it had it normalised, clients' mistakes included. */
function muteNextConsoleError(): void {
  const original = console.error;
  const restore = () => {
    if (console.error === mute) console.error = original;
  };
  const mute = () => restore();
  console.error = mute;
  queueMicrotask(restore);
}

function postgresOptions(connections: number) {
  return {
    max: connections,
    // An idle backend holds about 10 MB.
    idle_timeout: 20,
    onnotice: () => {},
    types: restTypes,
    connection: { application_name: "postgrest" },
  };
}

/**
 * Reads the schema as a role that may see all of it: authenticator inherits nothing, and
 * information_schema hides what one may not use. Of foreign keys, those between exposed tables are
 * kept: lite would join over a table of another schema, which PostgREST does not.
 */
export async function readSchema(
  url: string,
  exposed: string[],
): Promise<{ cache: Introspection; settings: RoleSettings }> {
  const connection = new PostgresConnection({ url, postgresOptions: postgresOptions(1) });
  try {
    const settings = await readSettings(connection.kysely);
    const cache = await connection.introspect();
    // lite swallows a failure and hands out an empty schema, which lacks the time zones.
    if (!cache.timezones) throw new Error("the schema could not be read");
    const foreign_keys = cache.foreign_keys.filter((key) =>
      exposed.includes(key.schema) && exposed.includes(key.ref_schema ?? key.schema)
    );
    return { cache: { ...cache, foreign_keys }, settings };
  } finally {
    await connection.close();
  }
}

async function readSettings(kysely: Kysely<Database>): Promise<RoleSettings> {
  const { rows } = await sql<{ role: string; settings: string[] }>`
    select r.rolname as role, s.setconfig as settings
    from pg_catalog.pg_db_role_setting as s
    join pg_catalog.pg_roles as r on r.oid = s.setrole
    where r.rolname in ('anon', 'authenticated', 'service_role', 'authenticator')
      and s.setdatabase in (
        0, (select d.oid from pg_catalog.pg_database as d where d.datname = current_database())
      )
    order by s.setdatabase`.execute(kysely);
  const perRole: RoleSettings["perRole"] = new Map();
  let preRequest: string | null = null;
  for (const row of rows) {
    for (const setting of row.settings) {
      const [name, value] = splitSetting(setting);
      if (row.role === "authenticator") {
        if (name === "pgrst.db_pre_request") preRequest = value || null;
      } else if (name === "statement_timeout") {
        perRole.set(row.role, [...perRole.get(row.role) ?? [], [name, value]]);
      }
    }
  }
  return { perRole, preRequest };
}

function splitSetting(setting: string): [string, string] {
  const at = setting.indexOf("=");
  return [setting.slice(0, at), setting.slice(at + 1)];
}

const quoteName = (name: string) => `"${name.replaceAll('"', '""')}"`;
