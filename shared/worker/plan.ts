import type { Cluster } from "./queue.ts";

/** Plain JSON. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json | undefined };

export type OperationKind =
  | "deploy"
  | "update"
  | "rollback"
  | "scale"
  | "restart"
  | "stop"
  | "start"
  | "delete"
  | "deploy_stack"
  | "update_stack"
  | "rollback_stack"
  | "delete_stack";

/** One step as `operations.steps` holds it (seed 000). */
export interface StepRecord {
  name: string;
  status: "pending" | "in_progress" | "completed" | "failed";
  started_at?: string | null;
  completed_at?: string | null;
  error?: Json;
  detail?: { [key: string]: Json | undefined } | null;
}

/** A claimed row of `public.operations`, as far as the worker reads it, with its lease. */
export interface Operation {
  id: string;
  /** Null when it is about a stack. */
  agent_id: string | null;
  stack_id: string | null;
  user_id: string;
  kind: OperationKind;
  request: { [key: string]: Json | undefined };
  steps: StepRecord[];
  attempts: number;
  max_attempts: number;
  lease_token: string;
  /** How often in a row its worker was gone when its lease ended. */
  losses: number;
  request_id: string | null;
  created_at: string;
  started_at: string | null;
}

/** Everything an operation needs, from `private.operation_plan`. Holds secrets: never logged, never stored. */
export interface OperationPlan {
  operation: Operation;
  /** Of an operation on a stack; null when its row is gone. */
  stack?: StackPlan | null;
  /** Null when the agent's row is gone: then all that is left to do is to remove its stack. */
  agent: {
    id: string;
    generation: number;
    replicas: number;
    name: string;
    description: string | null;
    framework: string | null;
    model: string | null;
    system_prompt: string | null;
    character: Json;
    plugins: string[] | null;
    platforms: string[] | null;
    resources: { memory?: string; cpu?: string } | null;
    /** With what the policy leaves out filled in by `private.scaling_policy`. */
    scaling: {
      minReplicas: number;
      maxReplicas: number;
      targetCPU?: number | null;
      targetMemory?: number | null;
    } | null;
    portainer: {
      deployment_strategy?: string;
      health_checks?: null | {
        enabled?: boolean | null;
        interval?: string | null;
        timeout?: string | null;
        retries?: number | null;
      };
    } | null;
    supabase_config: { [key: string]: Json | undefined } | null;
    settings: Json;
  } | null;
  deployment: {
    stack_id: string | null;
    stack_name: string;
    namespace: string | null;
    endpoint_id: number | null;
    orchestrator: string | null;
    console_url?: string | null;
    containers?: Json[];
    /** `agents.generation` that runs; 0 before the first deployment. */
    observed_generation?: number;
  };
  /** Null when the cluster was taken out of the installation. */
  cluster: Cluster | null;
  template: {
    name: string;
    image: string;
    port: number | null;
    health_path: string | null;
    command: string[] | null;
    labels: Record<string, string> | null;
  } | null;
  /** The agent's environment in clear. */
  environment: Record<string, string>;
}

/** A stack as its template and its owner describe it; `private.resolve_services` put in images and replicas. */
export interface StackPlan {
  id: string;
  generation: number;
  labels: Record<string, string>;
  services: Record<string, ServicePlan>;
  networks: Record<string, { encrypted?: boolean }>;
  volumes: Record<string, unknown>;
}

export interface ServicePlan {
  image: string;
  replicas: number;
  command?: string[];
  ports?: number[];
  /** `${NAME}` stands for a variable of the stack; null takes the variable of the same name. */
  environment?: Record<string, string | null>;
  /** Gets every variable of the stack. */
  pass_environment?: boolean;
  /** Seconds. */
  health?: { path: string; interval?: number; timeout?: number; retries?: number };
  resources?: { memory?: string; cpu?: string };
  networks?: string[];
  /** `name:/path` */
  volumes?: string[];
}

/** What an operation is about: an agent or a stack. */
export function targetOf(operation: Operation): string {
  return operation.agent_id ?? operation.stack_id!;
}

/** Where a workload came to stand, for `private.record_placement`. */
export interface Placement {
  stack_id: string | null;
  stack_name: string;
  namespace: string | null;
  endpoint_id: number | null;
  url: string | null;
  console_url: string | null;
  orchestrator: string | null;
}
