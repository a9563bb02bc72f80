import { OrchestratorError } from "../errors.ts";
import { nameTaken, workloadMissing } from "../failures.ts";
import { readServiceReplicas, withReplicas } from "../stack-file.ts";
import { readMark, sameVariables, withRevision } from "../stack-variables.ts";
import type { WorkloadRef, WorkloadSpec } from "../types.ts";
import { type Stack, STACK_DEPLOYING, STACK_INACTIVE, type StackContent } from "./api.ts";
import {
  besideIt,
  candidateOf,
  isSame,
  promotedContent,
  reachedOnly,
  serviceOf,
} from "./colors.ts";
import type { DockerEngine, EngineContext, OwnedStack } from "./engine.ts";

/** Portainer records a stack only when its containers stand. So long may it take after the last one was made. */
const RECORD_GRACE_MS = 60_000;
/** So long may a create take until something of it is to be seen: its image is there already. */
const CLAIM_GRACE_MS = 30_000;
/** How long a create whose answer was lost is looked for, at once. */
const SETTLE_MS = 5_000;
/** Longer than it takes to look at a dead claim and then to remove it. */
const TAKEOVER_MS = 1_000;
const POLL_MS = 500;
/** How long a Swarm may take to end a stack's tasks; Docker kills them after ten seconds. */
const BUSY_MS = 20_000;

/**
 * The agent's stack, or null.
 * @throws OrchestratorError DEPLOYMENT_FAILED `name_taken` when the name is somebody else's
 */
export async function ownStack(
  context: EngineContext,
  name: string,
  agentId: string,
  signal: AbortSignal,
): Promise<{ stack: Stack; duplicates: Stack[] } | null> {
  const [stack, ...duplicates] = await context.api.stacksByName(name, signal);
  if (!stack) return null;
  for (const one of [stack, ...duplicates]) {
    if (readMark(one.Env)?.agentId !== agentId) throw nameTaken(name);
  }
  return { stack, duplicates };
}

/** The agent's stack, or null also when the name is somebody else's: then this agent has none. */
export async function stackIfOwn(
  context: EngineContext,
  name: string,
  agentId: string,
  signal: AbortSignal,
): Promise<{ stack: Stack; duplicates: Stack[] } | null> {
  try {
    return await ownStack(context, name, agentId, signal);
  } catch (error) {
    if (hasReason(error, "name_taken")) return null;
    throw error;
  }
}

/** Creates the stack, or adopts the agent's own and brings it to `spec`. */
export async function deployStack(
  context: EngineContext,
  engine: DockerEngine,
  spec: WorkloadSpec,
  signal: AbortSignal,
): Promise<Stack> {
  const stack = await createOrAdopt(context, engine, spec, signal);
  // Its record says from now on what the claim said; also that of a maker who did not live to take it away.
  await engine.unclaim(spec.name, null, signal);
  return stack;
}

async function createOrAdopt(
  context: EngineContext,
  engine: DockerEngine,
  spec: WorkloadSpec,
  signal: AbortSignal,
): Promise<Stack> {
  const content = engine.render(spec);
  let found = await ownStack(context, spec.name, spec.agentId, signal);
  if (!found && (await awaitRemains(context, engine, spec, signal))) {
    found = await ownStack(context, spec.name, spec.agentId, signal);
  }
  if (!found) {
    await engine.prepare(spec, signal);
    found = await claim(context, engine, spec, signal) ??
      // It may have been made between the first look and the claim.
      await ownStack(context, spec.name, spec.agentId, signal);
  }
  if (!found) return await createStack(context, engine, spec, content, signal);
  await adopt(context, engine, spec, found, signal);
  return found.stack;
}

/**
 * Claims the name on the engine. Gives the stack when somebody else's claim turned into one, null when it is ours.
 * @throws OrchestratorError UPSTREAM_UNAVAILABLE `in_progress` while the other may still be at it
 */
