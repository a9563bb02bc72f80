import { timingSafeEqual } from "node:crypto";
import { join } from "node:path";
import { dockerApi } from "./docker_api.ts";
import type { Endpoint } from "./endpoints.ts";
import { Engine } from "./engine.ts";
import { PortainerError } from "./errors.ts";
import { Faults } from "./faults.ts";
import { type ApiRequest, listen } from "./http.ts";
import { Images } from "./images.ts";
import { portainerApi } from "./portainer_api.ts";
import { firstPublishedPort, HOST } from "./ports.ts";
import { Stacks } from "./stacks.ts";
import { Store } from "./store.ts";
import { Swarm } from "./swarm.ts";

export interface PortainerOptions {
  port: number;
  apiKey: string;
  stateDirectory: string;
  /** Whether `/__faults` is served. */
  withFaults: boolean;
  log: (line: string) => void;
}

const LOG_LIMITS = { segmentBytes: 10 * 1024 * 1024, segments: 3 };
/** Swarm publishes from 30000, Docker from 32768: the same ranges here, begun at some place within. */
const SWARM_PORTS = { from: 30000, count: 2500 };
const DOCKER_PORTS = { from: 32768, count: 10_000 };

/**
 * Starts the local Portainer: two environments, 1 with a Swarm and 2 without, whose containers are processes.
 * @throws Error when the port is taken or the state cannot be read
 */
export async function startPortainer(
  options: PortainerOptions,
): Promise<{ port: number; close(): Promise<void> }> {
  const { log, stateDirectory } = options;
  const store = await Store.open(stateDirectory, log);
  const images = await Images.load();
  const { state } = store;
  const persistence = { changed: () => store.changed(), save: () => store.save() };
  const engineAt = (name: "swarm" | "standalone") =>
    new Engine(state.engines[name], {
      images,
      stateDirectory: join(stateDirectory, name),
      logLimits: LOG_LIMITS,
      firstPublishedPort: firstPublishedPort(DOCKER_PORTS, stateDirectory),
      scope: name === "swarm" ? "swarm" : "local",
      ...persistence,
    });
  const [swarmEngine, standaloneEngine] = [engineAt("swarm"), engineAt("standalone")];
  const swarm = new Swarm(
    state.swarm,
    swarmEngine,
    firstPublishedPort(SWARM_PORTS, stateDirectory),
    persistence,
  );
  store.gather(() => ({
    ...state,
    engines: { swarm: swarmEngine.record(), standalone: standaloneEngine.record() },
  }));
  const endpoints: Endpoint[] = [
    {
      id: 1,
      name: "local-swarm",
      engine: swarmEngine,
      swarm,
      docker: dockerApi(swarmEngine, swarm),
    },
    {
      id: 2,
      name: "local-standalone",
      engine: standaloneEngine,
      swarm: null,
      docker: dockerApi(standaloneEngine, null),
    },
  ];
  const stacks = new Stacks(store, endpoints);
  const api = portainerApi({ store, endpoints, stacks });
  const faults = options.withFaults ? new Faults() : null;
  const isAllowed = keyCheck(options.apiKey);

  // Bound first: a second Portainer on the same port must not touch the processes of the first.
  const { server, port } = await listen({
    hostname: HOST,
    port: options.port,
    log,
    handle: async (request, drop) => {
      if (faults && request.path.startsWith("/__faults")) {
        isAllowed(request);
        return faults.manage(request);
      }
      const answer = async () => {
        await resumed;
        if (!api.isPublic(request)) isAllowed(request);
        return await api.answer(request);
      };
      return faults ? await faults.apply(request, drop, answer) : await answer();
    },
  });
  const resumed = Promise.all([swarmEngine.resume(), standaloneEngine.resume()])
    .then(() => swarm.resume());
  await resumed;
  store.save();

  return {
    port,
    async close() {
      swarm.leave();
      server.close();
      server.closeAllConnections();
      // The state says what runs, and that is what is to run again.
      await Promise.all([swarmEngine.leave(3000), standaloneEngine.leave(3000)]);
      store.save();
    },
  };
}

/** Compares in constant time, so that the time taken tells nothing but the length of the key. */
function keyCheck(apiKey: string): (request: ApiRequest) => void {
  const encoder = new TextEncoder();
  const expected = encoder.encode(apiKey);
  return (request) => {
    const given = request.header("x-api-key");
    if (given !== null && request.header("authorization") !== null) {
      throw new PortainerError(401, "Invalid JWT token", "Unauthorized");
    }
    if (given === null) {
      throw new PortainerError(
        401,
        "A valid authorization token is missing",
        "Unauthorized",
      );
    }
    const bytes = encoder.encode(given);
    if (bytes.length !== expected.length || !timingSafeEqual(bytes, expected)) {
      throw new PortainerError(401, "Invalid API key", "Unauthorized");
    }
  };
}
