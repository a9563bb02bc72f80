import { writeFile } from "node:fs/promises";
import path from "node:path";
import { afterAll, expect, test } from "vitest";
import { findChromium, startChromium, type Tab } from "../support/chromium.ts";
import { startSite } from "../support/site.ts";
import { type OwnAuth, startAuthServer } from "./own-server.ts";
import { freshEmail } from "./support.ts";

const chromium = findChromium();
const closers: (() => Promise<unknown>)[] = [];
afterAll(async () => {
  for (const close of closers.reverse()) await close();
});

function eventually<Value>(tab: Tab, expression: string, where?: "page" | "frame") {
  return expect.poll(() => tab.evaluate<Value>(expression, where).catch(() => null));
}

/** `AGENT_LAUNCHPAD_PICTURES=folder` keeps what the browser showed. */
async function keepPicture(tab: Tab, name: string): Promise<void> {
  const folder = process.env.AGENT_LAUNCHPAD_PICTURES;
  if (folder) await writeFile(path.join(folder, `${name}.png`), await tab.screenshot());
}

test.skipIf(chromium === null)(
  "a person who opens the inbox and clicks the sign-in link is signed in on the site",
  async () => {
    let auth: OwnAuth | undefined = undefined as OwnAuth | undefined;
    const { url: site, close } = await startSite(() => `
      const { auth } = supabase.createClient("${auth!.access.apiUrl}", "${
      auth!.access.publishableKey
    }");
      auth.getSession().then(({ data: { session } }) => {
        document.getElementById("who").textContent = session ? session.user.email : "Nobody";
      });`);
    closers.push(close);
    auth = await startAuthServer(
      `[auth]\nsite_url = "${site}"\n[auth.email]\nenable_confirmations = true\n`,
    );
    closers.push(() => auth!.stop());
    const email = freshEmail();
    await auth.anonymous().auth.signInWithOtp({ email });

    const browser = await startChromium(chromium!);
    closers.push(() => browser.close());
    const inbox = await browser.open(auth.access.inboxUrl);
    await eventually(inbox, "document.body.innerText").toContain(email);
    await keepPicture(inbox, "inbox");
    await inbox.evaluate(`document.querySelector("td a").click()`);
    await eventually(inbox, "document.body.innerText", "frame").toContain("Confirm email address");
    await keepPicture(inbox, "mail");

    const place = `(({ x, y }) => ({ x, y }))`;
    const frame = await inbox.evaluate<{ x: number; y: number }>(
      `${place}(document.querySelector("iframe").getBoundingClientRect())`,
    );
    const link = await inbox.evaluate<{ x: number; y: number }>(
      `${place}(document.querySelector("a").getBoundingClientRect())`,
      "frame",
    );
    // A page that has just been laid out may not take a click yet.
    let arrived: Tab | null = null;
    for (let tries = 0; arrived === null && tries < 90; tries++) {
      await inbox.click(frame.x + link.x + 10, frame.y + link.y + 10);
      arrived = await browser.openedBy(inbox, 2_000);
    }
    if (arrived === null) throw new Error("The link opened no tab");
    await eventually(arrived, "document.getElementById('who').textContent").toBe(email);
    await keepPicture(arrived, "site");
    expect(await arrived.evaluate("location.href")).not.toContain("access_token");
  },
);