async function claim(
  context: EngineContext,
  engine: DockerEngine,
  spec: WorkloadSpec,
  signal: AbortSignal,
): Promise<{ stack: Stack; duplicates: Stack[] } | null> {
  const id = crypto.randomUUID();
  for (let attempt = 1;; attempt++) {
    const mine = { id, agentId: spec.agentId, at: context.now() };
    let holder = await engine.claim(spec.name, mine, signal);
    if (holder === null && attempt > 1) {
      // Another who found the same dead claim may have taken ours away for it: a volume has no id to tell them apart by.
      await context.sleep(TAKEOVER_MS, signal);
      holder = await engine.claim(spec.name, mine, signal);
    }
    if (holder === null) return null;
    if (await awaitRecord(context, spec, SETTLE_MS, signal)) {
      return await ownStack(context, spec.name, spec.agentId, signal);
    }
    const left = holder.since + CLAIM_GRACE_MS - context.now();
    if (left > 0 || attempt > 1) throw inProgress(Math.max(1, Math.ceil(left / 1000)));
    // Whoever set it is gone; another may have taken it over meanwhile.
    await engine.unclaim(spec.name, holder.id, signal);
  }
}

function inProgress(retryAfterSeconds: number): OrchestratorError {
  return new OrchestratorError("UPSTREAM_UNAVAILABLE", "The stack is being created already.", {
    retryAfterSeconds,
    details: { reason: "in_progress" },
  });
}

/** Brings a running stack to `spec`; a stopped one is left for `start`. */
export async function updateStack(
  context: EngineContext,
  engine: DockerEngine,
  spec: WorkloadSpec,
  signal: AbortSignal,
): Promise<void> {
  const found = await ownStack(context, spec.name, spec.agentId, signal);
  if (!found) throw workloadMissing(spec.name);
  if (found.stack.Status === STACK_INACTIVE) return;
  await adopt(context, engine, spec, found, signal);
}

/** Lets the candidate of this revision take over. */
export async function promoteStack(
  context: EngineContext,
  engine: DockerEngine,
  spec: WorkloadSpec,
  signal: AbortSignal,
): Promise<void> {
  const found = await ownStack(context, spec.name, spec.agentId, signal);
  if (!found) throw workloadMissing(spec.name);
  const candidate = candidateOf(found.stack);
  if (candidate?.revision !== spec.revision) {
    // Perhaps because whoever promoted it before was killed before all was cleared away.
    if (candidate === null && readMark(found.stack.Env)?.revision === spec.revision) {
      const { file } = await contentOf(context, found.stack, signal);
      await engine.prune(spec, Object.keys(readServiceReplicas(file)), signal);
    }
    return;
  }
  const present = await contentOf(context, found.stack, signal);
  await send(context, engine, spec, found.stack, promotedContent(present, candidate), signal);
}

/** Takes the candidate away, and what whoever did so before was killed too early to clear away. */
export async function abandonCandidate(
  context: EngineContext,
  engine: DockerEngine,
  ref: WorkloadRef,
  signal: AbortSignal,
): Promise<void> {
  const found = await stackIfOwn(context, ref.name, ref.agentId, signal);
  // To send a stopped one would start it, and starting it leaves a candidate behind.
  if (!found || found.stack.Status === STACK_INACTIVE) return;
  refuseWhileDeploying(found.stack);
  const present = await contentOf(context, found.stack, signal);
  const reached = reachedOnly({}, present);
  if (present.file === reached.file && sameVariables(present.variables, reached.variables)) {
    await engine.prune(ref, Object.keys(readServiceReplicas(present.file)), signal);
  } else await send(context, engine, ref, found.stack, reached, signal);
}

/** Changes the replica count and leaves the rest of the stack file as it is, so that nothing is restarted. */
export async function scaleStack(
  context: EngineContext,
  engine: DockerEngine,
  spec: WorkloadSpec,
  signal: AbortSignal,
): Promise<void> {
  const found = await ownStack(context, spec.name, spec.agentId, signal);
  if (!found) throw workloadMissing(spec.name);
  if (found.stack.Status === STACK_INACTIVE) return;
  const before = await contentOf(context, found.stack, signal);
  // A candidate that nobody waits for any more is of a revision that this scaling leaves behind.
  const present = reachedOnly(spec, before);
  const file = withReplicas(present.file, spec.replicas);
  const content = file === null
    ? engine.render(spec, serviceOf(present))
    : { file, variables: withRevision(present.variables, spec.revision) };
  if (await isThere(engine, spec, before, content, signal)) return;
  await send(context, engine, spec, found.stack, content, signal);
}

