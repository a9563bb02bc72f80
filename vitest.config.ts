import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["tests/**/*.test.ts"],
    globalSetup: ["tests/support/database-server.ts", "tests/support/stack-server.ts"],
    // The first test that asks for a database or a stack waits for its start.
    testTimeout: 30_000,
    hookTimeout: 60_000,
    // A condition that is waited for may take as long as the test: a busy machine is no failure.
    expect: { poll: { timeout: 25_000 } },
    // supabase-js wants a WebSocket, which Node 20 has behind a flag only.
    execArgv: "WebSocket" in globalThis ? [] : ["--experimental-websocket"],
  },
});
