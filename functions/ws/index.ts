import { createTokenVerifier } from "../../shared/http/tokens.ts";
import { readEnvironment } from "./environment.ts";
import { createFeeds } from "./feed.ts";
import { createHandler } from "./handler.ts";

const environment = readEnvironment((name) => Deno.env.get(name));

Deno.serve(
  { port: Number(Deno.env.get("PORT") ?? "8000") },
  createHandler({
    verifyToken: createTokenVerifier(environment),
    openFeed: createFeeds(environment),
    log: (entry) => console.log(JSON.stringify({ function: "ws", ...entry })),
  }),
);
