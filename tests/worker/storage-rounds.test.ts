/** The worker's removal of files, against Storage in all its moods. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { createStorageApi } from "../../shared/storage/api.ts";
import { createStorageRounds } from "../../shared/worker/storage-rounds.ts";
import { createWorkerBed, type WorkerBed } from "./support/bed.ts";

const SECRET = "sb_secret_canary";

interface Asked {
  method: string;
  path: string;
  key: string | undefined;
  body: { prefix?: string; limit?: number; prefixes?: string[] };
}

/** What Storage does with a request: answers with this, or says nothing for ever. */
type Mood = (asked: Asked) => { status: number; body: string } | "silence";

let bed: WorkerBed;
let server: Server;
let projectUrl: string;
let mood: Mood;
let asked: Asked[];
/** Names in bucket `files`. */
let objects: Set<string>;

/** Storage as it is when nothing is wrong. */
const well: Mood = ({ method, body }) => {
  if (method === "POST") {
    const found = [...objects].filter((name) => name.startsWith(body.prefix!)).slice(0, body.limit);
    const listed = {
      hasNext: false,
      folders: [],
      objects: found.map((name) => ({ name, id: "x" })),
    };
    return { status: 200, body: JSON.stringify(listed) };
  }
  const gone = body.prefixes!.filter((name) => objects.delete(name));
  return { status: 200, body: JSON.stringify(gone.map((name) => ({ name }))) };
};

