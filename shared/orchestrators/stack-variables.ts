import { OrchestratorError } from "./errors.ts";

/** One entry of a Portainer stack's `Env`. */
export interface StackVariable {
  name: string;
  value: string;
}

/** Who a stack belongs to and what it was last brought to; kept beside the secrets, so that it outlives the containers. */
export interface StackMark {
  agentId: string;
  revision: number | null;
}

const AGENT = "AGENT_LAUNCHPAD_AGENT";
const REVISION = "AGENT_LAUNCHPAD_REVISION";

/**
 * An agent's variables are kept under a prefix. Portainer hands a stack's variables to the `docker` and
 * `docker-compose` programs themselves: unprefixed, an agent's `LD_PRELOAD`, `PATH` or `COMPOSE_FILE` would act on
 * those, and compose would prefer Portainer's own `HOME` to the agent's.
 */
const PREFIX = "AGENT_ENV_";

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
    { name: AGENT, value: mark.agentId },
    { name: REVISION, value: String(mark.revision ?? 0) },
    ...Object.entries(environment)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, value]) => ({ name: PREFIX + name, value: encode(value) })),
  ];
}

/** Reads the mark back; null for a stack that is not ours. */
export function readMark(variables: StackVariable[]): StackMark | null {
  const agentId = variables.find(({ name }) => name === AGENT)?.value;
  if (!agentId) return null;
  const revision = Number(variables.find(({ name }) => name === REVISION)?.value);
  return { agentId, revision: Number.isInteger(revision) ? revision : null };
}

/** The same variables with another revision. */
export function withRevision(variables: StackVariable[], revision: number): StackVariable[] {
  return variables.map((variable) =>
    variable.name === REVISION ? { name: REVISION, value: String(revision) } : variable
  );
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
