import { allowFilters, matchesLabels, parseFilters } from "./filters.ts";
import { empty, engineBody, json, type Router, stringMap, text } from "./http.ts";
import type { Configs } from "./swarm_configs.ts";

/** Adds the calls about a Swarm's configs. */
export function addConfigRoutes(router: Router, configs: Configs): void {
  router.on("GET", "/configs", ({ query }) => {
    const filters = parseFilters(query.get("filters"));
    allowFilters(filters, ["id", "label", "name", "names"]);
    const { id = [], name = [], names = [] } = filters;
    const isAnyone = id.length + name.length + names.length === 0;
    // Swarm joins names and ids by "or", and only the labels by "and".
    return json(
      configs.all().filter(({ ID, Spec }) => {
        const lower = Spec.Name.toLowerCase();
        return matchesLabels(Spec.Labels, filters["label"]) &&
          (isAnyone || id.some((start) => ID.startsWith(start)) ||
            name.some((start) => lower.startsWith(start.toLowerCase())) ||
            names.some((wanted) => lower === wanted.toLowerCase()));
      }),
    );
  });
  router.on("POST", "/configs/create", (request) => {
    const body = engineBody(request);
    const config = configs.create({
      Name: text(body, "Name"),
      Labels: stringMap(body, "Labels") ?? {},
      Data: text(body, "Data"),
    });
    return json({ ID: config.ID }, 201);
  });
  router.on("GET", "/configs/:id", (_, [id]) => json(configs.find(id!)));
  router.on("DELETE", "/configs/:id", (_, [id]) => {
    configs.remove(configs.find(id!));
    return empty();
  });
}
