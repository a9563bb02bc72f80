import { defineConfig } from "vitest/config";
import { PATIENCE } from "./tests/support/until.ts";

export default defineConfig({
  test: {
    include: ["tests/**/*.test.ts"],
    globalSetup: ["tests/support/database-server.ts", "tests/support/stack-server.ts"],
    // One file after the other: they share a stack and a database server, whose settings some of them change.
    fileParallelism: false,
    // Only what hangs takes so long; the first test that asks for a stack waits for its start, and a machine may be busy.
    testTimeout: 600_000,
    hookTimeout: 600_000,
    expect: { poll: PATIENCE },
    // supabase-js wants a WebSocket, which Node 20 has behind a flag only.
    execArgv: "WebSocket" in globalThis ? [] : ["--experimental-websocket"],
  },
});
