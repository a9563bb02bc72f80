import type { SupabaseClient } from "@supabase/supabase-js";
import postgres from "postgres";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type RestUnderTest, startRest } from "./support.ts";

const user = "aaaaaaaa-0000-4000-8000-000000000001";
const schema = `
  create table public.marks (id int generated always as identity primary key, note text);
  insert into public.marks (note) values ('one'), ('two');
  grant select, insert on public.marks to authenticated;
  create function public.echo(value jsonb) returns jsonb language sql immutable as 'select value';
  create function public.kind(value jsonb) returns text language sql immutable
    as 'select jsonb_typeof(value)';
  create function public.add(a int, b int default 10) returns int language sql immutable
    as 'select a + b';
  create function public.total(numbers int[]) returns bigint language sql immutable
    as 'select sum(n) from unnest(numbers) as n';
  create function public.all_marks() returns setof public.marks language sql stable
    as 'select * from public.marks order by id';
  create function public.mark(note text) returns void language sql volatile
    as 'insert into public.marks (note) values (note)';
  create function public.whoami() returns jsonb language sql stable as $$
    select jsonb_build_object('uid', auth.uid(), 'role', auth.role(), 'user', current_user, 'aal', auth.jwt() ->> 'aal')
  $$;
  create function public.request() returns jsonb language sql stable as $$
    select jsonb_build_object(
      'method', current_setting('request.method'), 'path', current_setting('request.path'),
      'mark', current_setting('request.headers')::jsonb ->> 'x-mark',
      'cookies', current_setting('request.cookies')::jsonb)
  $$;
  create function public.fail(state text) returns void language plpgsql as $$
  begin raise exception 'words' using errcode = state, detail = 'more', hint = 'try'; end $$;
  create function public.refuse() returns void language plpgsql as $$
  begin
    raise sqlstate 'PGRST' using
      message = '{"code": "RATE_LIMITED", "message": "Too fast", "details": "0 left", "hint": null}',
      detail = '{"status": 429, "headers": {"Retry-After": "30"}}';
  end $$;
  create function public.refuse_badly() returns void language plpgsql as $$
  begin
    raise sqlstate 'PGRST' using
      message = '{"code": "X", "message": "m", "details": {"an": "object"}}',
      detail = '{"status": 429, "headers": {}}';
  end $$;
  create function public.created() returns jsonb language plpgsql as $$
  begin
    perform set_config('response.status', '201', true);
    perform set_config('response.headers', '[{"X-Made": "yes"}]', true);
    return '{}';
  end $$;
  create table public.signs (id int generated always as identity primary key, says jsonb);
  create function public.put_up() returns trigger language plpgsql as $$
  begin
    perform set_config('response.headers', new.says::text, true);
    return new;
  end $$;
  create trigger put_up before insert on public.signs for each row execute function public.put_up();
  grant select, insert on public.signs to authenticated;
  create function public.wait(seconds float) returns void language sql volatile
    as 'select pg_sleep(seconds)';
  create view public.request_of_tables as select public.request() as request;
  grant select on public.request_of_tables to authenticated;
  grant execute on all functions in schema public to authenticated, anon;
`;

let service: RestUnderTest;
let client: SupabaseClient;
let token: string;

beforeAll(async () => {
  service = await startRest(schema);
  token = await service.token("authenticated", { sub: user, aal: "aal1" });
  client = service.client(token);
});
afterAll(() => service.close());

async function asSuperuser(statements: string): Promise<void> {
  const sql = postgres(service.database.url("supabase_admin"), { max: 1, onnotice: () => {} });
  await sql.unsafe(statements);
  await sql.end();
}

