import { describe, expect, it } from "vitest";
import { parse } from "yaml";
import {
  composeFile,
  onlyService,
  otherService,
  promoted,
  readReplicas,
  readServiceReplicas,
  sameReplicas,
  SERVICE,
  swarmFile,
  withCandidate,
  withReplicas,
} from "../../shared/orchestrators/stack-file.ts";
import {
  envFileValue,
  plainValue,
  readMark,
  stackVariables,
} from "../../shared/orchestrators/stack-variables.ts";
import type { WorkloadSpec } from "../../shared/orchestrators/types.ts";

const hostile =
  'x"\n  privileged: true # ${PATH} $(id) \\ \u2028 \u0085 : - {a} [b] &c *d !e | > %';

const spec: WorkloadSpec = {
  agentId: "0b8e3d5c-0000-4000-8000-000000000001",
  name: "agent",
  image: "registry.example/agent:1",
  command: ["run", hostile],
  replicas: 3,
  environment: { TOKEN: "s3cret", "PATH": "/evil" },
  resources: { memory: "1Gi", cpu: "500m" },
  port: 3000,
  healthCheck: { path: "/he'alth$(id)", intervalSeconds: 30, timeoutSeconds: 10, retries: 3 },
  labels: {
    team: hostile,
    "agent-launchpad.agent": "somebody-else",
    "com.docker.compose.project": "x",
  },
  strategy: "rolling",
  maxUnavailable: 1,
  scaling: null,
  revision: 7,
};

type Service = Record<string, unknown> & {
  environment: Record<string, string>;
  labels: Record<string, string>;
  healthcheck: { test: string[] };
  deploy: Record<string, unknown>;
};

function service(file: string, name: string = SERVICE): Service {
  return (parse(file) as { services: Record<string, Service> }).services[name]!;
}

const files: [string, (of: WorkloadSpec, name?: string) => string][] = [
  ["compose", (of, name) => composeFile(of, {}, name)],
  ["swarm", (of, name) => swarmFile(of, {}, name)],
];

describe.each(files)("the %s file", (_, render) => {
  it("says again what it was told, with dollars doubled and nothing opened or ended", () => {
    const doubled = hostile.replaceAll("$", "$$$$");
    expect(service(render(spec))).toMatchObject({
      image: spec.image,
      command: ["run", doubled],
      labels: { team: doubled },
    });
    expect(service(render(spec))).not.toHaveProperty("privileged");
  });

  it("holds no value of the environment, only references", () => {
    expect(render(spec)).not.toContain("s3cret");
    expect(service(render(spec)).environment).toMatchObject({
      TOKEN: "${AGENT_ENV_TOKEN}",
      PORT: "3000",
    });
  });

  it("lets nobody set the labels that tell who owns what", () => {
    expect(service(render(spec)).labels).toMatchObject({ "agent-launchpad.agent": spec.agentId });
    expect(service(render(spec)).labels).not.toHaveProperty(["com.docker.compose.project"]);
  });

  it("gives the health check as it was asked for", () => {
    const healthCheck = { path: "/live", intervalSeconds: 12, timeoutSeconds: 0.5, retries: 4 };
    expect(service(render({ ...spec, healthCheck })).healthcheck).toMatchObject({
      interval: "12s",
      timeout: "0.5s",
      retries: 4,
    });
  });

  it("gives limits in Docker's units", () => {
    expect(service(render(spec)).deploy).toMatchObject({
      replicas: 3,
      resources: { limits: { cpus: "0.5", memory: "1073741824b" } },
    });
  });

  it("keeps a health path within its quotes", () => {
    const command = service(render(spec)).healthcheck.test[1]!.replaceAll("$$", "$");
    const quoted = "'http://127.0.0.1:3000/he%27alth$(id)'";
    expect(command.split(quoted)).toHaveLength(4);
    expect(command.replaceAll(quoted, "")).not.toContain("$(id)");
  });

  it("takes another replica count and stays the same otherwise", () => {
    const file = render(spec);
    const scaled = withReplicas(file, 12)!;
    expect(readReplicas(scaled)).toBe(12);
    expect(scaled).toBe(render({ ...spec, replicas: 12 }));
  });

  it("leaves alone a file that it did not write", () => {
    expect(withReplicas("services:\n  a:\n    image: x\n", 2)).toBeNull();
  });
});

