/**
 * A stand-in for the platform's management API, as far as the CLI asks it to deploy: it keeps what it
 * is sent. It bundles nothing; what the real one does with an upload has to be told from its files.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";

export interface FunctionUpload {
  metadata: {
    name: string;
    entrypoint_path: string;
    import_map_path: string;
    static_patterns: string[];
    verify_jwt: boolean;
  };
  /** Content by path, relative to the checkout. */
  files: Map<string, string>;
}

export interface ManagementApi {
  projectRef: string;
  /** What makes the CLI talk to this server and to no other. */
  environment: Record<string, string>;
  /** By the function's name. */
  uploads: Map<string, FunctionUpload>;
  /** The functions that were put in use, once their uploads were all accepted. */
  deployed: string[];
  /** What `secrets set` sent. */
  secrets: Map<string, string>;
  /** Method and path of everything that was asked. */
  requests: string[];
  close(): Promise<void>;
}

const PROJECT_REF = "abcdefghijklmnopqrst";
const ACCESS_TOKEN = `sbp_${"0123456789".repeat(4)}`;

export async function startManagementApi(): Promise<ManagementApi> {
  const home = await mkdtemp(path.join(tmpdir(), "agent-launchpad-cli-"));
  const state = {
    uploads: new Map<string, FunctionUpload>(),
    deployed: [] as string[],
    secrets: new Map<string, string>(),
    requests: [] as string[],
  };
  const server = createServer((request, response) => {
    answer(request, state).then(
      ({ status, body }) => send(response, status, body),
      (error) => send(response, 500, { message: String(error) }),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const profile = path.join(home, "profile.json");
  await writeFile(
    profile,
    JSON.stringify({
      name: "test",
      api_url: url,
      dashboard_url: url,
      project_host: "localhost",
    }),
  );
  return {
    ...state,
    projectRef: PROJECT_REF,
    environment: {
      SUPABASE_PROFILE: profile,
      SUPABASE_HOME: home,
      SUPABASE_ACCESS_TOKEN: ACCESS_TOKEN,
      SUPABASE_NO_KEYRING: "1",
    },
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await rm(home, { recursive: true, force: true });
    },
  };
}

type State = Pick<ManagementApi, "uploads" | "deployed" | "secrets" | "requests">;

async function answer(
  request: IncomingMessage,
  state: State,
): Promise<{ status: number; body: unknown }> {
  const url = new URL(request.url ?? "/", "http://localhost");
  const project = `/v1/projects/${PROJECT_REF}`;
  const asked = `${request.method} ${url.pathname}`;
  state.requests.push(asked);
  const body = await read(request);
  if (request.headers.authorization !== `Bearer ${ACCESS_TOKEN}`) {
    return { status: 401, body: { message: "Unauthorized" } };
  }
  switch (asked) {
    case `POST ${project}/functions/deploy`: {
      const name = url.searchParams.get("slug") ?? "";
      const upload = await readUpload(body, request.headers["content-type"] ?? "");
      state.uploads.set(name, upload);
      if (!url.searchParams.has("bundleOnly")) state.deployed.push(name);
      return { status: 201, body: describe(name, upload) };
    }
    case `PUT ${project}/functions`: {
      const functions = JSON.parse(body.toString()) as { slug: string }[];
      state.deployed.push(...functions.map((each) => each.slug));
      return { status: 200, body: { functions } };
    }
    case `POST ${project}/secrets`: {
      for (const { name, value } of JSON.parse(body.toString())) state.secrets.set(name, value);
      return { status: 201, body: {} };
    }
    default:
      return { status: 404, body: { message: `The stand-in does not know ${asked}` } };
  }
}

async function readUpload(body: Buffer, contentType: string): Promise<FunctionUpload> {
  const form = await new Response(new Uint8Array(body), {
    headers: { "Content-Type": contentType },
  }).formData();
  const files = form.getAll("file").filter((part): part is File => part instanceof File);
  return {
    metadata: JSON.parse(await textOf(form.get("metadata"))),
    files: new Map(
      await Promise.all(
        files.map(async (file) => [file.name, await file.text()] as const),
      ),
    ),
  };
}

const textOf = async (part: FormDataEntryValue | null) =>
  part instanceof File ? await part.text() : part ?? "";

function describe(name: string, { metadata }: FunctionUpload) {
  return {
    id: `id-of-${name}`,
    slug: name,
    name,
    status: "ACTIVE",
    version: 1,
    created_at: 0,
    updated_at: 0,
    verify_jwt: metadata.verify_jwt,
    entrypoint_path: `file:///${metadata.entrypoint_path}`,
    import_map: true,
    import_map_path: `file:///${metadata.import_map_path}`,
  };
}

async function read(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function send(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(body));
}
