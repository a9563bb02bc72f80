import postgres from "postgres";
import { afterAll, beforeAll, expect, it } from "vitest";
import { createTestApi, type Persona, type TestApi } from "./support/test-api.ts";

let test: TestApi;
let owner: Persona;
let superuser: postgres.Sql;

beforeAll(async () => {
  test = await createTestApi();
  owner = await test.user();
  superuser = postgres(test.database.url("supabase_admin"), { max: 1, onnotice: () => {} });
});
afterAll(() => superuser.end());

/** Whether a text stands in the server's log, in which it writes statements that failed. */
async function isLogged(text: string): Promise<boolean> {
  const [row] = await superuser`
    select position(convert_to(${text}, 'UTF8')
      in pg_read_binary_file(current_setting('data_directory') || '/../postgres.log')) > 0 as found`;
  return row!.found as boolean;
}

const refused = [
  {
    path: "/api/agents",
    statement: "select public.create_agent(",
    body: (secret: string) => ({
      agentName: "log",
      model: "no-such-model",
      environment: { TOKEN: secret },
    }),
  },
  {
    path: "/api/stacks",
    statement: "select public.create_stack(",
    body: (secret: string) => ({
      name: "log",
      template: "no-such-template",
      environment: [{ name: "TOKEN", value: secret }],
    }),
  },
];

for (const { path, statement, body } of refused) {
  for (const headers of [undefined, { "Idempotency-Key": "log" }]) {
    it(`POST ${path} ${headers ? "with" : "without"} a key leaves no value of an environment in Postgres' log`, async () => {
      const secret = crypto.randomUUID();
      const answer = await test.call("POST", path, { as: owner, body: body(secret), headers });
      expect(answer.status).toBe(400);
      // Where a refused statement is written, so that the next line says something.
      expect(await isLogged(statement)).toBe(true);
      expect(await isLogged(secret)).toBe(false);
    });
  }
}

it("shows no value of an environment among the statements under way", async () => {
  const secret = crypto.randomUUID();
  const answer = await test.call("POST", "/api/agents", {
    as: owner,
    body: { agentName: "shown", environment: { TOKEN: secret } },
  });
  expect(answer.status).toBe(201);
  const seen = await superuser`
    select query from pg_catalog.pg_stat_activity
    where strpos(query, ${secret}) > 0 and pid <> pg_backend_pid()`;
  expect(seen).toEqual([]);
});

it("leaves nothing of who asks in the statistics of statements", async () => {
  const email = `${crypto.randomUUID()}@example.com`;
  const claims = { email, user_metadata: { full_name: "Somebody" } };
  const token = await test.token(owner.userId, claims);
  const answer = await test.call("GET", "/api/agents", {
    as: { ...owner, headers: { Authorization: `Bearer ${token}` } },
  });
  expect(answer.status).toBe(200);
  const kept = await superuser`
    select query from extensions.pg_stat_statements where query like '%request.jwt.claims%'
      and dbid = (select oid from pg_catalog.pg_database where datname = current_database())`;
  expect(kept.filter(({ query }) => /@example|Somebody/.test(query))).toEqual([]);
});
