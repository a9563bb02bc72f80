import { OperationFailure } from "../failure.ts";
import { removeContainers, verifyRemoved } from "./delete.ts";
import { deployToPortainer } from "./deploy.ts";
import { validateConfiguration } from "./prepare.ts";
import type { Procedure, Step, Work } from "./step.ts";
import { verifyRollout } from "./verify-rollout.ts";

/**
 * Brings every service to what the stack is now. A Swarm that goes back by itself has given its verdict on the file:
 * sending it again would begin the same rollout anew.
 */
function bringServices(name: string): Step {
  return {
    name,
    applies: true,
    run: async (work) => {
      if (work.step.detail?.call === "deploy" && work.step.detail.returned === true) {
        await stopAtRollback(work);
      }
      return await deployToPortainer.run(work);
    },
  };
}

/** @throws {OperationFailure} DEPLOYMENT_FAILED `rolled_back` */
async function stopAtRollback(work: Work): Promise<void> {
  const failure = (await work.look())?.failure;
  if (failure?.details.reason !== "rolled_back") return;
  throw new OperationFailure(failure.code, failure.message, { ...failure.details });
}

const verifyServices = verifyRollout("verify_services", { maybeStopped: false });

const result: Procedure["result"] = (work) => ({
  replicas: work.spec.replicas,
  revision: work.spec.revision,
});

export const deployStack: Procedure = {
  steps: [validateConfiguration, bringServices("deploy_to_portainer"), verifyServices],
  result,
};

export const updateStack: Procedure = {
  steps: [validateConfiguration, bringServices("update_services"), verifyServices],
  result,
};

/** The database has put back what ran well before the update that failed. */
export const rollbackStack: Procedure = {
  steps: [bringServices("update_services"), verifyServices],
  result,
};

export const deleteStack: Procedure = {
  steps: [{ ...removeContainers, name: "remove_services" }, verifyRemoved],
  result: () => ({ removed: true }),
};
