import type { OperationKind } from "../plan.ts";
import { deploy } from "./deploy.ts";
import { remove } from "./delete.ts";
import { rollback } from "./rollback.ts";
import { restart } from "./restart.ts";
import { scale } from "./scale.ts";
import { start } from "./start.ts";
import type { Procedure } from "./step.ts";
import { deleteStack, deployStack, rollbackStack, updateStack } from "./stack.ts";
import { stop } from "./stop.ts";
import { update } from "./update.ts";

/** How each kind of operation is carried out. */
export const procedures: Record<OperationKind, Procedure> = {
  deploy,
  update,
  rollback,
  scale,
  restart,
  stop,
  start,
  delete: remove,
  deploy_stack: deployStack,
  update_stack: updateStack,
  rollback_stack: rollbackStack,
  delete_stack: deleteStack,
};
