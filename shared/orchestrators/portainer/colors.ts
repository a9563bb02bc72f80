import {
  onlyService,
  otherService,
  promoted,
  readReplicas,
  sameReplicas,
  SERVICE,
  withCandidate,
} from "../stack-file.ts";
import {
  type CandidateMark,
  promotedVariables,
  readMark,
  sameEnvironment,
  withCandidateVariables,
  withoutCandidateVariables,
} from "../stack-variables.ts";
import type { WorkloadSpec } from "../types.ts";
import type { Stack, StackContent } from "./api.ts";
import type { DockerEngine } from "./engine.ts";

// One stack holds two sets of replicas while the second, the candidate, comes up beside the first. Each is a service of
// its own, and the stack's variables say which of them is reached and which the candidate.
// Portainer replaces the file at the beginning of an update and the variables at its end: who is who is for the latter to
// say, while all is as they say.

/** The candidate of a stack. */
export function candidateOf(stack: Pick<Stack, "Env"> | null): CandidateMark | null {
  return (stack && readMark(stack.Env)?.candidate) ?? null;
}

/**
 * The content without a candidate, its section and its variables. By the variables, that is: where Portainer died in the
 * middle of an update, its file is one ahead of them.
 */
export function reachedOnly(
  spec: Pick<WorkloadSpec, "stack">,
  content: StackContent,
): StackContent {
  if (spec.stack !== undefined) return content;
  return {
    file: onlyService(content.file, serviceOf(content)),
    variables: withoutCandidateVariables(content.variables),
  };
}

/** The content with the candidate alone. */
export function promotedContent(content: StackContent, candidate: CandidateMark): StackContent {
  return {
    file: promoted(content.file, candidate.service),
    variables: promotedVariables(
      content.variables,
      candidate.revision,
      serviceMark(candidate.service),
    ),
  };
}

/** The service of the replicas that are reached. */
export function serviceOf({ variables }: Pick<StackContent, "variables">): string {
  return readMark(variables)?.service ?? SERVICE;
}

/** How the variables name a service; the usual one goes without saying. */
export function serviceMark(service: string | undefined): string | undefined {
  return service === SERVICE ? undefined : service;
}

/** Whether the replicas of the one would differ in nothing from those of the other. */
export function isSame(a: StackContent, b: StackContent): boolean {
  return sameReplicas(a.file, b.file) && sameEnvironment(a.variables, b.variables);
}

/** Whether there are as many of each as wanted; a service without replicas counts like none. */
export function sameCounts(
  found: Record<string, number>,
  wanted: Record<string, number>,
): boolean {
  return [...new Set([...Object.keys(found), ...Object.keys(wanted)])]
    .every((name) => (found[name] ?? 0) === (wanted[name] ?? 0));
}

/**
 * What runs and, beside it, `spec` as the candidate; null when what runs is to be changed itself.
 *
 * @param present what runs, without a candidate
 * @param direct what it would be changed to
 */
export function besideIt(
  engine: DockerEngine,
  spec: WorkloadSpec,
  present: StackContent,
  direct: StackContent,
): StackContent | null {
  const wanted = spec.strategy === "blue-green" || (spec.strategy === "rolling" && !engine.rolls);
  if (!wanted || spec.stack !== undefined) return null;
  // A set that was emptied has nobody to keep up.
  if (spec.replicas === 0 || !readReplicas(present.file)) return null;
  if (readMark(present.variables)?.revision === spec.revision || isSame(present, direct)) {
    return null;
  }
  const service = otherService(serviceOf(present));
  const candidate = engine.render(spec, service);
  const file = withCandidate(present.file, candidate.file);
  return file === null ? null : {
    file,
    variables: withCandidateVariables(
      present.variables,
      { service, revision: spec.revision },
      candidate.variables,
    ),
  };
}