describe.each(files)("a candidate in the %s file", (_, render) => {
  const name = otherService(SERVICE);
  const next = {
    ...spec,
    environment: { TOKEN: "another" },
    labels: { text: "${AGENT_ENV_TOKEN}" },
    revision: 8,
  };
  const both = withCandidate(render(spec), render(next, name))!;

  it("stands beside what is reached, which stays as it is, with variables of its own", () => {
    expect(service(both)).toEqual(service(render(spec)));
    expect(service(both, name).environment).toMatchObject({ TOKEN: "${AGENT_NEXT_TOKEN}" });
    expect(service(both, name).labels).toMatchObject({ text: "$${AGENT_ENV_TOKEN}" });
    expect(readServiceReplicas(both)).toEqual({ [SERVICE]: 3, [name]: 3 });
  });

  it("leaves no trace when it goes, and none of the other when it takes over", () => {
    expect(onlyService(both, SERVICE)).toBe(render(spec));
    expect(promoted(both, name)).toBe(render(next, name));
  });

  it("is of the same replicas when only their number, their revision and the way to roll them differ", () => {
    expect(sameReplicas(render(spec), render({ ...spec, replicas: 1, revision: 9 }))).toBe(true);
    expect(sameReplicas(render(spec), render({ ...spec, strategy: "recreate" }))).toBe(true);
    expect(sameReplicas(render(spec), render({ ...spec, image: "other" }))).toBe(false);
  });
});

describe("the compose file", () => {
  it("does not change with the revision alone, for compose would recreate every container", () => {
    expect(composeFile({ ...spec, revision: 8 }, {})).toBe(composeFile(spec, {}));
  });
});

describe("the swarm file", () => {
  it("starts before it stops when a batch covers every replica", () => {
    const order = (of: WorkloadSpec) =>
      (service(swarmFile(of, {})).deploy["update_config"] as { order: string }).order;
    expect(order({ ...spec, replicas: 1 })).toBe("start-first");
    expect(order(spec)).toBe("stop-first");
  });
});

describe("a stack's variables", () => {
  const mark = { agentId: spec.agentId, revision: 7 };

  it("say whose the stack is and which revision", () => {
    expect(readMark(stackVariables(mark, spec.environment, plainValue))).toEqual(mark);
    expect(readMark([{ name: "OTHER", value: "x" }])).toBeNull();
  });

  it("keep an agent's names away from those that docker itself obeys", () => {
    const names = stackVariables(
      mark,
      { PATH: "/", LD_PRELOAD: "x", AGENT_LAUNCHPAD_AGENT: "y" },
      plainValue,
    )
      .map(({ name }) => name);
    expect(names).toEqual([
      "AGENT_LAUNCHPAD_AGENT",
      "AGENT_LAUNCHPAD_REVISION",
      "AGENT_ENV_AGENT_LAUNCHPAD_AGENT",
      "AGENT_ENV_LD_PRELOAD",
      "AGENT_ENV_PATH",
    ]);
  });

  it.each(["1A", "A-B", "A=B", "A\nB", ""])(
    "refuse the name %j without showing the value",
    (name) => {
      let thrown: unknown;
      try {
        stackVariables(mark, { [name]: "s3cret" }, plainValue);
      } catch (error) {
        thrown = error;
      }
      expect(thrown).toMatchObject({
        code: "DEPLOYMENT_FAILED",
        details: { reason: "invalid_environment" },
      });
      expect(JSON.stringify(thrown)).not.toContain("s3cret");
    },
  );

  it.each([
    ["plain-value_1.2/3:4", "plain-value_1.2/3:4"],
    ["two words", '"two words"'],
    ["a\nB=1", '"a\\nB=1"'],
    ["$HOME", '"$$HOME"'],
    ['say "hi" \\', '"say \\"hi\\" \\\\"'],
    ["# no comment", '"# no comment"'],
  ])("are written for an env file: %j", (value, line) => expect(envFileValue(value)).toBe(line));
});