export async function stopStack(
  context: EngineContext,
  name: string,
  agentId: string,
  signal: AbortSignal,
): Promise<void> {
  const found = await ownStack(context, name, agentId, signal);
  if (!found) throw workloadMissing(name);
  if (found.stack.Status === STACK_INACTIVE) return;
  try {
    await patiently(context, signal, () => context.api.stopStack(found.stack.Id, signal));
  } catch (error) {
    // Older versions answer 400, newer 409, when somebody stopped it meanwhile. What counts is the state.
    if (!hasReason(error, "already") && !hasReason(error, "conflict")) throw error;
    const now = await ownStack(context, name, agentId, signal);
    if (now && now.stack.Status !== STACK_INACTIVE) throw error;
  }
}

export async function removeStack(
  context: EngineContext,
  engine: DockerEngine,
  { name, agentId, composed }: WorkloadRef,
  signal: AbortSignal,
): Promise<void> {
  const found = await stackIfOwn(context, name, agentId, signal);
  for (const stack of found ? [...found.duplicates, found.stack] : []) {
    await patiently(context, signal, () => context.api.deleteStack(stack.Id, signal));
  }
  // What a lost create left behind has no record that could be deleted.
  await engine.clean(name, agentId, signal);
  if (composed) await engine.removeVolumes(name, agentId, signal);
  await engine.unclaim(name, null, signal);
}

async function adopt(
  context: EngineContext,
  engine: DockerEngine,
  spec: WorkloadSpec,
  found: { stack: Stack; duplicates: Stack[] },
  signal: AbortSignal,
): Promise<void> {
  const { stack, duplicates } = found;
  refuseWhileDeploying(stack);
  const before = await contentOf(context, stack, signal);
  // Deleting a second record takes the containers of the first along, so it is always sent again afterwards.
  for (const duplicate of duplicates) {
    await patiently(context, signal, () => context.api.deleteStack(duplicate.Id, signal));
  }
  const present = reachedOnly(spec, before);
  const direct = engine.render(spec, serviceOf(present));
  const runs = duplicates.length === 0 && stack.Status !== STACK_INACTIVE;
  const beside = runs ? besideIt(engine, spec, present, direct) : null;
  const content = beside ?? direct;
  if (runs && (await isThere(engine, spec, before, content, signal))) return;
  await engine.prepare(spec, signal);
  if (beside && candidateOf(stack) && !isSame(before, beside)) {
    // What is left of another candidate goes first: a Swarm would roll from it to the new one, and perhaps back.
    await send(context, engine, spec, stack, present, signal);
  }
  if (runs && spec.strategy === "recreate" && !isSame(present, direct)) {
    await engine.drain(spec, signal);
  }
  await send(context, engine, spec, stack, content, signal);
  if (stack.Status !== STACK_INACTIVE) return;
  // An update brings a stopped stack up in the versions we know; ask, because it is not promised.
  const after = await ownStack(context, spec.name, spec.agentId, signal);
  if (after?.stack.Status === STACK_INACTIVE) await context.api.startStack(stack.Id, signal);
}

/** @throws OrchestratorError UPSTREAM_UNAVAILABLE `in_progress` */
function refuseWhileDeploying({ Status }: Stack): void {
  if (Status !== STACK_DEPLOYING) return;
  throw new OrchestratorError("UPSTREAM_UNAVAILABLE", "The stack is being deployed already.", {
    retryAfterSeconds: 5,
    details: { reason: "in_progress" },
  });
}

async function contentOf(
  context: EngineContext,
  stack: Stack,
  signal: AbortSignal,
): Promise<StackContent> {
  return { file: await context.api.stackFile(stack.Id, signal), variables: stack.Env };
}

