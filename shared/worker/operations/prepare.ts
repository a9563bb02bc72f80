import { done, type Step } from "./step.ts";

/** `spec` is put together and checked on first use; asking for it is the validation. */
export const validateConfiguration: Step = {
  name: "validate_configuration",
  local: true,
  run: (work) => {
    void work.spec;
    return Promise.resolve(done);
  },
};

/** The agent's template with the agent's own values in it: what exactly will run. */
export const createContainerTemplate: Step = {
  name: "create_container_template",
  local: true,
  run: (work) => {
    const { image, revision } = work.spec;
    work.note({ template: work.plan.template?.name, image, revision });
    return Promise.resolve(done);
  },
};
