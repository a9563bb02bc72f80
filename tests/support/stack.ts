import type { StackAccess } from "./stack-process.ts";

export type { StackAccess } from "./stack-process.ts";

/** Where the worker processes of vitest ask for the run's stack. */
export const stackDoor = "TEST_STACK_DOOR";

let access: Promise<StackAccess> | undefined;

/**
 * The stack of this vitest run: one for all test files, started by the first that asks. With
 * `SUPABASE_URL` and keys in the environment it is that one instead, `supabase start` or a hosted
 * project.
 *
 * @throws Error with what the stack printed when it does not come up
 */
export function useStack(): Promise<StackAccess> {
  return access ??= process.env.SUPABASE_URL ? Promise.resolve(fromEnvironment()) : askForStack();
}

async function askForStack(): Promise<StackAccess> {
  const door = process.env[stackDoor];
  if (!door) throw new Error("vitest.config.ts does not list tests/support/stack-server.ts");
  const answer = await fetch(door);
  if (!answer.ok) throw new Error(await answer.text());
  return await answer.json() as StackAccess;
}

function fromEnvironment(): StackAccess {
  const value = (...names: string[]) =>
    names.map((name) => process.env[name]).find((found) => found) ?? "";
  return {
    apiUrl: value("SUPABASE_URL"),
    dbUrl: value("SUPABASE_DB_URL", "DB_URL"),
    publishableKey: value("SUPABASE_PUBLISHABLE_KEY", "PUBLISHABLE_KEY"),
    secretKey: value("SUPABASE_SECRET_KEY", "SECRET_KEY"),
    anonKey: value("SUPABASE_ANON_KEY", "ANON_KEY"),
    serviceRoleKey: value("SUPABASE_SERVICE_ROLE_KEY", "SERVICE_ROLE_KEY"),
    portainerUrl: value("PORTAINER_URL"),
    portainerApiKey: value("PORTAINER_API_KEY"),
    inboxUrl: value("INBUCKET_URL", "MAILPIT_URL"),
    stateDir: "",
  };
}
