import { OrchestratorError } from "./errors.ts";

/** One entry of a Portainer stack's `Env`. */
export interface StackVariable {
  name: string;
  value: string;
}

/** Who a stack belongs to and what it was last brought to; kept beside the secrets, so that it outlives the containers. */
export interface StackMark {
  agentId: string;
  /** Of the set of replicas that is reached. */
  revision: number | null;
  /** The service that it is, when not the usual one. */
  service?: string | undefined;
  /** The set that is brought up beside it, under the name of its service. */
  candidate?: CandidateMark;
}

export interface CandidateMark {
  service: string;
  revision: number;
}

const AGENT = "AGENT_LAUNCHPAD_AGENT";
const REVISION = "AGENT_LAUNCHPAD_REVISION";
const SERVICE = "AGENT_LAUNCHPAD_SERVICE";
const CANDIDATE = "AGENT_LAUNCHPAD_CANDIDATE";

/**
 * An agent's variables are kept under a prefix. Portainer hands a stack's variables to the `docker` and
 * `docker-compose` programs themselves: unprefixed, an agent's `LD_PRELOAD`, `PATH` or `COMPOSE_FILE` would act on
 * those, and compose would prefer Portainer's own `HOME` to the agent's.
 */
const PREFIX = "AGENT_ENV_";
/** The same of the candidate, whose values must not reach the replicas that are there: they would be made anew. */
const CANDIDATE_PREFIX = "AGENT_NEXT_";

const VARIABLE_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** The name under which the stack file refers to an agent's variable. */
export function variableReference(name: string): string {
  return `\${${PREFIX}${name}}`;
}

/**
 * The stack's `Env`: the mark, then the agent's variables.
 * @throws OrchestratorError DEPLOYMENT_FAILED for names or values that no process environment can hold
 */
export function stackVariables(
  mark: StackMark,
  environment: Record<string, string>,
  encode: (value: string) => string,
): StackVariable[] {
  checkEnvironment(environment);
  return [
    ...markVariables(mark),
    ...Object.entries(environment)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, value]) => ({ name: PREFIX + name, value: encode(value) })),
  ];
}

function markVariables({ agentId, revision, service }: StackMark): StackVariable[] {
  return [
    { name: AGENT, value: agentId },
    { name: REVISION, value: String(revision ?? 0) },
    ...(service === undefined ? [] : [{ name: SERVICE, value: service }]),
  ];
}

/** Reads the mark back; null for a stack that is not ours. */
export function readMark(variables: StackVariable[]): StackMark | null {
  const agentId = variables.find(({ name }) => name === AGENT)?.value;
  if (!agentId) return null;
  const value = (of: string) => variables.find(({ name }) => name === of)?.value;
  const revision = Number(value(REVISION));
  const service = value(SERVICE);
  const candidate = /^([a-z-]+):(\d+)$/.exec(value(CANDIDATE) ?? "");
  return {
    agentId,
    revision: Number.isInteger(revision) ? revision : null,
    ...(service ? { service } : {}),
    ...(candidate ? { candidate: { service: candidate[1]!, revision: Number(candidate[2]) } } : {}),
  };
}

/** The same variables with another revision. */
export function withRevision(variables: StackVariable[], revision: number): StackVariable[] {
  return variables.map((variable) =>
    variable.name === REVISION ? { name: REVISION, value: String(revision) } : variable
  );
}

/** A stack's variables with those of a candidate, as `stackVariables` gave them, beside them. */
export function withCandidateVariables(
  variables: StackVariable[],
  candidate: CandidateMark,
  own: StackVariable[],
): StackVariable[] {
  return [
    ...withoutCandidateVariables(variables),
    { name: CANDIDATE, value: `${candidate.service}:${candidate.revision}` },
    ...renamed(own, PREFIX, CANDIDATE_PREFIX),
  ];
}

export function withoutCandidateVariables(variables: StackVariable[]): StackVariable[] {
  return variables.filter(({ name }) => name !== CANDIDATE && !name.startsWith(CANDIDATE_PREFIX));
}

/** The variables when the candidate has taken over as this service. */
export function promotedVariables(
  variables: StackVariable[],
  revision: number,
  service: string | undefined,
): StackVariable[] {
  const mark = readMark(variables);
  if (!mark) return variables;
  return [
    ...markVariables({ agentId: mark.agentId, revision, service }),
    ...renamed(variables, CANDIDATE_PREFIX, PREFIX),
  ];
}

function renamed(variables: StackVariable[], from: string, to: string): StackVariable[] {
  return variables.filter(({ name }) => name.startsWith(from))
    .map(({ name, value }) => ({ name: to + name.slice(from.length), value }));
}

/** A reference as the candidate's section of the file has it, and back; other text stays. */
export function toCandidateReference(text: string): string {
  return text.replace(new RegExp(`^\\$\\{${PREFIX}(\\w+)\\}$`), `\${${CANDIDATE_PREFIX}$1}`);
}

export function fromCandidateReference(text: string): string {
  return text.replace(new RegExp(`^\\$\\{${CANDIDATE_PREFIX}(\\w+)\\}$`), `\${${PREFIX}$1}`);
}

/** Whether the values for the containers are the same, whatever the marks beside them say. */
export function sameEnvironment(a: StackVariable[], b: StackVariable[]): boolean {
  const [first, second] = [a, b].map((all) =>
    all.filter(({ name }) => ![AGENT, REVISION, SERVICE, CANDIDATE].includes(name))
  );
  return sameVariables(first!, second!);
}

export function sameVariables(a: StackVariable[], b: StackVariable[]): boolean {
  const text = (variables: StackVariable[]) =>
    JSON.stringify(
      variables.map(({ name, value }) => [name, value]).sort(([x], [y]) => (x! < y! ? -1 : 1)),
    );
  return text(a) === text(b);
}

/** @throws OrchestratorError DEPLOYMENT_FAILED; the message names the variable, never its value */
export function checkEnvironment(environment: Record<string, string>): void {
  for (const [name, value] of Object.entries(environment)) {
    if (VARIABLE_NAME.test(name) && !value.includes("\0")) continue;
    throw new OrchestratorError(
      "DEPLOYMENT_FAILED",
      "An environment variable's name or value cannot be passed to a container.",
      { retryable: false, details: { reason: "invalid_environment", variable: name.slice(0, 64) } },
    );
  }
}

/** Swarm: Portainer passes values through the process environment, as they are. */
export function plainValue(value: string): string {
  return value;
}

/**
 * Compose: Portainer writes `NAME=VALUE` lines into an env file, unquoted. Anything but plain text is therefore
 * written as compose's double-quoted form, or a line break would begin another variable, ` #` a comment and `$` a
 * reference.
 */
export function envFileValue(value: string): string {
  if (/^[A-Za-z0-9_./:@%+,=-]*$/.test(value)) return value;
  const escaped = value
    .replaceAll("\\", "\\\\")
    .replaceAll('"', '\\"')
    .replaceAll("$", "$$$$")
    .replaceAll("\n", "\\n")
    .replaceAll("\r", "\\r");
  return `"${escaped}"`;
}
