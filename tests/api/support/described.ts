import { errorsOf } from "../../../functions/api/openapi.ts";
import { type Edition, EDITIONS } from "../../../shared/contract/editions.ts";
import { type Endpoint, type EndpointName, ENDPOINTS } from "../../../shared/contract/endpoints.ts";
import { type Operation, OPERATIONS } from "../../../shared/contract/operations.ts";
import { createRouter } from "../../../shared/http/router.ts";
import type { Answer } from "./test-api.ts";

const lookup = createRouter(
  Object.entries(ENDPOINTS).map(([name, endpoint]) => ({
    name: name as EndpointName,
    ...endpoint,
  })),
);

/**
 * Holds an answer of `/api` to what `OPERATIONS` says of its endpoint: status, code of an error, and
 * the shape of an answer in the edition that was asked for.
 */
export function expectDescribed(
  { method, url, headers }: Request,
  { status, json }: Pick<Answer, "status" | "json">,
): void {
  const { found } = lookup(method, new URL(url).pathname);
  if (found === null) return;
  const { name } = found.route;
  const endpoint: Endpoint = ENDPOINTS[name];
  const operation: Operation = OPERATIONS[name];
  const header = Number(headers.get("api-version"));
  const asked = EDITIONS.find((edition) => edition === header);
  const fail = (what: string) => {
    throw new Error(`${method} ${endpoint.path} does not describe ${what}`);
  };
  if (status >= 400) {
    if (method === "HEAD") return;
    const code = json.error.code;
    const known = errorsOf(name, asked === undefined ? EDITIONS : [asked]).get(status);
    if (!known?.has(code)) fail(`${status} ${code}`);
  } else {
    if (status !== operation.status) fail(`status ${status}`);
    if (json === null || asked === undefined) return;
    const schema = operation.answers[asked as Edition];
    const issues = schema?.safeParse(json).error?.issues;
    if (issues !== undefined) fail(`the answer: ${JSON.stringify(issues)}`);
  }
}
