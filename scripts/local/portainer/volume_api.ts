import type { Engine, Volume } from "./engine.ts";
import { DockerError } from "./errors.ts";
import { allowFilters, type Filters, matchesLabels, parseFilters } from "./filters.ts";
import { empty, engineBody, json, type Router, stringMap, text } from "./http.ts";
import { hexId } from "./ids.ts";

/** Docker marks with it the volumes that it had to name itself. */
const ANONYMOUS = "com.docker.volume.anonymous";
const DRIVER = "local";

/** Adds the calls about volumes; `onManager` because a Swarm's manager looks among its cluster volumes as well. */
export function addVolumeRoutes(router: Router, engine: Engine, onManager: boolean): void {
  const find = (name: string): Volume => {
    const volume = engine.volumes().find((candidate) => candidate.name === name);
    if (volume) return volume;
    throw new DockerError(
      404,
      onManager ? `volume ${name} not found` : `get ${name}: no such volume`,
    );
  };
  router.on("GET", "/volumes", ({ query }) => {
    const filters = parseFilters(query.get("filters"));
    allowFilters(filters, ["dangling", "driver", "label", "name"]);
    const dangling = danglingFilter(filters);
    const found = engine.volumes().filter(({ name, driver, labels }) =>
      matchesLabels(labels, filters["label"]) &&
      (filters["name"] ?? [name]).some((wanted) => name.includes(wanted)) &&
      (filters["driver"] ?? [driver]).includes(driver) &&
      (dangling === null || dangling === (engine.volumeUsers(name).length === 0))
    );
    return json({ Volumes: found.map(volumeView), Warnings: null });
  });
  router.on("POST", "/volumes/create", (request) => {
    const body = engineBody(request);
    const name = text(body, "Name");
    const driver = text(body, "Driver") || DRIVER;
    const labels = stringMap(body, "Labels");
    const options = stringMap(body, "DriverOpts");
    if (driver !== DRIVER) {
      throw new DockerError(
        404,
        `create ${name}: error looking up volume plugin ${driver}: plugin "${driver}" not found`,
      );
    }
    if (!name) {
      const anonymous = engine.addVolume(hexId(), { ...labels, [ANONYMOUS]: "" }, options);
      return json(volumeView(anonymous), 201);
    }
    refuseName(name);
    return json(volumeView(engine.addVolume(name, labels, options)), 201);
  });
  router.on("GET", "/volumes/:name", (_, [name]) => json(volumeView(find(name!))));
  router.on("DELETE", "/volumes/:name", ({ query }, [name]) => {
    const force = ["1", "true", "True"].includes(query.get("force") ?? "");
    if (force && !engine.volumes().some((volume) => volume.name === name)) return empty();
    engine.removeVolume(find(name!));
    return empty();
  });
}

function volumeView({ name, driver, created, labels, options }: Volume) {
  return {
    // Whole seconds, unlike the times of everything else.
    CreatedAt: `${new Date(created).toISOString().slice(0, 19)}Z`,
    Driver: driver,
    Labels: labels,
    Mountpoint: "",
    Name: name,
    Options: options ?? null,
    Scope: "local",
  };
}

/** @throws DockerError 400 */
function refuseName(name: string): void {
  if (name.length === 1) {
    throw new DockerError(
      400,
      `create ${name}: volume name is too short, names should be at least two alphanumeric characters`,
    );
  }
  if (/^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/.test(name)) return;
  throw new DockerError(
    400,
    `create ${name}: "${name}" includes invalid characters for a local volume name, only ` +
      '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, ' +
      "use absolute path",
  );
}

function danglingFilter(filters: Filters): boolean | null {
  const wanted = filters["dangling"];
  if (!wanted) return null;
  if (wanted.length === 1 && ["1", "true"].includes(wanted[0]!)) return true;
  if (wanted.length === 1 && ["0", "false"].includes(wanted[0]!)) return false;
  throw new DockerError(400, `invalid filter 'dangling=[${wanted.join(" ")}]'`);
}
