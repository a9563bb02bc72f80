import { type Endpoint, endpointView, findEndpoint } from "./endpoints.ts";
import { PortainerError } from "./errors.ts";
import { type ApiRequest, empty, field, json, jsonBody, Router } from "./http.ts";
import type { StackInput, Stacks } from "./stacks.ts";
import type { StackRecord, Store, TemplateRecord } from "./store.ts";
import { stacksFilter } from "./stack_filter.ts";

/** The version whose behaviour is followed where versions differ. */
const VERSION = "2.23.0";

const badQuery = (name: string) =>
  new PortainerError(400, `Invalid query parameter: ${name}`, `Missing query parameter: ${name}`);

function numberQuery({ query }: ApiRequest, name: string): number {
  const text = query.get(name);
  if (text === null || !/^\d+$/.test(text)) throw badQuery(name);
  return Number(text);
}

function idOf(text: string | undefined): number {
  if (!text || !/^\d+$/.test(text)) {
    throw new PortainerError(
      400,
      "Invalid stack identifier route variable",
      `strconv.Atoi: parsing "${text}": invalid syntax`,
    );
  }
  return Number(text);
}

const refused = (details: string) => new PortainerError(400, "Invalid request payload", details);

function textField(body: Record<string, unknown>, name: string, complaint: string): string {
  const value = field(body, name);
  if (typeof value !== "string" || value === "") throw refused(complaint);
  return value;
}

function stackInput(body: Record<string, unknown>): StackInput {
  const env = field(body, "Env") ?? [];
  if (!Array.isArray(env)) throw refused("json: cannot unmarshal into field Env");
  return {
    file: textField(body, "StackFileContent", "Invalid stack file content"),
    env: env.map((pair: unknown) => {
      const entry = (typeof pair === "object" && pair !== null ? pair : {}) as Record<
        string,
        unknown
      >;
      const [name, value] = [field(entry, "name"), field(entry, "value")];
      if (typeof name !== "string" || (value !== undefined && typeof value !== "string")) {
        throw refused("json: cannot unmarshal into field Env");
      }
      return { name, value: value ?? "" };
    }),
  };
}

function stackView(stack: StackRecord) {
  return {
    Id: stack.id,
    Name: stack.name,
    Type: stack.type,
    EndpointId: stack.endpointId,
    SwarmId: stack.swarmId,
    EntryPoint: "docker-compose.yml",
    Env: stack.env.length > 0 ? stack.env : null,
    ResourceControl: null,
    Status: stack.status,
    ProjectPath: `/data/compose/${stack.id}`,
    CreationDate: stack.created,
    CreatedBy: "admin",
    UpdateDate: stack.updated,
    UpdatedBy: stack.updated ? "admin" : "",
    AdditionalFiles: null,
    AutoUpdate: null,
    Option: null,
    GitConfig: null,
    FromAppTemplate: false,
    Namespace: "",
  };
}

function templateView(template: TemplateRecord) {
  return {
    Id: template.id,
    Title: template.title,
    Description: template.description,
    ProjectPath: `/data/custom_templates/${template.id}`,
    EntryPoint: "docker-compose.yml",
    CreatedByUserId: 1,
    Note: template.note,
    Platform: template.platform,
    Logo: template.logo,
    Type: template.type,
    ResourceControl: null,
    Variables: template.variables,
    GitConfig: null,
    IsComposeFormat: false,
    EdgeTemplate: false,
  };
}

/** Portainer's own calls and its proxy to the engines. */
export function portainerApi(deps: { store: Store; endpoints: Endpoint[]; stacks: Stacks }): {
  answer(request: ApiRequest): Promise<Response>;
  isPublic(request: ApiRequest): boolean;
} {
  const { store, endpoints, stacks } = deps;
  const open = new Router();
  const status = () => json({ Version: VERSION, InstanceID: store.state.instanceId });
  open.on("GET", "/api/system/status", status);
  open.on("GET", "/api/status", status);

  const router = new Router();
  addEndpointRoutes(router, endpoints, stacks);
  addStackRoutes(router, endpoints, stacks);
  addTemplateRoutes(router, store);
  const proxy = /^\/api\/endpoints\/(\d+)\/docker(\/.*)$/;

  return {
    isPublic: (request) => request.method === "GET" && open.route(request) !== null,
    async answer(request) {
      const proxied = proxy.exec(request.path);
      if (proxied) {
        return await findEndpoint(endpoints, Number(proxied[1])).docker(request, proxied[2]!);
      }
      const answer = await (open.route(request) ?? router.route(request));
      return answer ?? new Response("404 page not found\n", { status: 404 });
    },
  };
}

function addEndpointRoutes(router: Router, endpoints: Endpoint[], stacks: Stacks): void {
  router.on("GET", "/api/endpoints", ({ query }) => {
    const number = (name: string) => Number(query.get(name) ?? 0) || 0;
    const types = [...query.getAll("types"), ...query.getAll("types[]")].map(Number);
    const name = query.get("name") ?? query.get("search") ?? "";
    const found = endpoints.filter((endpoint) =>
      (types.length === 0 || types.includes(1)) && endpoint.name.includes(name)
    );
    const start = Math.max(0, number("start") - 1);
    const limit = number("limit");
    const page = limit === 0 ? found : found.slice(start, start + limit);
    const withSnapshots = query.get("excludeSnapshots") !== "true";
    return json(
      page.map((endpoint) => endpointView(endpoint, stacks.all(), withSnapshots)),
      200,
      { "x-total-count": String(found.length), "x-total-available": String(endpoints.length) },
    );
  });
  router.on("GET", "/api/endpoints/:id", (request, [id]) => {
    const withSnapshot = request.query.get("excludeSnapshot") !== "true";
    return json(endpointView(findEndpoint(endpoints, idOf(id)), stacks.all(), withSnapshot));
  });
}

