import type { OperationRow, ServiceRow } from "./facts.ts";

/** What the database says of stacks, as their presenters get it. */

export interface StackRow {
  id: string;
  name: string;
  state: string;
  template: string;
  template_version: number;
  labels: Record<string, string>;
  environment_keys: string[];
  replicas: number;
  portainer_stack_id: string | null;
  stack_name: string;
  endpoint_id: number | null;
  console_url: string | null;
  services: ServiceRow[];
  networks: { name: string; driver: string; encrypted: boolean }[];
  volumes: { name: string; driver: string }[];
  error: { code: string; message: string; details?: unknown; rolled_back?: boolean } | null;
  deployed_at: string | null;
  last_checked_at: string | null;
  created_at: string;
  updated_at: string;
}

interface NamesChanged {
  added: string[];
  removed: string[];
  changed: string[];
}

/** What an update changes; of variables only the names. */
export interface StackChanges {
  template: { from: TemplateName; to: TemplateName } | null;
  services: Omit<NamesChanged, "changed"> & {
    changed: {
      name: string;
      replicas?: { from: number; to: number };
      image?: { from: string; to: string };
      /** What else differs. */
      fields?: string[];
    }[];
  };
  environment: NamesChanged;
  labels: NamesChanged;
  networks: NamesChanged;
  volumes: NamesChanged;
}

interface TemplateName {
  name: string;
  version: number;
}

/** Answer of `stack_snapshot` and of the commands. */
export interface StackFacts {
  stack: StackRow;
  operation: OperationRow | null;
  /** `update_stack` only. */
  changes?: StackChanges;
}

/** Answer of `list_stacks`. */
export interface StackListFacts {
  stacks: StackRow[];
  total: number;
  limit: number;
  offset: number;
}
