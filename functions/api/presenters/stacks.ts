import type { JsonObject } from "../../../shared/contract/editions.ts";
import type { OperationRow, ServiceRow } from "../../../shared/contract/facts.ts";
import type { StackFacts, StackListFacts, StackRow } from "../../../shared/contract/stack-facts.ts";
import { STACK_STATES } from "../../../shared/contract/stack-requests.ts";
import { isoTime } from "../../../shared/contract/times.ts";
import { operationProgress } from "./created.ts";
import { inAllEditions, type Presenter } from "./presenter.ts";

function serviceStatus({ running, desired }: ServiceRow["replicas"], stackState: string): string {
  // Of a stack that has come up, or was given up, nothing is on its way any more.
  if (running === 0) return ["running", "failed"].includes(stackState) ? "failed" : "pending";
  return running < desired ? "degraded" : "running";
}

function service(row: ServiceRow, { stack_name: stackName, state }: StackRow): JsonObject {
  return {
    name: row.name.startsWith(`${stackName}_`) ? row.name.slice(stackName.length + 1) : row.name,
    replicas: { running: row.replicas.running, desired: row.replicas.desired },
    image: row.image ?? "",
    ports: [...new Set(row.ports.map((port) => port.target))],
    // The engine chooses the port outside, so it is not the one inside that seed 000 shows.
    published_ports: row.ports.map((port) => ({
      published: port.published,
      target: port.target,
      protocol: port.protocol,
    })),
    status: serviceStatus(row.replicas, state),
  };
}

function shortStack(stack: StackRow): JsonObject {
  return {
    id: stack.id,
    name: stack.name,
    status: STACK_STATES[stack.state] ?? stack.state,
  };
}

function fullStack(stack: StackRow): JsonObject {
  return {
    ...shortStack(stack),
    created_at: isoTime(stack.created_at),
    updated_at: isoTime(stack.updated_at),
    services: stack.services.map((row) => service(row, stack)),
    networks: stack.networks.map(({ name, driver, encrypted }) => ({ name, driver, encrypted })),
    volumes: stack.volumes.map(({ name, driver }) => ({ name, driver })),
    template: { name: stack.template, version: stack.template_version },
    labels: { ...stack.labels },
    environment: stack.environment_keys.map((name) => ({ name })),
    portainer_stack_id: stack.portainer_stack_id,
    stack_name: stack.stack_name,
    endpoint_id: stack.endpoint_id,
    deployment_url: stack.console_url,
    deployed_at: isoTime(stack.deployed_at),
    last_check: isoTime(stack.last_checked_at),
    error: stack.error as JsonObject | null,
  };
}

function progressOf(operation: OperationRow): JsonObject {
  return operationProgress({ operation });
}

/** `GET /api/stacks/{id}`. */
export const presentStack = inAllEditions<StackFacts>(({ stack, operation }) => ({
  stack: {
    ...fullStack(stack),
    operation: operation === null
      ? null
      : { id: operation.id, kind: operation.kind, ...progressOf(operation) },
  },
}));

/** `GET /api/stacks`. */
export const presentStacks = inAllEditions<StackListFacts>(({ stacks, total, limit, offset }) => ({
  stacks: stacks.map(fullStack),
  pagination: { total, limit, offset, has_more: offset + stacks.length < total },
}));

function command(under: string): Presenter<StackFacts> {
  return ({ stack, operation, changes }) => ({
    success: true,
    operation_id: operation?.id ?? null,
    stack: under === "deletion" ? shortStack(stack) : fullStack(stack),
    ...(changes === undefined ? {} : { changes: changes as unknown as JsonObject }),
    [under]: operation === null ? null : progressOf(operation),
  });
}

/** `POST /api/stacks`. */
export const presentStackCreated = inAllEditions(command("deployment"));
/** `PUT /api/stacks/{id}`. */
export const presentStackUpdated = inAllEditions(command("update"));
/** `DELETE /api/stacks/{id}`. */
export const presentStackDeleted = inAllEditions(command("deletion"));