describe("calling", () => {
  it.each([[{ a: [1, { b: null }] }], [[1, "x"]], ["text"], ['{"a":1}'], [3], [true], [[true]]])(
    "passes the json argument %j as it is",
    async (value) => {
      const { data, error } = await client.rpc("echo", { value });
      expect(error).toBeNull();
      expect(data).toEqual(value);
    },
  );

  it.each([[{}, "object"], [[], "array"], ["s", "string"], [1, "number"], [false, "boolean"]])(
    "%j arrives in Postgres as %s",
    async (value, kind) => expect((await client.rpc("kind", { value })).data).toBe(kind),
  );

  it("takes defaults for what is left out", async () => {
    expect((await client.rpc("add", { a: 1 })).data).toBe(11);
  });

  it("takes arrays", async () => {
    expect((await client.rpc("total", { numbers: [1, 2, 3] })).data).toBe(6);
  });

  it("filters, orders and counts what a function returns", async () => {
    const { data, count } = await client.rpc("all_marks", {}, { count: "exact" }).select("note")
      .order("note", { ascending: false }).limit(1);
    expect({ data, count }).toEqual({ data: [{ note: "two" }], count: 2 });
  });

  it("calls by GET", async () => {
    expect((await client.rpc("add", { a: 2, b: 3 }, { get: true })).data).toBe(5);
  });

  it("writes on POST and answers 204 for void", async () => {
    expect((await client.rpc("mark", { note: "three" })).status).toBe(204);
  });

  it("does not write on GET", async () => {
    const { error, status } = await client.rpc("mark", { note: "x" }, { get: true });
    expect({ status, code: error?.code }).toEqual({ status: 405, code: "25006" });
  });

  it("knows who asks", async () => {
    expect((await client.rpc("whoami")).data)
      .toEqual({ uid: user, role: "authenticated", user: "authenticated", aal: "aal1" });
    expect((await service.client().rpc("whoami")).data)
      .toEqual({ uid: null, role: "anon", user: "anon", aal: null });
  });

  it("lets functions read the request, and views too", async () => {
    const headers = { "x-mark": "here", cookie: "a=1; b=x=y" };
    const told = { method: "GET", mark: "here", cookies: { a: "1", b: "x=y" } };
    const called = await service.request("/rpc/request", { token, headers });
    expect(await called.json()).toEqual({ ...told, path: "/rpc/request" });
    const viewed = await service.request("/request_of_tables", { token, headers });
    expect(await viewed.json()).toEqual([{ request: { ...told, path: "/request_of_tables" } }]);
  });

  it("lets functions set status and headers", async () => {
    const answer = await service.request("/rpc/created", { method: "POST", token });
    expect([answer.status, answer.headers.get("x-made")]).toEqual([201, "yes"]);
  });
});

describe("what a table's trigger says of the answer", () => {
  const insert = (says: unknown) =>
    service.request("/signs", {
      method: "POST",
      token,
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ says }),
    });

  it("stands in its headers, each time it was said", async () => {
    const answer = await insert([{ "X-Made": "one" }, { "X-Made": "two" }]);
    expect([answer.status, answer.headers.get("x-made")]).toEqual([201, "one, two"]);
  });

  it.each([[{ "X-Made": "no list" }], [[{ a: "two", b: "keys" }]], [[{ number: 1 }]]])(
    "undoes the request when it is %j",
    async (says) => {
      const count = async () => (await (await service.request("/signs", { token })).json()).length;
      const before = await count();
      const answer = await insert(says);
      expect([answer.status, (await answer.json()).code]).toEqual([500, "PGRST111"]);
      expect(await count()).toBe(before);
    },
  );
});

describe("errors", () => {
  it.each([
    ["P0001", 400],
    ["23514", 400],
    ["22023", 400],
    ["23505", 409],
    ["28000", 403],
    ["40001", 500],
    ["P0002", 500],
    ["42P01", 404],
    ["42501", 403],
  ])("%s is %i, with message, details and hint", async (state, status) => {
    const answer = await client.rpc("fail", { state });
    expect(answer.status).toBe(status);
    expect(answer.error)
      .toMatchObject({ code: state, message: "words", details: "more", hint: "try" });
  });

  it("PGRST gives SQL full control of status, headers and body", async () => {
    const answer = await service.request("/rpc/refuse", { method: "POST", token });
    expect([answer.status, answer.headers.get("retry-after")]).toEqual([429, "30"]);
    expect(await answer.json())
      .toEqual({ code: "RATE_LIMITED", message: "Too fast", details: "0 left", hint: null });
  });

  it("details that are no text are PGRST121, as they are on a hosted project", async () => {
    const { error, status } = await client.rpc("refuse_badly");
    expect({ status, code: error?.code }).toEqual({ status: 500, code: "PGRST121" });
  });

  it("a function that is not there is PGRST202", async () => {
    const { error, status } = await client.rpc("nothing");
    expect({ status, code: error?.code }).toEqual({ status: 404, code: "PGRST202" });
  });

  it("a table that is not there is PGRST205", async () => {
    const { error, status } = await client.from("nothing").select();
    expect({ status, code: error?.code }).toEqual({ status: 404, code: "PGRST205" });
  });

  it("a column that is not there is 42703 with its table", async () => {
    const { error, status } = await client.from("marks").select("nothing");
    expect({ status, code: error?.code, message: error?.message })
      .toEqual({ status: 400, code: "42703", message: "column marks.nothing does not exist" });
  });

  it("a relationship that is not there is PGRST200", async () => {
    const { error, status } = await client.from("marks").select("*, nothing(*)");
    expect({ status, code: error?.code }).toEqual({ status: 400, code: "PGRST200" });
  });

  it("a body that is no JSON is PGRST102", async () => {
    const answer = await service.request("/marks", {
      method: "POST",
      token,
      headers: { "content-type": "application/json" },
      body: "{",
    });
    expect([answer.status, (await answer.json()).code]).toEqual([400, "PGRST102"]);
  });

  it("a schema that is not exposed is PGRST106", async () => {
    const { error, status } = await client.schema("auth").from("users").select();
    expect({ status, code: error?.code }).toEqual({ status: 406, code: "PGRST106" });
  });

  it("a statement that takes longer than the role's timeout is 57014", async () => {
    const { error, status } = await service.client().rpc("wait", { seconds: 10 });
    expect({ status, code: error?.code }).toEqual({ status: 500, code: "57014" });
  });
});

