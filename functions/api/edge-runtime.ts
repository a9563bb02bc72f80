interface EdgeRuntime {
  waitUntil(work: Promise<unknown>): void;
}

/** What the platform gives a function beside Deno; a plain process has none. */
export const edgeRuntime = (): EdgeRuntime | undefined =>
  (globalThis as { EdgeRuntime?: EdgeRuntime }).EdgeRuntime;