function addStackRoutes(router: Router, endpoints: Endpoint[], stacks: Stacks): void {
  router.on("GET", "/api/stacks", ({ query }) => {
    return json(stacks.all().filter(stacksFilter(query.get("filters"))).map(stackView));
  });
  router.on("POST", "/api/stacks/create/:type/:method", async (request, [type, method]) => {
    const endpoint = findEndpoint(endpoints, numberQuery(request, "endpointId"));
    if (type !== "swarm" && type !== "standalone") {
      throw new PortainerError(
        400,
        "Invalid value for query parameter: type. Value must be one of: 1 (Swarm stack) or 2 (Compose stack)",
        "Invalid query parameter",
      );
    }
    if (method !== "string") {
      throw new PortainerError(
        400,
        "Invalid value for query parameter: method. Value must be one of: string, repository or file",
        "Invalid query parameter",
      );
    }
    const body = jsonBody(request);
    const name = textField(body, "Name", "Invalid stack name");
    const swarmId = type === "swarm" ? textField(body, "SwarmID", "Invalid Swarm ID") : null;
    const input = stackInput(body);
    if (type === "swarm" && !endpoint.swarm) {
      throw new PortainerError(
        500,
        'this node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to ' +
          "connect this node to swarm and try again",
      );
    }
    return json(stackView(await stacks.create(endpoint, swarmId, name, input)));
  });
  router.on("GET", "/api/stacks/:id", (_, [id]) => json(stackView(stacks.get(idOf(id)))));
  router.on("GET", "/api/stacks/:id/file", (_, [id]) => {
    return json({ StackFileContent: stacks.get(idOf(id)).file });
  });
  router.on("PUT", "/api/stacks/:id", async (request, [id]) => {
    const stack = stacks.get(idOf(id));
    findEndpoint(endpoints, numberQuery(request, "endpointId"));
    const body = jsonBody(request);
    const pull = field(body, "PullImage") === true ||
      field(body, "RepullImageAndRedeploy") === true;
    const updated = await stacks.update(stack, stackInput(body), {
      prune: field(body, "Prune") === true,
      // Pulling gets the same image here, so that nothing is made anew for it: as with Docker.
      forceRecreate: false,
    });
    return json(stackView(updated), 200, pull ? { "x-image-pulled": "up to date" } : {});
  });
  for (const action of ["start", "stop"] as const) {
    router.on("POST", `/api/stacks/:id/${action}`, async (request, [id]) => {
      const stack = stacks.get(idOf(id));
      findEndpoint(endpoints, numberQuery(request, "endpointId"));
      return json(stackView(await stacks[action](stack)));
    });
  }
  router.on("DELETE", "/api/stacks/:id", async (request, [id]) => {
    const stack = stacks.get(idOf(id));
    findEndpoint(endpoints, numberQuery(request, "endpointId"));
    await stacks.remove(stack);
    return empty();
  });
}

function addTemplateRoutes(router: Router, store: Store): void {
  const { state } = store;
  const find = (id: string | undefined) => {
    const template = state.templates.find((candidate) => candidate.id === Number(id));
    if (template) return template;
    throw new PortainerError(
      404,
      "Unable to find a custom template with the specified identifier inside the database",
    );
  };
  router.on("GET", "/api/custom_templates", ({ query }) => {
    const types = [...query.getAll("type"), ...query.getAll("type[]")].map(Number);
    return json(
      state.templates.filter(({ type }) => types.length === 0 || types.includes(type))
        .map(templateView),
    );
  });
  router.on("POST", "/api/custom_templates/create/string", (request) => {
    const body = jsonBody(request);
    const title = textField(body, "Title", "Invalid custom template title");
    const type = field(body, "Type");
    const platform = field(body, "Platform") ?? 0;
    const template: TemplateRecord = {
      id: 0,
      title,
      description: textField(body, "Description", "Invalid custom template description"),
      file: textField(body, "FileContent", "Invalid file content"),
      note: String(field(body, "Note") ?? ""),
      logo: String(field(body, "Logo") ?? ""),
      platform: Number(platform),
      type: Number(type),
      variables: Array.isArray(field(body, "Variables"))
        ? field(body, "Variables") as unknown[]
        : [],
    };
    if (type !== 3 && platform !== 1 && platform !== 2) {
      throw refused("Invalid custom template platform");
    }
    if (type !== 1 && type !== 2 && type !== 3) throw refused("Invalid custom template type");
    if (state.templates.some((other) => other.title === title)) {
      throw new PortainerError(
        500,
        "Template name must be unique",
        "Template name must be unique",
      );
    }
    template.id = state.nextTemplateId++;
    state.templates.push(template);
    store.save();
    return json(templateView(template));
  });
  router.on("GET", "/api/custom_templates/:id", (_, [id]) => json(templateView(find(id))));
  router.on("GET", "/api/custom_templates/:id/file", (_, [id]) => {
    return json({ FileContent: find(id).file });
  });
  router.on("DELETE", "/api/custom_templates/:id", (_, [id]) => {
    state.templates.splice(state.templates.indexOf(find(id)), 1);
    store.save();
    return empty();
  });
}