beforeAll(async () => {
  bed = await createWorkerBed();
  server = createServer((request, response) => {
    let text = "";
    request.on("data", (chunk) => text += chunk);
    request.on("end", () => {
      const one = {
        method: request.method!,
        path: request.url!,
        key: request.headers.apikey as string | undefined,
        body: JSON.parse(text),
      };
      asked.push(one);
      const answer = mood(one);
      if (answer === "silence") return;
      response.writeHead(answer.status, { "content-type": "application/json" });
      response.end(answer.body);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  projectUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});

beforeEach(async () => {
  mood = well;
  asked = [];
  objects = new Set();
  bed.log.length = 0;
  await bed.sql`truncate private.storage_removals`;
});

const rounds = (options: { url?: string; timeoutMs?: number; now?: () => number } = {}) =>
  createStorageRounds({
    sql: bed.sql,
    storage: createStorageApi({
      projectUrl: options.url ?? projectUrl,
      secretKey: SECRET,
      timeoutMs: options.timeoutMs ?? 60_000,
    }),
    log: (level, message, fields) => bed.log.push(JSON.stringify({ level, message, ...fields })),
    ...(options.now && { clock: { now: options.now, sleep: () => Promise.resolve() } }),
  });

const queue = (prefix = "u/a/", bucket = "files") =>
  bed.sql`select private.queue_storage_removal(${bucket}, ${prefix})`;
const rows = () =>
  bed.sql<{ prefix: string; attempts: number; last_error: string | null; due: boolean }[]>`
    select prefix, attempts, last_error, run_after <= clock_timestamp() as due
    from private.storage_removals order by prefix`;
const passTime = () =>
  bed.sql`
    update private.storage_removals
    set run_after = now() - interval '1 ms', settles_at = settles_at - interval '1 day'`;
const fill = (count: number, prefix = "u/a/") => {
  for (let index = 0; index < count; index++) objects.add(`${prefix}${index}`);
};

it("removes what begins with the prefix, page by page, and nothing else", async () => {
  fill(2500);
  objects.add("u/ab/other").add("u/b/other");
  await queue();
  await rounds()();
  expect([...objects].sort()).toEqual(["u/ab/other", "u/b/other"]);
  expect(asked.map(({ method }) => method).join(" ")).toBe(
    "POST DELETE POST DELETE POST DELETE POST",
  );
  expect(asked[0]).toMatchObject({
    path: "/storage/v1/object/list-v2/files",
    body: { prefix: "u/a/" },
    key: SECRET,
  });
});

it("comes back for what was uploaded by an old signed URL, and is done then", async () => {
  await queue();
  await rounds()();
  expect(await rows()).toMatchObject([{ due: false }]);
  fill(1);
  await passTime();
  await rounds()();
  expect(objects.size).toBe(0);
  expect(await rows()).toEqual([]);
});

it("is done by one worker, though several are woken", async () => {
  fill(3);
  await queue();
  await Promise.all([rounds()(), rounds()(), rounds()()]);
  expect(asked.filter(({ method }) => method === "DELETE")).toHaveLength(1);
});

it("goes on where a worker died", async () => {
  fill(5);
  await queue();
  // It claimed the folder, removed some and was seen no more.
  await bed.sql`select private.claim_storage_removals(10, 60)`;
  objects.delete("u/a/0");
  await rounds()();
  expect(objects.size).toBe(4);
  await passTime();
  await rounds()();
  expect(objects.size).toBe(0);
  expect(await rows()).toEqual([]);
});

it("makes room for other folders when one takes too long", async () => {
  let now = 0;
  const patient = () => now += 20_000;
  fill(5000);
  fill(2, "u/b/");
  await queue("u/a/");
  await queue("u/b/");
  await rounds({ now: patient })();
  expect([...objects].filter((name) => name.startsWith("u/b/"))).toEqual([]);
  expect(objects.size).toBeGreaterThan(0);
  expect(await rows()).toMatchObject([{ prefix: "u/a/", due: true, attempts: 0 }, {}]);
});

describe("tries again later, and says why, when Storage", () => {
  const endless = "x".repeat(9 * 1024 * 1024);
  const moods: [string, Mood, string][] = [
    ["answers 500", () => ({ status: 500, body: "secret words" }), "Storage answered 500"],
    ["refuses the key", () => ({ status: 403, body: "{}" }), "Storage answered 403"],
    ["is silent", () => "silence", "Storage did not answer in time"],
    [
      "speaks no JSON",
      () => ({ status: 200, body: "<html>" }),
      "Storage gave an unexpected answer",
    ],
    [
      "says too much",
      () => ({ status: 200, body: `"${endless}"` }),
      "Storage gave too large an answer",
    ],
    [
      "lists another's files",
      ({ method }) => ({
        status: 200,
        body: method === "POST" ? '{"objects": [{"name": "someone/else"}]}' : "[]",
      }),
      "Storage listed objects of another folder",
    ],
    [
      "keeps what it should remove",
      (one) => one.method === "POST" ? well(one) : { status: 200, body: "[]" },
      "Storage keeps what it was told to remove",
    ],
  ];

  it.each(moods)("%s", async (_, how, reason) => {
    fill(3);
    mood = how;
    await queue();
    await rounds(reason.endsWith("in time") ? { timeoutMs: 300 } : {})();
    expect(await rows()).toEqual([{ prefix: "u/a/", attempts: 1, last_error: reason, due: false }]);
    expect(asked.filter(({ body }) => body.prefixes?.includes("someone/else"))).toEqual([]);
    mood = well;
    await passTime();
    await rounds()();
    expect(objects.size).toBe(0);
    expect(await rows()).toEqual([]);
  });

  it("is away", async () => {
    await queue();
    await rounds({ url: "http://127.0.0.1:9" })();
    expect(await rows()).toMatchObject([{ attempts: 1, last_error: "Storage is away" }]);
  });

  it("breaks off in the middle", async () => {
    fill(1500);
    mood = (one) => asked.length > 2 ? { status: 503, body: "" } : well(one);
    await queue();
    await rounds()();
    expect(objects.size).toBe(500);
    mood = well;
    await passTime();
    await rounds()();
    expect(objects.size).toBe(0);
  });
});

it("tells the log neither key nor names nor Storage's words", async () => {
  fill(3);
  mood = () => ({ status: 500, body: "secret words" });
  await queue("personal/folder/");
  await rounds()();
  expect(bed.log).toHaveLength(1);
  expect(bed.log[0]).not.toMatch(/canary|personal|secret words/);
});

it("one folder in trouble does not hold up the others", async () => {
  fill(1, "u/a/");
  fill(1, "u/b/");
  fill(1, "u/c/");
  mood = (one) => JSON.stringify(one.body).includes("u/a/") ? { status: 500, body: "" } : well(one);
  for (const prefix of ["u/a/", "u/b/", "u/c/"]) await queue(prefix);
  await rounds()();
  expect([...objects]).toEqual(["u/a/0"]);
});

it("without a database it gives up quietly", async () => {
  await bed.sql`alter table private.storage_removals rename to away`;
  try {
    await rounds()();
  } finally {
    await bed.sql`alter table private.away rename to storage_removals`;
  }
  expect(bed.log.join()).toContain("files could not be looked after");
});
