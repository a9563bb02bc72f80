import { execFileSync, spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import type { Readable, Writable } from "node:stream";

/** Where Chromium is on this machine; null where it is not. */
export function findChromium(): string | null {
  for (const name of ["chromium", "chromium-browser", "google-chrome"]) {
    try {
      return execFileSync("which", [name], { encoding: "utf8" }).trim();
    } catch { /* the next one */ }
  }
  return null;
}

export interface Browser {
  /** Opens an address in a tab of its own. */
  open(url: string): Promise<Tab>;
  /** The first tab that the page itself opened; null when there is none within that time. */
  openedBy(tab: Tab, timeoutMs: number): Promise<Tab | null>;
  close(): Promise<void>;
}

export interface Tab {
  id: string;
  /** What an expression gives in the page, or in the frame that it holds. */
  evaluate<Value>(expression: string, where?: "page" | "frame"): Promise<Value>;
  /** Presses the mouse at a place of the page, in pixels from its corner. */
  click(x: number, y: number): Promise<void>;
  /** A picture of the page. */
  screenshot(): Promise<Buffer>;
}

interface Message {
  id?: number;
  method?: string;
  sessionId?: string;
  params?: { sessionId: string; targetInfo: { targetId: string; type: string; openerId?: string } };
  // deno-lint-ignore no-explicit-any -- each command answers in its own shape
  result?: any;
  error?: { message: string };
}

/** A real browser without a window, steered over DevTools' pipe. */
export async function startChromium(executable: string): Promise<Browser> {
  const profile = await mkdtemp(path.join(tmpdir(), "agent-launchpad-chromium-"));
  const child = spawn(executable, [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    `--user-data-dir=${profile}`,
    "--remote-debugging-pipe",
    "about:blank",
  ], { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const output = child.stdio[3] as Writable;
  const input = child.stdio[4] as Readable;

  const waiting = new Map<number, (message: Message) => void>();
  /** Sessions of the frames that run apart from their page, by the page's session. */
  const frames = new Map<string, string>();
  const popups = new Map<string, string>();
  let last = 0;
  let buffer = "";
  input.on("data", (chunk) => {
    buffer += chunk;
    const messages = buffer.split("\0");
    buffer = messages.pop()!;
    for (const text of messages) receive(JSON.parse(text));
  });

  function receive(message: Message): void {
    if (message.id !== undefined) return waiting.get(message.id)?.(message);
    const target = message.params?.targetInfo;
    if (message.method === "Target.attachedToTarget" && target!.type === "iframe") {
      frames.set(message.sessionId!, message.params!.sessionId);
    }
    if (message.method === "Target.targetCreated" && target!.openerId !== undefined) {
      if (!popups.has(target!.openerId)) popups.set(target!.openerId, target!.targetId);
    }
  }

  // deno-lint-ignore no-explicit-any -- as above
  function send(method: string, params: object = {}, sessionId?: string): Promise<any> {
    const id = ++last;
    output.write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    return new Promise((resolve, reject) => {
      waiting.set(id, ({ result, error }) => {
        waiting.delete(id);
        if (error === undefined) resolve(result);
        else reject(new Error(`${method}: ${error.message}`));
      });
    });
  }

  async function attach(id: string): Promise<Tab> {
    const { sessionId } = await send("Target.attachToTarget", { targetId: id, flatten: true });
    const follow = { autoAttach: true, waitForDebuggerOnStart: false, flatten: true };
    await send("Target.setAutoAttach", follow, sessionId);
    return {
      id,
      async evaluate(expression, where = "page") {
        const session = where === "frame" ? frames.get(sessionId) : sessionId;
        if (session === undefined) throw new Error("The page has no frame yet");
        const wish = { expression, returnByValue: true, awaitPromise: true };
        return (await send("Runtime.evaluate", wish, session)).result.value;
      },
      async click(x, y) {
        for (const type of ["mousePressed", "mouseReleased"]) {
          const event = { type, x, y, button: "left", clickCount: 1 };
          await send("Input.dispatchMouseEvent", event, sessionId);
        }
      },
      async screenshot() {
        const { data } = await send("Page.captureScreenshot", {}, sessionId);
        return Buffer.from(data, "base64");
      },
    };
  }

  await send("Target.setDiscoverTargets", { discover: true });
  return {
    async open(url) {
      const { targetId } = await send("Target.createTarget", { url });
      return await attach(targetId);
    },
    async openedBy({ id }, timeoutMs) {
      const until = Date.now() + timeoutMs;
      while (!popups.has(id)) {
        if (Date.now() > until) return null;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      return await attach(popups.get(id)!);
    },
    async close() {
      await send("Browser.close").catch(() => {});
      await exited;
      await rm(profile, { recursive: true, force: true });
    },
  };
}
