/** People and their sight of a test database: each statement runs as somebody, as PostgREST and /api run it. */
import { randomUUID } from "node:crypto";
import type postgres from "postgres";
import { createTestDatabase } from "../support/database.ts";

export type Run<T> = (sql: postgres.TransactionSql) => Promise<T>;

export interface Person {
  id: string;
  email: string;
  /** Runs in one transaction as this person; what is thrown rolls it back. */
  do<T>(run: Run<T>): Promise<T>;
}

export interface World {
  sql: postgres.Sql;
  person(role?: "user" | "operator" | "admin"): Promise<Person>;
  /** The same person through an API key with these permissions. */
  withKey(person: Person, permissions: string[]): Promise<Person & { keyId: string }>;
  anonymous<T>(run: Run<T>): Promise<T>;
  clusterId: string;
}

/** A database with one cluster, and people in it as they are asked for. */
export async function createWorld(): Promise<World> {
  const { sql } = await createTestDatabase();
  const [cluster] = await sql`
    select private.register_default_cluster(
      'portainer', 'test', 'http://127.0.0.1:9', 1, null, 'ptr_test', '{}'
    ) as id`;

  const runAs = <T>(claims: Record<string, string> | null, run: Run<T>): Promise<T> =>
    sql.begin(async (transaction) => {
      await transaction`select set_config('request.jwt.claims', ${
        JSON.stringify(claims ?? {})
      }, true)`;
      await transaction.unsafe(`set local role ${claims ? "authenticated" : "anon"}`);
      return await run(transaction);
    }) as Promise<T>;

  return {
    sql,
    clusterId: cluster?.id as string,
    anonymous: (run) => runAs(null, run),
    async person(role = "user") {
      const id = randomUUID();
      const email = `${id}@example.com`;
      await sql`
        insert into auth.users (id, email, instance_id, aud, role)
        values (${id}, ${email}, '00000000-0000-0000-0000-000000000000', 'authenticated', 'authenticated')`;
      if (role !== "user") await sql`update public.profiles set role = ${role} where id = ${id}`;
      return { id, email, do: (run) => runAs({ sub: id, role: "authenticated" }, run) };
    },
    async withKey(person, permissions) {
      const made = await person.do((t) =>
        t`select public.generate_api_key('test', null, ${permissions}) as key`
      );
      const keyId = made[0]?.key.key_id as string;
      return {
        ...person,
        keyId,
        do: (run) => runAs({ sub: person.id, role: "authenticated", api_key_id: keyId }, run),
      };
    },
  };
}

export interface Refusal {
  code: string;
  status?: number;
  message: string;
  details?: Record<string, unknown>;
}

/** What a statement was refused with: our documented code and status, or the SQL state. Fails when it was not. */
export async function refusal(work: Promise<unknown>): Promise<Refusal> {
  try {
    await work;
  } catch (error) {
    const thrown = error as { code: string; message: string; detail?: string };
    if (thrown.code !== "PGRST") return { code: thrown.code, message: thrown.message };
    const body = JSON.parse(thrown.message);
    return {
      code: body.code,
      message: body.message,
      status: JSON.parse(thrown.detail ?? "{}").status,
      details: body.details ? JSON.parse(body.details) : undefined,
    };
  }
  throw new Error("The statement was not refused.");
}

export interface Answer {
  agent: Record<string, unknown> & { id: string; status: string };
  deployment: Record<string, unknown> & { state: string; stack_name: string };
  operation: Record<string, unknown> & { id: string; kind: string; state: string };
  event_id: string;
}

/** Calls a public function of one agent command and gives its answer. */
export async function call(person: Person, text: string, ...values: unknown[]): Promise<Answer> {
  const rows = await person.do((t) => t.unsafe(`select ${text} as answer`, values as never[]));
  return rows[0]?.answer as Answer;
}

/** Makes an agent over create_agent. */
export function createAgent(person: Person, spec: Record<string, unknown> = {}): Promise<Answer> {
  return call(
    person,
    "public.create_agent($1::text::jsonb)",
    JSON.stringify({ name: "agent", ...spec }),
  );
}

export interface Claimed {
  operation: Record<string, unknown> & { id: string; kind: string; agent_id: string };
  lease_token: string;
}

/** What a worker is given when it asks for work. */
export async function claim(sql: postgres.Sql, lease = "30 seconds"): Promise<Claimed[]> {
  return await sql`select * from private.claim_operations('test', ${lease}::interval, 10)` as unknown as Claimed[];
}

/** Ends what other tests left waiting, so that it is not what this one's worker finds. */
export async function leaveNothingDue(sql: postgres.Sql): Promise<void> {
  await sql`delete from private.operation_queue`;
  await sql`update operations set state = 'cancelled', finished_at = now() where state in ('queued', 'running')`;
}

/** Carries out the one operation that is due, as a worker whose orchestrator does all it is asked. */
export async function finishNext(sql: postgres.Sql): Promise<Claimed> {
  const [claimed] = await claim(sql);
  if (!claimed) throw new Error("No operation was due.");
  const { operation: { id }, lease_token: token } = claimed;
  await sql`select private.operation_plan(${id}, ${token})`;
  await sql`select private.record_placement(${id}, ${token}, '{"stack_id": "7", "orchestrator": "portainer-swarm"}')`;
  await sql`select private.complete_operation(${id}, ${token}, '{}')`;
  return claimed;
}

/** An agent that runs. */
export async function createRunningAgent(
  world: World,
  person: Person,
  spec?: Record<string, unknown>,
): Promise<string> {
  const { agent } = await createAgent(person, spec);
  await finishNext(world.sql);
  return agent.id;
}
