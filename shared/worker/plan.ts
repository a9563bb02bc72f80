import type { Cluster } from "./queue.ts";

/** Plain JSON. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json | undefined };

export type OperationKind = "deploy" | "update" | "scale" | "restart" | "stop" | "start" | "delete";

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
  agent_id: string;
  user_id: string;
  kind: OperationKind;
  request: { [key: string]: Json | undefined };
  steps: StepRecord[];
  attempts: number;
  max_attempts: number;
  lease_token: string;
  request_id: string | null;
  created_at: string;
  started_at: string | null;
}

/** Everything an operation needs, from `private.operation_plan`. Holds secrets: never logged, never stored. */
export interface OperationPlan {
  operation: Operation;
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
    scaling: {
      minReplicas?: number;
      maxReplicas?: number;
      targetCPU?: number | null;
      targetMemory?: number | null;
    } | null;
    portainer: {
      deployment_strategy?: string;
      health_checks?: {
        enabled?: boolean;
        interval?: string;
        timeout?: string;
        retries?: number;
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
