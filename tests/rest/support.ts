/** The REST service over a database of its own, spoken to by unmodified supabase-js. */
import { createClient, type SupabaseClient } from "@supabase/supabase-js";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { createTokenVerifier } from "../../scripts/local/keys.ts";
import { createLog } from "../../scripts/local/log.ts";
import { createRest, type Rest } from "../../scripts/local/rest.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

export interface RestUnderTest {
  database: TestDatabase;
  rest: Rest;
  /** A client whose requests carry this token, or none. */
  client(token?: string): SupabaseClient;
  /** A signed token; `claims` may overwrite everything. */
  token(role: string, claims?: Record<string, unknown>): Promise<string>;
  /** A plain request, path without `/rest/v1`. */
  request(path: string, init?: RequestInit & { token?: string }): Promise<Response>;
  close(): Promise<void>;
}

/** @param schema SQL that role postgres runs before the service starts */
export async function startRest(schema: string): Promise<RestUnderTest> {
  const database = await createTestDatabase();
  await database.sql.unsafe(schema);
  const { privateKey, publicKey } = await generateKeyPair("ES256");
  const verifyToken = createTokenVerifier({ jwks: { keys: [await exportJWK(publicKey)] } });
  const rest = await createRest({
    databaseUrl: database.url("authenticator"),
    verifyToken,
    log: createLog("warn", (line) => console.warn(line)),
  });
  const strip = (url: string) => url.replace(/^(https?:\/\/[^/]+)\/rest\/v1/, "$1");

  return {
    database,
    rest,
    client: (token) =>
      createClient("http://rest.test", "key", {
        auth: { persistSession: false, autoRefreshToken: false },
        // Node 20 has no WebSocket, which the client asks for although nothing here uses it.
        realtime: { transport: class {} as unknown as typeof WebSocket },
        global: {
          fetch: (input, init) => {
            const headers = new Headers(init?.headers);
            headers.delete("authorization");
            if (token) headers.set("authorization", `Bearer ${token}`);
            return rest.fetch(new Request(strip(String(input)), { ...init, headers }));
          },
        },
      }),
    token: (role, claims = {}) =>
      new SignJWT({ role, exp: Math.floor(Date.now() / 1000) + 600, ...claims })
        .setProtectedHeader({ alg: "ES256" }).sign(privateKey),
    request: (path, { token, ...init } = {}) => {
      const headers = new Headers(init.headers);
      if (token) headers.set("authorization", `Bearer ${token}`);
      return rest.fetch(new Request(`http://rest.test${path}`, { ...init, headers }));
    },
    close: async () => {
      await rest.close();
      await database.drop();
    },
  };
}

/** Tables with owners, policies and a relationship in each direction. */
export const library = `
  create table public.authors (
    id bigint generated always as identity primary key,
    owner uuid not null default auth.uid(),
    name text not null constraint name_is_given check (name <> ''),
    born date,
    facts jsonb not null default '{}',
    scores numeric[] not null default '{}',
    seen_at timestamptz not null default '2026-01-02 03:04:05.6+00'
  );
  create table public.books (
    id int primary key,
    author_id bigint references public.authors on delete cascade,
    title text not null,
    price numeric(10, 2)
  );
  create table public.tags (id int primary key, label text unique not null);
  create table public.book_tags (
    book_id int references public.books on delete cascade,
    tag_id int references public.tags on delete cascade,
    primary key (book_id, tag_id)
  );
  alter table public.authors enable row level security;
  create policy "Owners see their authors" on public.authors for select to authenticated
    using (owner = (select auth.uid()));
  create policy "Owners write their authors" on public.authors for insert to authenticated
    with check (owner = (select auth.uid()));
  create policy "Owners change their authors" on public.authors for update to authenticated
    using (owner = (select auth.uid()));
  create policy "Owners delete their authors" on public.authors for delete to authenticated
    using (owner = (select auth.uid()));
  grant select, insert, update, delete on public.authors, public.books, public.tags, public.book_tags
    to authenticated, service_role;
  grant select on public.tags to anon;
`;