async function isThere(
  engine: DockerEngine,
  spec: WorkloadSpec,
  before: StackContent,
  content: StackContent,
  signal: AbortSignal,
): Promise<boolean> {
  return before.file === content.file && sameVariables(before.variables, content.variables) &&
    (await engine.intact(spec, readServiceReplicas(content.file), signal));
}

/**
 * Sends a stack's new content and ends what it no longer names: Portainer 2.23 leaves behind what compose calls orphans.
 * That comes last, so that the record never tells of a service whose containers are gone; whoever is killed in between
 * leaves containers that belong to no service, which is to be seen.
 */
async function send(
  context: EngineContext,
  engine: DockerEngine,
  of: OwnedStack,
  stack: Stack,
  content: StackContent,
  signal: AbortSignal,
): Promise<void> {
  await patiently(context, signal, () => context.api.updateStack(stack.Id, content, signal));
  await engine.prune(of, Object.keys(readServiceReplicas(content.file)), signal);
}

async function createStack(
  context: EngineContext,
  engine: DockerEngine,
  spec: WorkloadSpec,
  content: StackContent,
  signal: AbortSignal,
): Promise<Stack> {
  try {
    return await patiently(
      context,
      signal,
      () => context.api.createStack(spec.name, content, engine.swarmId, signal),
    );
  } catch (error) {
    if (!(error instanceof OrchestratorError) || signal.aborted) throw error;
    if (hasReason(error, "conflict")) {
      const found = await ownStack(context, spec.name, spec.agentId, signal);
      if (found) {
        await adopt(context, engine, spec, found, signal);
        return found.stack;
      }
      const remains = await engine.remains(spec.name, spec.agentId, signal);
      if (remains.foreign > 0 || remains.own === 0) throw nameTaken(spec.name);
      throw error;
    }
    if (error.ambiguous) {
      const stack = await awaitRecord(context, spec, SETTLE_MS, signal);
      if (stack) return stack;
      throw error;
    }
    // Final: nothing was recorded, but containers may stand half made.
    await engine.clean(spec.name, spec.agentId, signal);
    await engine.unclaim(spec.name, null, signal);
    throw error;
  }
}

/**
 * Deals with containers or services of this name that no stack accounts for. True when a record turned up while
 * waiting: an earlier create was still under way.
 */
async function awaitRemains(
  context: EngineContext,
  engine: DockerEngine,
  spec: WorkloadSpec,
  signal: AbortSignal,
): Promise<boolean> {
  const remains = await engine.remains(spec.name, spec.agentId, signal);
  if (remains.foreign > 0) throw nameTaken(spec.name);
  if (remains.own === 0) return false;
  if (await awaitRecord(context, spec, SETTLE_MS, signal)) return true;
  if (context.now() - remains.newest < RECORD_GRACE_MS) {
    throw inProgress(15);
  }
  await engine.clean(spec.name, spec.agentId, signal);
  return false;
}

async function awaitRecord(
  context: EngineContext,
  spec: WorkloadSpec,
  limitMs: number,
  signal: AbortSignal,
): Promise<Stack | null> {
  const until = context.now() + limitMs;
  while (true) {
    const found = await ownStack(context, spec.name, spec.agentId, signal);
    if (found) return found.stack;
    if (context.now() >= until) return null;
    await context.sleep(POLL_MS, signal);
  }
}

/** Repeats what a network in the course of its removal stands in the way of. */
async function patiently<T>(
  context: EngineContext,
  signal: AbortSignal,
  call: () => Promise<T>,
): Promise<T> {
  const until = context.now() + BUSY_MS;
  while (true) {
    try {
      return await call();
    } catch (error) {
      if (!hasReason(error, "network_busy") || context.now() >= until) throw error;
      await context.sleep(POLL_MS, signal);
    }
  }
}

export function hasReason(error: unknown, reason: string): boolean {
  return error instanceof OrchestratorError && error.details["reason"] === reason;
}
