import { type Container, parseSignal } from "./container.ts";
import {
  containerDetails,
  containerSummary,
  imageSummary,
  networkDetails,
} from "./docker_views.ts";
import type { Engine } from "./engine.ts";
import { DockerError, noSuchImage, pullDenied } from "./errors.ts";
import { type EngineEvent, eventMatches } from "./events.ts";
import { allowFilters, type Filters, matchesLabels, parseFilters } from "./filters.ts";
import { type ApiRequest, empty, json, Router, streamed } from "./http.ts";
import { splitReference } from "./images.ts";
import { framedLog, logQuery } from "./log_api.ts";
import { readStats, streamStats } from "./stats.ts";
import { addSwarmRoutes } from "./swarm_api.ts";
import type { Swarm } from "./swarm.ts";
import { systemInfo, versionInfo } from "./system_info.ts";
import { rfc3339 } from "./units.ts";
import { addVolumeRoutes } from "./volume_api.ts";

const MULTIPLEXED = "application/vnd.docker.multiplexed-stream";
const encoder = new TextEncoder();

const flag = ({ query }: ApiRequest, name: string, fallback = false): boolean => {
  const value = query.get(name);
  return value === null ? fallback : ["1", "true", "True"].includes(value);
};

function containerMatches(container: Container, filters: Filters): boolean {
  const { config, state } = container;
  const any = (name: string, test: (value: string) => boolean) =>
    !filters[name]?.length || filters[name].some(test);
  return matchesLabels(config.labels, filters["label"]) &&
    any("id", (value) => config.id.startsWith(value)) &&
    any("name", (value) => new RegExp(value).test(`/${config.name}`)) &&
    any("status", (value) => state.status === value) &&
    any("ancestor", (value) => config.image === value || config.imageId.includes(value)) &&
    any("health", (value) => (state.health?.Status ?? "none") === value) &&
    any("exited", (value) => state.status === "exited" && state.exitCode === Number(value)) &&
    any("network", (value) => config.networks.includes(value));
}

/** Seconds of the `t` parameter as milliseconds, or undefined for the container's own. */
function graceMs({ query }: ApiRequest): number | undefined {
  const seconds = Number(query.get("t") ?? NaN);
  if (!Number.isFinite(seconds)) return undefined;
  // Docker takes a negative number as "for ever".
  return seconds < 0 ? 2 ** 31 - 1 : seconds * 1000;
}

/**
 * The Docker Engine API over one engine: what a client of this project needs, with Docker's statuses and words.
 * @returns a function that answers a path without version prefix
 */
export function dockerApi(
  engine: Engine,
  swarm: Swarm | null,
): (request: ApiRequest, path: string) => Promise<Response> {
  const router = new Router();

  router.on("GET", "/_ping", () => new Response("OK"));
  router.on("GET", "/version", () => json(versionInfo()));
  router.on("GET", "/info", () => json(systemInfo(engine, swarm)));

  addContainerRoutes(router, engine);
  addImageRoutes(router, engine);
  addNetworkRoutes(router, engine);
  addVolumeRoutes(router, engine, swarm !== null);
  router.on("GET", "/events", (request) => eventStream(engine, request));
  addSwarmRoutes(router, swarm);

  return async (request, path) => {
    const answer = await router.route(request, path.replace(/^\/v1\.\d+(?=\/)/, ""));
    if (!answer) throw new DockerError(404, "page not found");
    answer.headers.set("api-version", versionInfo().ApiVersion);
    answer.headers.set("docker-experimental", "false");
    answer.headers.set("ostype", "linux");
    return answer;
  };
}

function addContainerRoutes(router: Router, engine: Engine): void {
  router.on("GET", "/containers/json", (request) => {
    const filters = parseFilters(request.query.get("filters"));
    allowFilters(filters, [
      "ancestor",
      "exited",
      "health",
      "id",
      "label",
      "name",
      "network",
      "status",
      "volume",
    ]);
    const all = flag(request, "all") || Boolean(filters["status"]);
    const limit = Number(request.query.get("limit") ?? 0);
    const found = engine.containers()
      .filter((container) =>
        (all || container.isRunning || container.state.status === "restarting") &&
        containerMatches(container, filters)
      );
    return json(
      (limit > 0 ? found.slice(0, limit) : found).map((container) =>
        containerSummary(engine, container)
      ),
    );
  });
  router.on("GET", "/containers/:id/json", (_, [id]) => {
    return json(containerDetails(engine, engine.find(id!)));
  });
  router.on("GET", "/containers/:id/logs", (request, [id]) => {
    const container = engine.find(id!);
    return streamed(framedLog(container.log, logQuery(request), request.signal), MULTIPLEXED);
  });
  router.on("GET", "/containers/:id/stats", async (request, [id]) => {
    const container = engine.find(id!);
    if (!flag(request, "stream", true)) return json(await readStats(engine, container));
    async function* lines() {
      for await (const stats of streamStats(engine, container, request.signal)) {
        yield encoder.encode(JSON.stringify(stats) + "\n");
      }
    }
    return streamed(lines(), "application/json");
  });
  router.on("POST", "/containers/:id/start", async (_, [id]) => {
    const container = engine.find(id!);
    if (container.isRunning) return empty(304);
    await container.start();
    return empty();
  });
  router.on("POST", "/containers/:id/stop", async (request, [id]) => {
    const container = engine.find(id!);
    if (!container.isRunning && container.state.status !== "restarting") return empty(304);
    await container.stop(graceMs(request));
    return empty();
  });
  router.on("POST", "/containers/:id/restart", async (request, [id]) => {
    const container = engine.find(id!);
    // A Swarm starts another container for the task: the one that ended must not come back beside it.
    if ("com.docker.swarm.task.id" in container.config.labels) {
      await container.stop(graceMs(request));
    } else await container.restart(graceMs(request));
    return empty();
  });
  router.on("POST", "/containers/:id/kill", (request, [id]) => {
    engine.find(id!).kill(parseSignal(request.query.get("signal") || "SIGKILL"));
    return empty();
  });
  router.on("POST", "/containers/:id/pause", (_, [id]) => (engine.find(id!).pause(true), empty()));
  router.on(
    "POST",
    "/containers/:id/unpause",
    (_, [id]) => (engine.find(id!).pause(false), empty()),
  );
  router.on("POST", "/containers/:id/wait", async (_, [id]) => {
    const container = engine.find(id!);
    if (container.isRunning) await container.ended();
    return json({ StatusCode: container.state.exitCode });
  });
  router.on("DELETE", "/containers/:id", async (request, [id]) => {
    await engine.remove(engine.find(id!), flag(request, "force"));
    return empty();
  });
}

