import { firstKey } from "../../shared/health/environment.ts";
import { type Project, readProject, required, type Variables } from "../../shared/http/project.ts";

/** What the function needs from its surroundings, read once at start. */
export interface Environment extends Project {
  databaseUrl: string;
  publishableKey: string;
}

/** @throws Error naming the variable that is missing */
export function readEnvironment(get: Variables): Environment {
  return {
    ...readProject(get),
    databaseUrl: required(get, "SUPABASE_DB_URL"),
    publishableKey: firstKey(get("SUPABASE_PUBLISHABLE_KEYS")) ??
      required(get, "SUPABASE_ANON_KEY"),
  };
}