describe("tokens", () => {
  it("one that is over is 401 PGRST301", async () => {
    const answer = await service.request("/marks", {
      token: await service.token("authenticated", { exp: 1 }),
    });
    expect(answer.status).toBe(401);
    expect(await answer.json()).toMatchObject({ code: "PGRST301", message: "JWT expired" });
    expect(answer.headers.get("www-authenticate")).toContain('error="invalid_token"');
  });

  const header = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  it.each([
    ["garbage", () => "garbage"],
    ["unsigned", () => `${header({ alg: "none" })}.${header({ role: "service_role" })}.`],
    ["cut", () => token.slice(0, -4)],
    [
      "with another payload",
      () => token.replace(/\..*\./, `.${header({ role: "service_role", exp: 9e9 })}.`),
    ],
  ])("one that is %s is 401 PGRST301", async (_name, bad) => {
    const answer = await service.request("/marks", { token: bad() });
    expect([answer.status, (await answer.json()).code]).toEqual([401, "PGRST301"]);
  });

  it("one that asks for another role is 401, however well signed", async () => {
    for (const role of ["postgres", "supabase_admin", "authenticator"]) {
      const answer = await service.request("/marks", { token: await service.token(role) });
      expect(answer.status).toBe(401);
    }
  });
});

describe("the schema", () => {
  it("is read anew when a migration has changed it", async () => {
    await service.database.sql.unsafe(`
      create table public.late (id int primary key);
      grant select on public.late to authenticated;`);
    await expect.poll(async () => (await client.from("late").select()).status).toBe(200);
    await service.database.sql.unsafe("alter table public.late add column note text default 'n'");
    await expect.poll(async () => (await client.from("late").select("note")).status).toBe(200);
    await service.database.sql.unsafe("drop table public.late");
    await expect.poll(async () => (await client.from("late").select()).error?.code)
      .toBe("PGRST205");
  });

  it("is read anew at NOTIFY", async () => {
    // Without the event triggers that notify by themselves.
    await asSuperuser(`
      set event_triggers = off;
      create function public.quiet() returns int language sql as 'select 1';
      grant execute on function public.quiet() to authenticated;
      notify pgrst, 'reload schema';`);
    await expect.poll(async () => (await client.rpc("quiet")).data).toBe(1);
  });

  it("survives its connections being cut", async () => {
    await service.database.sql`
      select pg_terminate_backend(pid) from pg_stat_activity
      where application_name = 'postgrest' and datname = current_database()`;
    await expect.poll(async () => (await client.from("marks").select()).status).toBe(200);
  });

  it("runs the hook that every request goes through first", async () => {
    await service.database.sql.unsafe(`
      create function public.gate() returns void language plpgsql as $$
      begin
        if current_setting('request.headers')::jsonb ? 'x-stop' then
          raise sqlstate 'PGRST' using message = '{"code":"STOP","message":"stop"}',
            detail = '{"status":418,"headers":{}}';
        end if;
      end $$;
      grant execute on function public.gate() to authenticated, anon;`);
    await asSuperuser(`
      alter role authenticator in database ${service.database.name} set pgrst.db_pre_request = 'public.gate';
      notify pgrst, 'reload config'`);
    await expect.poll(async () =>
      (await service.request("/marks", { token, headers: { "x-stop": "1" } })).status
    ).toBe(418);
    expect((await service.request("/marks", { token })).status).toBe(200);
  });
});