function addImageRoutes(router: Router, engine: Engine): void {
  router.on("GET", "/images/json", (request) => {
    const references = parseFilters(request.query.get("filters"))["reference"] ?? [];
    const found = engine.images.list().filter((image) =>
      references.length === 0 ||
      references.some((reference) => engine.images.find(reference) === image)
    );
    return json(found.map(imageSummary));
  });
  router.on("POST", "/images/create", (request) => {
    const from = request.query.get("fromImage") ?? "";
    if (!from) throw new DockerError(400, "no image given");
    const { repository, tag: named } = splitReference(from);
    const tag = request.query.get("tag") || named;
    const image = engine.images.find(repository);
    if (!image) throw pullDenied(repository);
    const lines = [
      { status: `Pulling from ${repository}`, id: tag },
      { status: `Digest: ${image.id}` },
      { status: `Status: Image is up to date for ${repository}:${tag}` },
    ];
    return new Response(lines.map((line) => JSON.stringify(line) + "\r\n").join(""), {
      headers: { "content-type": "application/json" },
    });
  });
  router.on("GET", "/images/(.+)/json", (_, [name]) => {
    const image = engine.images.find(name!);
    if (!image) throw noSuchImage(name!);
    return json({
      Id: image.id,
      RepoTags: image.tags,
      RepoDigests: [],
      Created: rfc3339(image.created * 1000),
      Size: image.size,
      Os: "linux",
      Architecture: Deno.build.arch === "aarch64" ? "arm64" : "amd64",
      Config: { ExposedPorts: { [`${image.port}/tcp`]: {} }, Env: null, Cmd: null },
    });
  });
}

function addNetworkRoutes(router: Router, engine: Engine): void {
  const find = (reference: string) => {
    const network = engine.networks().find(({ id, name }) =>
      id === reference || name === reference || id.startsWith(reference)
    );
    if (!network) throw new DockerError(404, `network ${reference} not found`);
    return network;
  };
  router.on("GET", "/networks", (request) => {
    const filters = parseFilters(request.query.get("filters"));
    return json(
      engine.networks().filter(({ name, id, labels, driver, scope }) =>
        matchesLabels(labels, filters["label"]) &&
        (filters["name"] ?? [name]).some((wanted) => name.includes(wanted)) &&
        (filters["id"] ?? [id]).some((wanted) => id.startsWith(wanted)) &&
        (filters["driver"] ?? [driver]).includes(driver) &&
        (filters["scope"] ?? [scope]).includes(scope)
      ).map(networkDetails),
    );
  });
  router.on("GET", "/networks/:id", (_, [id]) => {
    const network = find(id!);
    const members = engine.containers().filter(({ config, isRunning }) =>
      isRunning && config.networks.includes(network.name)
    );
    return json({
      ...networkDetails(network),
      Containers: Object.fromEntries(members.map(({ config }) => [config.id, {
        Name: config.name,
        EndpointID: "",
        MacAddress: "",
        IPv4Address: "",
        IPv6Address: "",
      }])),
    });
  });
}

/** Kept events from `since` on, then new ones until `until` or for as long as the client listens. */
function eventStream(engine: Engine, { query, signal }: ApiRequest): Response {
  const filters = parseFilters(query.get("filters"));
  const since = query.get("since") === null ? null : Number(query.get("since"));
  const until = query.get("until") === null ? null : Number(query.get("until"));
  const isWanted = (event: EngineEvent) => {
    const at = event.timeNano / 1e9;
    return (since === null || at >= since) && (until === null || at <= until) &&
      eventMatches(event, filters);
  };
  const line = (event: EngineEvent) => encoder.encode(JSON.stringify(event) + "\n");
  // Subscribed before the kept ones are read, so that none falls between.
  const queue: EngineEvent[] = since === null ? [] : engine.events.recent().filter(isWanted);
  let wake = () => {};
  const unsubscribe = engine.events.subscribe((event) => {
    // A client that does not read must not fill the memory.
    if (queue.length < 10_000 && isWanted(event)) queue.push(event);
    wake();
  });
  async function* run() {
    const end = () => wake();
    const left = until === null ? null : Math.max(0, until * 1000 - Date.now());
    let isOver = left === 0;
    const timer = left === null ? null : setTimeout(() => {
      isOver = true;
      wake();
    }, Math.min(left, 2 ** 31 - 1));
    signal.addEventListener("abort", end, { once: true });
    try {
      while (!signal.aborted) {
        while (queue.length > 0) yield line(queue.shift()!);
        if (isOver) return;
        await new Promise<void>((resume) => wake = resume);
      }
    } finally {
      unsubscribe();
      if (timer !== null) clearTimeout(timer);
      signal.removeEventListener("abort", end);
    }
  }
  return streamed(run(), "application/json");
}
