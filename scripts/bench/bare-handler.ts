/**
 * What an Edge Function costs at the least: verifies the JWT, runs the api function's SQL as the
 * caller in one transaction and one round trip, gives the row as JSON. No routing, no rate limits, no
 * editions, no log. `requests.ts` compares the api function with it.
 */
import { createLocalJWKSet, jwtVerify } from "jose";
import postgres from "postgres";

const keys = createLocalJWKSet(JSON.parse(Deno.env.get("SUPABASE_JWKS")!));
const issuer = `${Deno.env.get("SUPABASE_URL")}/auth/v1`;
const sql = postgres(Deno.env.get("SUPABASE_DB_URL")!, {
  max: Number(Deno.env.get("DATABASE_POOL_SIZE") ?? "10"),
  prepare: false,
  fetch_types: false,
  onnotice: () => {},
});

Deno.serve(async (request) => {
  const token = request.headers.get("authorization")!.slice("Bearer ".length);
  const { payload } = await jwtVerify(token, keys, {
    issuer,
    audience: "authenticated",
    algorithms: ["ES256"],
  });
  const [, id] = /^\/api\/agents\/([0-9a-f-]{36})$/.exec(new URL(request.url).pathname) ?? [];
  const claims = JSON.stringify(payload).replaceAll("'", "''");
  const [, [row]] = await sql.unsafe(`
    select set_config('role', 'authenticated', true), set_config('request.jwt.claims', '${claims}', true);
    select ${id ? `public.agent_snapshot('${id}')` : "public.list_agents()"} as result
  `).simple() as unknown as [unknown, [{ result: unknown }]];
  return Response.json(row.result);
});
