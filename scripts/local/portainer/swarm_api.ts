import { addConfigRoutes } from "./config_api.ts";
import { DockerError } from "./errors.ts";
import { matchesLabels, parseFilters } from "./filters.ts";
import { empty, json, jsonBody, type Router, streamed } from "./http.ts";
import { framedLogs, logQuery } from "./log_api.ts";
import type { Swarm } from "./swarm.ts";
import { isTerminal, isWanted, readServiceSpec, replicasOf, type Service } from "./swarm_types.ts";
import { versionInfo } from "./system_info.ts";

const NOT_A_MANAGER =
  'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to ' +
  "connect this node to swarm and try again.";

/** Adds the calls about a Swarm; on an engine that is in none they answer 503, as Docker's do. */
export function addSwarmRoutes(router: Router, swarm: Swarm | null): void {
  if (!swarm) {
    for (const path of ["/swarm", "/nodes", "/services", "/tasks", "/configs"]) {
      for (const method of ["GET", "POST", "DELETE"]) {
        router.on(method, `${path}(?:/.*)?`, () => {
          throw new DockerError(503, NOT_A_MANAGER);
        });
      }
    }
    return;
  }
  router.on("GET", "/swarm", () => {
    const { id, created, index } = swarm.record;
    return json({
      ID: id,
      Version: { Index: index },
      CreatedAt: created,
      UpdatedAt: created,
      Spec: { Name: "default", Labels: {}, Orchestration: { TaskHistoryRetentionLimit: 5 } },
      JoinTokens: {},
    });
  });
  router.on("GET", "/nodes", () => json([nodeOf(swarm)]));
  router.on("GET", "/nodes/:id", (_, [id]) => {
    if (!swarm.record.nodeId.startsWith(id!)) throw new DockerError(404, `node ${id} not found`);
    return json(nodeOf(swarm));
  });
  addServiceRoutes(router, swarm);
  addTaskRoutes(router, swarm);
  addConfigRoutes(router, swarm.configs);
}

function nodeOf(swarm: Swarm) {
  const { nodeId, created } = swarm.record;
  const version = versionInfo();
  return {
    ID: nodeId,
    Version: { Index: 9 },
    CreatedAt: created,
    UpdatedAt: created,
    Spec: { Labels: {}, Role: "manager", Availability: "active" },
    Description: {
      Hostname: Deno.hostname(),
      Platform: { Architecture: version.Arch, OS: version.Os },
      Resources: {
        NanoCPUs: navigator.hardwareConcurrency * 1e9,
        MemoryBytes: Deno.systemMemoryInfo().total,
      },
      Engine: { EngineVersion: version.Version },
    },
    Status: { State: "ready", Addr: "127.0.0.1" },
    ManagerStatus: { Leader: true, Reachability: "reachable", Addr: "127.0.0.1:2377" },
  };
}

function addServiceRoutes(router: Router, swarm: Swarm): void {
  const withStatus = (service: Service) => ({
    ...service,
    ServiceStatus: {
      RunningTasks: swarm.tasks(service).filter(({ Status }) => Status.State === "running").length,
      DesiredTasks: replicasOf(service.Spec),
      CompletedTasks: 0,
    },
  });
  router.on("GET", "/services", ({ query }) => {
    const filters = parseFilters(query.get("filters"));
    const found = swarm.services().filter(({ ID, Spec }) =>
      matchesLabels(Spec.Labels, filters["label"]) &&
      (filters["name"] ?? [""]).some((name) => Spec.Name.startsWith(name)) &&
      (filters["id"] ?? [""]).some((id) => ID.startsWith(id))
    );
    const counted = ["1", "true"].includes(query.get("status") ?? "");
    return json(counted ? found.map(withStatus) : found);
  });
  router.on("POST", "/services/create", (request) => {
    const service = swarm.create(readServiceSpec(jsonBody(request)));
    return json({ ID: service.ID }, 201);
  });
  router.on("GET", "/services/:id", (_, [id]) => json(swarm.service(id!)));
  router.on("POST", "/services/:id/update", (request, [id]) => {
    const service = swarm.service(id!);
    const version = request.query.get("version") ?? "";
    if (!/^\d+$/.test(version)) {
      throw new DockerError(
        400,
        `invalid service version '${version}': strconv.ParseUint: parsing "${version}": invalid syntax`,
      );
    }
    const rollback = request.query.get("rollback") ?? "";
    if (rollback && rollback !== "previous") {
      throw new DockerError(400, `unrecognized rollback option ${rollback}`);
    }
    swarm.update(
      service,
      Number(version),
      readServiceSpec(jsonBody(request)),
      rollback === "previous",
    );
    return json({ Warnings: null });
  });
  router.on("DELETE", "/services/:id", (_, [id]) => {
    swarm.remove(swarm.service(id!));
    return empty(200);
  });
  router.on("GET", "/services/:id/logs", (request, [id]) => {
    const logs = swarm.tasks(swarm.service(id!)).flatMap(({ Status }) => {
      try {
        return [swarm.engine.find(Status.ContainerStatus?.ContainerID ?? "-").log];
      } catch {
        return [];
      }
    });
    return streamed(
      framedLogs(logs, logQuery(request), request.signal),
      "application/vnd.docker.multiplexed-stream",
    );
  });
}

function addTaskRoutes(router: Router, swarm: Swarm): void {
  router.on("GET", "/tasks", ({ query }) => {
    const filters = parseFilters(query.get("filters"));
    const serviceOf = (id: string) => swarm.services().find(({ ID }) => ID === id);
    const any = (name: string, test: (value: string) => boolean) =>
      !filters[name]?.length || filters[name].some(test);
    return json(
      swarm.tasks().filter((task) => {
        const service = serviceOf(task.ServiceID);
        const desired = isWanted(task) && !isTerminal(task) ? "running" : "shutdown";
        return any("id", (id) => task.ID.startsWith(id)) &&
          any("service", (ref) => task.ServiceID === ref || service?.Spec.Name === ref) &&
          any("desired-state", (state) => desired === state || task.DesiredState === state) &&
          any("node", (node) => task.NodeID === node) &&
          matchesLabels(task.Spec.ContainerSpec.Labels ?? {}, filters["label"]);
      }),
    );
  });
  router.on("GET", "/tasks/:id", (_, [id]) => {
    const task = swarm.tasks().find(({ ID }) => ID.startsWith(id!));
    if (!task) throw new DockerError(404, `task ${id} not found`);
    return json(task);
  });
}
