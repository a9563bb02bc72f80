import { expect, it } from "vitest";
import {
  candidateOf,
  promotedContent,
  reachedOnly,
  serviceMark,
  serviceOf,
} from "../../shared/orchestrators/portainer/colors.ts";
import {
  composeFile,
  otherService,
  SERVICE,
  withCandidate,
} from "../../shared/orchestrators/stack-file.ts";
import {
  plainValue,
  stackVariables,
  withCandidateVariables,
} from "../../shared/orchestrators/stack-variables.ts";
import type { WorkloadSpec } from "../../shared/orchestrators/types.ts";

const spec: WorkloadSpec = {
  agentId: "0b8e3d5c-0000-4000-8000-000000000001",
  name: "agent",
  image: "agent:1",
  replicas: 2,
  environment: { TOKEN: "first" },
  resources: {},
  port: 3000,
  healthCheck: null,
  labels: {},
  strategy: "blue-green",
  maxUnavailable: 1,
  scaling: null,
  revision: 1,
};
const next = { ...spec, environment: { TOKEN: "second" }, revision: 2 };

function render(of: WorkloadSpec, service: string) {
  return {
    file: composeFile(of, {}, service),
    variables: stackVariables(
      { ...of, service: serviceMark(service) },
      of.environment,
      plainValue,
    ),
  };
}

const green = otherService(SERVICE);
const reached = render(spec, SERVICE);
const both = {
  file: withCandidate(reached.file, render(next, green).file)!,
  variables: withCandidateVariables(
    reached.variables,
    { service: green, revision: 2 },
    render(next, green).variables,
  ),
};

it("is what was reached when the candidate is left out", () => {
  expect(reachedOnly(spec, both)).toEqual(reached);
});

it("is what was reached also where Portainer died between the file and the variables", () => {
  expect(reachedOnly(spec, { file: both.file, variables: reached.variables })).toEqual(reached);
});

it("is the candidate as if nothing else had ever been when that takes over", () => {
  const candidate = candidateOf({ Env: both.variables })!;
  expect(candidate).toEqual({ service: green, revision: 2 });
  expect(promotedContent(both, candidate)).toEqual(render(next, green));
  expect(serviceOf(promotedContent(both, candidate))).toBe(green);
});

it("goes back to the usual name with the next one, and says nothing of it", () => {
  const third = { ...next, environment: { TOKEN: "third" }, revision: 3 };
  const now = render(next, green);
  const again = {
    file: withCandidate(now.file, render(third, SERVICE).file)!,
    variables: withCandidateVariables(
      now.variables,
      { service: SERVICE, revision: 3 },
      render(third, SERVICE).variables,
    ),
  };
  const candidate = candidateOf({ Env: again.variables })!;
  expect(promotedContent(again, candidate)).toEqual(render(third, SERVICE));
});

it("leaves a stack of several services as it is", () => {
  const stack = { services: [], networks: [], volumes: [] };
  expect(reachedOnly({ ...spec, stack }, both)).toBe(both);
});
