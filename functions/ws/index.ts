import { createTokenVerifier } from "../../shared/http/tokens.ts";
import postgres from "postgres";
import { connectDatabase } from "../../shared/database/connect.ts";
import { readEnvironment } from "./environment.ts";
import { createFeeds } from "./feed.ts";
import { createHandler } from "./handler.ts";
import { createSlots } from "./slots.ts";

const environment = readEnvironment((name) => Deno.env.get(name));

const log = (entry: Record<string, unknown>) =>
  console.log(JSON.stringify({ function: "ws", ...entry }));
const connection = { application_name: "agent-launchpad-ws" };
const slots = createSlots({
  sql: connectDatabase({
    url: environment.databaseUrl,
    max: 2,
    applicationName: connection.application_name,
  }),
  openSession: (onclose) =>
    postgres(environment.databaseUrl, {
      max: 1,
      prepare: false,
      fetch_types: false,
      idle_timeout: 0,
      max_lifetime: null,
      connect_timeout: 5,
      onnotice: () => {},
      onclose,
      connection,
    }),
  log,
});

Deno.serve(
  { port: Number(Deno.env.get("PORT") ?? "8000") },
  createHandler({
    verifyToken: createTokenVerifier(environment),
    openFeed: createFeeds(environment),
    slots,
    log,
  }),
);
