// Generated from supabase/migrations by `npm run types`. Do not edit.
export type Json = string | number | boolean | null | { [key: string]: Json | undefined } | Json[];

export type Database = {
  "public": {
    Tables: {
      "agent_buckets": {
        Row: {
          "agent_id": string;
          "bucket_id": string;
          "created_at": string;
          "prefix": string;
          "public_access": boolean;
          "retired_at": string | null;
          "updated_at": string;
          "user_id": string;
        };
        ComputedFields: never;
        Insert: {
          "agent_id": string;
          "bucket_id": string;
          "created_at"?: string;
          "prefix"?: never;
          "public_access"?: boolean;
          "retired_at"?: string | null;
          "updated_at"?: string;
          "user_id": string;
        };
        Update: {
          "agent_id"?: string;
          "bucket_id"?: string;
          "created_at"?: string;
          "prefix"?: never;
          "public_access"?: boolean;
          "retired_at"?: string | null;
          "updated_at"?: string;
          "user_id"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "agent_buckets_agent_id_fkey";
            columns: ["agent_id"];
            isOneToOne: false;
            referencedRelation: "agents";
            referencedColumns: ["id"];
          },
        ];
      };
      "agent_conversations": {
        Row: {
          "agent_id": string;
          "content": string;
          "conversation_id": string;
          "id": string;
          "metadata": NonNullable<Json>;
          "platform": string | null;
          "received_at": string;
          "role": string;
          "sender": string | null;
          "timestamp": string;
          "user_id": string;
        };
        ComputedFields: never;
        Insert: {
          "agent_id": string;
          "content": string;
          "conversation_id": string;
          "id"?: string;
          "metadata"?: NonNullable<Json>;
          "platform"?: string | null;
          "received_at"?: string;
          "role": string;
          "sender"?: string | null;
          "timestamp": string;
          "user_id": string;
        };
        Update: {
          "agent_id"?: string;
          "content"?: string;
          "conversation_id"?: string;
          "id"?: string;
          "metadata"?: NonNullable<Json>;
          "platform"?: string | null;
          "received_at"?: string;
          "role"?: string;
          "sender"?: string | null;
          "timestamp"?: string;
          "user_id"?: string;
        };
        Relationships: [];
      };
      "agent_events": {
        Row: {
          "actor_id": string | null;
          "agent_id": string;
          "data": NonNullable<Json>;
          "event_type": string;
          "id": string;
          "message": string;
          "operation_id": string | null;
          "timestamp": string;
          "user_id": string | null;
          "agents": {
            "avatar": string | null;
            "character": NonNullable<Json>;
            "cluster_id": string | null;
            "created_at": string;
            "deleted_at": string | null;
            "description": string | null;
            "enabled_tools": (string)[];
            "environment_keys": (string)[];
            "framework": string;
            "generation": number;
            "id": string;
            "last_activity_at": string | null;
            "model": string | null;
            "name": string;
            "platforms": (string)[];
            "plugins": (string)[];
            "portainer": NonNullable<Json>;
            "purge_after": string | null;
            "replicas": number;
            "resources": NonNullable<Json>;
            "role": string | null;
            "scaling": Json | null;
            "settings": NonNullable<Json>;
            "status": string;
            "supabase_config": NonNullable<Json>;
            "system_prompt": string | null;
            "updated_at": string;
            "user_id": string;
          } | null;
        };
        ComputedFields: "agents";
        Insert: {
          "actor_id"?: string | null;
          "agent_id": string;
          "data"?: NonNullable<Json>;
          "event_type": string;
          "id"?: string;
          "message": string;
          "operation_id"?: string | null;
          "timestamp"?: string;
          "user_id"?: string | null;
        };
        Update: {
          "actor_id"?: string | null;
          "agent_id"?: string;
          "data"?: NonNullable<Json>;
          "event_type"?: string;
          "id"?: string;
          "message"?: string;
          "operation_id"?: string | null;
          "timestamp"?: string;
          "user_id"?: string | null;
        };
        Relationships: [];
      };
      "agent_log_counts": {
        Row: {
          "agent_id": string;
          "container_id": string;
          "container_name": string;
          "hour": string;
          "level": string;
          "lines": number;
          "user_id": string;
        };
        ComputedFields: never;
        Insert: {
          "agent_id": string;
          "container_id": string;
          "container_name": string;
          "hour": string;
          "level": string;
          "lines": number;
          "user_id": string;
        };
        Update: {
          "agent_id"?: string;
          "container_id"?: string;
          "container_name"?: string;
          "hour"?: string;
          "level"?: string;
          "lines"?: number;
          "user_id"?: string;
        };
        Relationships: [];
      };
      "agent_logs": {
        Row: {
          "agent_id": string;
          "container_id": string | null;
          "container_name": string | null;
          "id": number;
          "level": string;
          "message": string;
          "metadata": NonNullable<Json>;
          "source": string | null;
          "timestamp": string;
          "user_id": string;
        };
        ComputedFields: never;
        Insert: {
          "agent_id": string;
          "container_id"?: string | null;
          "container_name"?: string | null;
          "id"?: never;
          "level": string;
          "message": string;
          "metadata"?: NonNullable<Json>;
          "source"?: string | null;
          "timestamp": string;
          "user_id": string;
        };
        Update: {
          "agent_id"?: string;
          "container_id"?: string | null;
          "container_name"?: string | null;
          "id"?: never;
          "level"?: string;
          "message"?: string;
          "metadata"?: NonNullable<Json>;
          "source"?: string | null;
          "timestamp"?: string;
          "user_id"?: string;
        };
        Relationships: [];
      };
      "agent_metric_hours": {
        Row: {
          "agent_id": string;
          "cpu_percent_max": number | null;
          "cpu_percent_min": number | null;
          "cpu_percent_samples": number;
          "cpu_percent_sum": number | null;
          "error_rate_max": number | null;
          "error_rate_min": number | null;
          "error_rate_samples": number;
          "error_rate_sum": number | null;
          "memory_usage_max": number | null;
          "memory_usage_min": number | null;
          "memory_usage_samples": number;
          "memory_usage_sum": number | null;
          "requests_per_minute_max": number | null;
          "requests_per_minute_min": number | null;
          "requests_per_minute_samples": number;
          "requests_per_minute_sum": number | null;
          "response_time_ms_max": number | null;
          "response_time_ms_min": number | null;
          "response_time_ms_samples": number;
          "response_time_ms_sum": number | null;
          "samples": number;
          "starts": string;
          "user_id": string;
        };
        ComputedFields: never;
        Insert: {
          "agent_id": string;
          "cpu_percent_max"?: number | null;
          "cpu_percent_min"?: number | null;
          "cpu_percent_samples": number;
          "cpu_percent_sum"?: number | null;
          "error_rate_max"?: number | null;
          "error_rate_min"?: number | null;
          "error_rate_samples": number;
          "error_rate_sum"?: number | null;
          "memory_usage_max"?: number | null;
          "memory_usage_min"?: number | null;
          "memory_usage_samples": number;
          "memory_usage_sum"?: number | null;
          "requests_per_minute_max"?: number | null;
          "requests_per_minute_min"?: number | null;
          "requests_per_minute_samples": number;
          "requests_per_minute_sum"?: number | null;
          "response_time_ms_max"?: number | null;
          "response_time_ms_min"?: number | null;
          "response_time_ms_samples": number;
          "response_time_ms_sum"?: number | null;
          "samples": number;
          "starts": string;
          "user_id": string;
        };
        Update: {
          "agent_id"?: string;
          "cpu_percent_max"?: number | null;
          "cpu_percent_min"?: number | null;
          "cpu_percent_samples"?: number;
          "cpu_percent_sum"?: number | null;
          "error_rate_max"?: number | null;
          "error_rate_min"?: number | null;
          "error_rate_samples"?: number;
          "error_rate_sum"?: number | null;
          "memory_usage_max"?: number | null;
          "memory_usage_min"?: number | null;
          "memory_usage_samples"?: number;
          "memory_usage_sum"?: number | null;
          "requests_per_minute_max"?: number | null;
          "requests_per_minute_min"?: number | null;
          "requests_per_minute_samples"?: number;
          "requests_per_minute_sum"?: number | null;
          "response_time_ms_max"?: number | null;
          "response_time_ms_min"?: number | null;
          "response_time_ms_samples"?: number;
          "response_time_ms_sum"?: number | null;
          "samples"?: number;
          "starts"?: string;
          "user_id"?: string;
        };
        Relationships: [];
      };
      "agent_metric_minutes": {
        Row: {
          "agent_id": string;
          "cpu_percent_max": number | null;
          "cpu_percent_min": number | null;
          "cpu_percent_samples": number;
          "cpu_percent_sum": number | null;
          "error_rate_max": number | null;
          "error_rate_min": number | null;
          "error_rate_samples": number;
          "error_rate_sum": number | null;
          "memory_usage_max": number | null;
          "memory_usage_min": number | null;
          "memory_usage_samples": number;
          "memory_usage_sum": number | null;
          "requests_per_minute_max": number | null;
          "requests_per_minute_min": number | null;
          "requests_per_minute_samples": number;
          "requests_per_minute_sum": number | null;
          "response_time_ms_max": number | null;
          "response_time_ms_min": number | null;
          "response_time_ms_samples": number;
          "response_time_ms_sum": number | null;
          "samples": number;
          "starts": string;
          "user_id": string;
        };
        ComputedFields: never;
        Insert: {
          "agent_id": string;
          "cpu_percent_max"?: number | null;
          "cpu_percent_min"?: number | null;
          "cpu_percent_samples": number;
          "cpu_percent_sum"?: number | null;
          "error_rate_max"?: number | null;
          "error_rate_min"?: number | null;
          "error_rate_samples": number;
          "error_rate_sum"?: number | null;
          "memory_usage_max"?: number | null;
          "memory_usage_min"?: number | null;
          "memory_usage_samples": number;
          "memory_usage_sum"?: number | null;
          "requests_per_minute_max"?: number | null;
          "requests_per_minute_min"?: number | null;
          "requests_per_minute_samples": number;
          "requests_per_minute_sum"?: number | null;
          "response_time_ms_max"?: number | null;
          "response_time_ms_min"?: number | null;
          "response_time_ms_samples": number;
          "response_time_ms_sum"?: number | null;
          "samples": number;
          "starts": string;
          "user_id": string;
        };
        Update: {
          "agent_id"?: string;
          "cpu_percent_max"?: number | null;
          "cpu_percent_min"?: number | null;
          "cpu_percent_samples"?: number;
          "cpu_percent_sum"?: number | null;
          "error_rate_max"?: number | null;
          "error_rate_min"?: number | null;
          "error_rate_samples"?: number;
          "error_rate_sum"?: number | null;
          "memory_usage_max"?: number | null;
          "memory_usage_min"?: number | null;
          "memory_usage_samples"?: number;
          "memory_usage_sum"?: number | null;
          "requests_per_minute_max"?: number | null;
          "requests_per_minute_min"?: number | null;
          "requests_per_minute_samples"?: number;
          "requests_per_minute_sum"?: number | null;
          "response_time_ms_max"?: number | null;
          "response_time_ms_min"?: number | null;
          "response_time_ms_samples"?: number;
          "response_time_ms_sum"?: number | null;
          "samples"?: number;
          "starts"?: string;
          "user_id"?: string;
        };
        Relationships: [];
      };
      "agent_metrics": {
        Row: {
          "agent_id": string;
          "containers": NonNullable<Json>;
          "cpu_limit": number | null;
          "cpu_usage": number | null;
          "error_rate": number | null;
          "memory_limit": number | null;
          "memory_usage": number | null;
          "network_rx": number | null;
          "network_tx": number | null;
          "replicas": number;
          "requests_failed": number | null;
          "requests_per_minute": number | null;
          "requests_total": number | null;
          "response_time_ms": number | null;
          "timestamp": string;
          "user_id": string;
        };
        ComputedFields: never;
        Insert: {
          "agent_id": string;
          "containers"?: NonNullable<Json>;
          "cpu_limit"?: number | null;
          "cpu_usage"?: number | null;
          "error_rate"?: number | null;
          "memory_limit"?: number | null;
          "memory_usage"?: number | null;
          "network_rx"?: number | null;
          "network_tx"?: number | null;
          "replicas": number;
          "requests_failed"?: number | null;
          "requests_per_minute"?: number | null;
          "requests_total"?: number | null;
          "response_time_ms"?: number | null;
          "timestamp"?: string;
          "user_id": string;
        };
        Update: {
          "agent_id"?: string;
          "containers"?: NonNullable<Json>;
          "cpu_limit"?: number | null;
          "cpu_usage"?: number | null;
          "error_rate"?: number | null;
          "memory_limit"?: number | null;
          "memory_usage"?: number | null;
          "network_rx"?: number | null;
          "network_tx"?: number | null;
          "replicas"?: number;
          "requests_failed"?: number | null;
          "requests_per_minute"?: number | null;
          "requests_total"?: number | null;
          "response_time_ms"?: number | null;
          "timestamp"?: string;
          "user_id"?: string;
        };
        Relationships: [];
      };
      "agent_metrics_latest": {
        Row: {
          "agent_id": string;
          "metrics": NonNullable<Json>;
          "timestamp": string;
          "user_id": string;
        };
        ComputedFields: never;
        Insert: {
          "agent_id": string;
          "metrics": NonNullable<Json>;
          "timestamp": string;
          "user_id": string;
        };
        Update: {
          "agent_id"?: string;
          "metrics"?: NonNullable<Json>;
          "timestamp"?: string;
          "user_id"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "agent_metrics_latest_agent_id_fkey";
            columns: ["agent_id"];
            isOneToOne: true;
            referencedRelation: "agents";
            referencedColumns: ["id"];
          },
        ];
      };
      "agent_reports": {
        Row: {
          "agent_id": string;
          "checks": NonNullable<Json>;
          "error_rate": number | null;
          "instance": string;
          "next_began": string | null;
          "next_failed": number | null;
          "next_total": number | null;
          "received_at": string;
          "requests_failed": number | null;
          "requests_per_minute": number | null;
          "requests_total": number | null;
          "response_time_ms": number | null;
          "timestamp": string;
          "user_id": string;
          "window_began": string | null;
          "window_failed": number | null;
          "window_total": number | null;
        };
        ComputedFields: never;
        Insert: {
          "agent_id": string;
          "checks"?: NonNullable<Json>;
          "error_rate"?: number | null;
          "instance": string;
          "next_began"?: string | null;
          "next_failed"?: number | null;
          "next_total"?: number | null;
          "received_at"?: string;
          "requests_failed"?: number | null;
          "requests_per_minute"?: number | null;
          "requests_total"?: number | null;
          "response_time_ms"?: number | null;
          "timestamp": string;
          "user_id": string;
          "window_began"?: string | null;
          "window_failed"?: number | null;
          "window_total"?: number | null;
        };
        Update: {
          "agent_id"?: string;
          "checks"?: NonNullable<Json>;
          "error_rate"?: number | null;
          "instance"?: string;
          "next_began"?: string | null;
          "next_failed"?: number | null;
          "next_total"?: number | null;
          "received_at"?: string;
          "requests_failed"?: number | null;
          "requests_per_minute"?: number | null;
          "requests_total"?: number | null;
          "response_time_ms"?: number | null;
          "timestamp"?: string;
          "user_id"?: string;
          "window_began"?: string | null;
          "window_failed"?: number | null;
          "window_total"?: number | null;
        };
        Relationships: [
          {
            foreignKeyName: "agent_reports_agent_id_fkey";
            columns: ["agent_id"];
            isOneToOne: false;
            referencedRelation: "agents";
            referencedColumns: ["id"];
          },
        ];
      };
      "agent_revisions": {
        Row: {
          "agent_id": string;
          "created_at": string;
          "definition": NonNullable<Json>;
          "environment_keys": (string)[];
          "error": Json | null;
          "finished_at": string | null;
          "generation": number;
          "id": string;
          "operation_id": string;
          "restored_from": number | null;
          "revision": number;
          "state": string;
          "user_id": string;
        };
        ComputedFields: never;
        Insert: {
          "agent_id": string;
          "created_at"?: string;
          "definition": NonNullable<Json>;
          "environment_keys"?: (string)[];
          "error"?: Json | null;
          "finished_at"?: string | null;
          "generation": number;
          "id"?: string;
          "operation_id": string;
          "restored_from"?: number | null;
          "revision": number;
          "state"?: string;
          "user_id": string;
        };
        Update: {
          "agent_id"?: string;
          "created_at"?: string;
          "definition"?: NonNullable<Json>;
          "environment_keys"?: (string)[];
          "error"?: Json | null;
          "finished_at"?: string | null;
          "generation"?: number;
          "id"?: string;
          "operation_id"?: string;
          "restored_from"?: number | null;
          "revision"?: number;
          "state"?: string;
          "user_id"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "agent_revisions_agent_id_fkey";
            columns: ["agent_id"];
            isOneToOne: false;
            referencedRelation: "agents";
            referencedColumns: ["id"];
          },
        ];
      };
      "agents": {
        Row: {
          "avatar": string | null;
          "character": NonNullable<Json>;
          "cluster_id": string | null;
          "created_at": string;
          "deleted_at": string | null;
          "description": string | null;
          "enabled_tools": (string)[];
          "environment_keys": (string)[];
          "framework": string;
          "generation": number;
          "id": string;
          "last_activity_at": string | null;
          "model": string | null;
          "name": string;
          "platforms": (string)[];
          "plugins": (string)[];
          "portainer": NonNullable<Json>;
          "purge_after": string | null;
          "replicas": number;
          "resources": NonNullable<Json>;
          "role": string | null;
          "scaling": Json | null;
          "settings": NonNullable<Json>;
          "status": string;
          "supabase_config": NonNullable<Json>;
          "system_prompt": string | null;
          "updated_at": string;
          "user_id": string;
          "agent_events": {
            "actor_id": string | null;
            "agent_id": string;
            "data": NonNullable<Json>;
            "event_type": string;
            "id": string;
            "message": string;
            "operation_id": string | null;
            "timestamp": string;
            "user_id": string | null;
          } | null;
          "operations": {
            "agent_id": string | null;
            "api_key_id": string | null;
            "attempts": number;
            "batch_id": string | null;
            "cluster_id": string | null;
            "created_at": string;
            "error": Json | null;
            "estimated_completion": string | null;
            "finished_at": string | null;
            "id": string;
            "kind": string;
            "max_attempts": number;
            "next_attempt_at": string | null;
            "progress": number;
            "request": NonNullable<Json>;
            "request_id": string | null;
            "requested_by": string | null;
            "result": Json | null;
            "stack_id": string | null;
            "started_at": string | null;
            "state": string;
            "steps": NonNullable<Json>;
            "user_id": string | null;
          } | null;
        };
        ComputedFields: "agent_events" | "operations";
        Insert: {
          "avatar"?: string | null;
          "character"?: NonNullable<Json>;
          "cluster_id"?: string | null;
          "created_at"?: string;
          "deleted_at"?: string | null;
          "description"?: string | null;
          "enabled_tools"?: (string)[];
          "environment_keys"?: (string)[];
          "framework"?: string;
          "generation"?: number;
          "id"?: string;
          "last_activity_at"?: string | null;
          "model"?: string | null;
          "name": string;
          "platforms"?: (string)[];
          "plugins"?: (string)[];
          "portainer"?: NonNullable<Json>;
          "purge_after"?: string | null;
          "replicas"?: number;
          "resources"?: NonNullable<Json>;
          "role"?: string | null;
          "scaling"?: Json | null;
          "settings"?: NonNullable<Json>;
          "status"?: string;
          "supabase_config"?: NonNullable<Json>;
          "system_prompt"?: string | null;
          "updated_at"?: string;
          "user_id"?: string;
        };
        Update: {
          "avatar"?: string | null;
          "character"?: NonNullable<Json>;
          "cluster_id"?: string | null;
          "created_at"?: string;
          "deleted_at"?: string | null;
          "description"?: string | null;
          "enabled_tools"?: (string)[];
          "environment_keys"?: (string)[];
          "framework"?: string;
          "generation"?: number;
          "id"?: string;
          "last_activity_at"?: string | null;
          "model"?: string | null;
          "name"?: string;
          "platforms"?: (string)[];
          "plugins"?: (string)[];
          "portainer"?: NonNullable<Json>;
          "purge_after"?: string | null;
          "replicas"?: number;
          "resources"?: NonNullable<Json>;
          "role"?: string | null;
          "scaling"?: Json | null;
          "settings"?: NonNullable<Json>;
          "status"?: string;
          "supabase_config"?: NonNullable<Json>;
          "system_prompt"?: string | null;
          "updated_at"?: string;
          "user_id"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "agents_cluster_id_fkey";
            columns: ["cluster_id"];
            isOneToOne: false;
            referencedRelation: "clusters";
            referencedColumns: ["id"];
          },
        ];
      };
      "api_keys": {
        Row: {
          "agent_id": string | null;
          "created_at": string;
          "expires_at": string;
          "id": string;
          "label": string;
          "last_used_at": string | null;
          "made_by_key": string | null;
          "permissions": (string)[];
          "prefix": string;
          "rate_limit": Json | null;
          "revoked_at": string | null;
          "role": string;
          "user_id": string;
        };
        ComputedFields: never;
        Insert: {
          "agent_id"?: string | null;
          "created_at"?: string;
          "expires_at": string;
          "id"?: string;
          "label": string;
          "last_used_at"?: string | null;
          "made_by_key"?: string | null;
          "permissions": (string)[];
          "prefix": string;
          "rate_limit"?: Json | null;
          "revoked_at"?: string | null;
          "role": string;
          "user_id": string;
        };
        Update: {
          "agent_id"?: string | null;
          "created_at"?: string;
          "expires_at"?: string;
          "id"?: string;
          "label"?: string;
          "last_used_at"?: string | null;
          "made_by_key"?: string | null;
          "permissions"?: (string)[];
          "prefix"?: string;
          "rate_limit"?: Json | null;
          "revoked_at"?: string | null;
          "role"?: string;
          "user_id"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "api_keys_agent_id_fkey";
            columns: ["agent_id"];
            isOneToOne: false;
            referencedRelation: "agents";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "api_keys_made_by_key_fkey";
            columns: ["made_by_key"];
            isOneToOne: false;
            referencedRelation: "api_keys";
            referencedColumns: ["id"];
          },
        ];
      };
      "audit_log": {
        Row: {
          "action": string;
          "actor_id": string | null;
          "actor_kind": string;
          "created_at": string;
          "details": NonNullable<Json>;
          "id": number;
          "request_id": string | null;
          "target_id": string | null;
          "target_type": string;
        };
        ComputedFields: never;
        Insert: {
          "action": string;
          "actor_id"?: string | null;
          "actor_kind": string;
          "created_at"?: string;
          "details"?: NonNullable<Json>;
          "id"?: never;
          "request_id"?: string | null;
          "target_id"?: string | null;
          "target_type": string;
        };
        Update: {
          "action"?: string;
          "actor_id"?: string | null;
          "actor_kind"?: string;
          "created_at"?: string;
          "details"?: NonNullable<Json>;
          "id"?: never;
          "request_id"?: string | null;
          "target_id"?: string | null;
          "target_type"?: string;
        };
        Relationships: [];
      };
      "batches": {
        Row: {
          "agent_ids": (string)[];
          "api_key_id": string | null;
          "cancel_requested_at": string | null;
          "cancelled": number;
          "created_at": string;
          "done_at_once": (string)[];
          "failed": number;
          "finished_at": string | null;
          "id": string;
          "max_concurrent": number;
          "operation": string;
          "options": NonNullable<Json>;
          "rejected": number;
          "rejections": NonNullable<Json>;
          "request_id": string | null;
          "running": number;
          "state": string;
          "succeeded": number;
          "total": number;
          "user_id": string | null;
          "waiting": number;
        };
        ComputedFields: never;
        Insert: {
          "agent_ids": (string)[];
          "api_key_id"?: string | null;
          "cancel_requested_at"?: string | null;
          "cancelled"?: number;
          "created_at"?: string;
          "done_at_once"?: (string)[];
          "failed"?: number;
          "finished_at"?: string | null;
          "id"?: string;
          "max_concurrent": number;
          "operation": string;
          "options"?: NonNullable<Json>;
          "rejected"?: number;
          "rejections"?: NonNullable<Json>;
          "request_id"?: string | null;
          "running"?: number;
          "state"?: string;
          "succeeded"?: number;
          "total": number;
          "user_id"?: string | null;
          "waiting"?: number;
        };
        Update: {
          "agent_ids"?: (string)[];
          "api_key_id"?: string | null;
          "cancel_requested_at"?: string | null;
          "cancelled"?: number;
          "created_at"?: string;
          "done_at_once"?: (string)[];
          "failed"?: number;
          "finished_at"?: string | null;
          "id"?: string;
          "max_concurrent"?: number;
          "operation"?: string;
          "options"?: NonNullable<Json>;
          "rejected"?: number;
          "rejections"?: NonNullable<Json>;
          "request_id"?: string | null;
          "running"?: number;
          "state"?: string;
          "succeeded"?: number;
          "total"?: number;
          "user_id"?: string | null;
          "waiting"?: number;
        };
        Relationships: [];
      };
      "circuit_breakers": {
        Row: {
          "failure_count": number;
          "forced": boolean;
          "last_error": string | null;
          "last_failure_at": string | null;
          "name": string;
          "opened_at": string | null;
          "retry_at": string | null;
          "state": string;
          "updated_at": string;
        };
        ComputedFields: never;
        Insert: {
          "failure_count"?: number;
          "forced"?: boolean;
          "last_error"?: string | null;
          "last_failure_at"?: string | null;
          "name": string;
          "opened_at"?: string | null;
          "retry_at"?: string | null;
          "state"?: string;
          "updated_at"?: string;
        };
        Update: {
          "failure_count"?: number;
          "forced"?: boolean;
          "last_error"?: string | null;
          "last_failure_at"?: string | null;
          "name"?: string;
          "opened_at"?: string | null;
          "retry_at"?: string | null;
          "state"?: string;
          "updated_at"?: string;
        };
        Relationships: [];
      };
      "cluster_health": {
        Row: {
          "checked_at": string;
          "cluster_id": string;
          "containers": Json | null;
          "cpu_total": number | null;
          "cpu_used": number | null;
          "memory_total": number | null;
          "memory_used": number | null;
          "message": string | null;
          "nodes_ready": number | null;
          "nodes_total": number | null;
          "orchestrator": string | null;
          "pods": Json | null;
          "response_time_ms": number | null;
          "status": string;
          "version": string | null;
        };
        ComputedFields: never;
        Insert: {
          "checked_at"?: string;
          "cluster_id": string;
          "containers"?: Json | null;
          "cpu_total"?: number | null;
          "cpu_used"?: number | null;
          "memory_total"?: number | null;
          "memory_used"?: number | null;
          "message"?: string | null;
          "nodes_ready"?: number | null;
          "nodes_total"?: number | null;
          "orchestrator"?: string | null;
          "pods"?: Json | null;
          "response_time_ms"?: number | null;
          "status": string;
          "version"?: string | null;
        };
        Update: {
          "checked_at"?: string;
          "cluster_id"?: string;
          "containers"?: Json | null;
          "cpu_total"?: number | null;
          "cpu_used"?: number | null;
          "memory_total"?: number | null;
          "memory_used"?: number | null;
          "message"?: string | null;
          "nodes_ready"?: number | null;
          "nodes_total"?: number | null;
          "orchestrator"?: string | null;
          "pods"?: Json | null;
          "response_time_ms"?: number | null;
          "status"?: string;
          "version"?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "cluster_health_cluster_id_fkey";
            columns: ["cluster_id"];
            isOneToOne: true;
            referencedRelation: "clusters";
            referencedColumns: ["id"];
          },
        ];
      };
      "clusters": {
        Row: {
          "agent_url_template": string | null;
          "console_url": string | null;
          "created_at": string;
          "enabled": boolean;
          "endpoint_id": number | null;
          "id": string;
          "is_default": boolean;
          "kind": string;
          "name": string;
          "namespace": string | null;
          "options": NonNullable<Json>;
          "updated_at": string;
          "url": string;
        };
        ComputedFields: never;
        Insert: {
          "agent_url_template"?: string | null;
          "console_url"?: string | null;
          "created_at"?: string;
          "enabled"?: boolean;
          "endpoint_id"?: number | null;
          "id"?: string;
          "is_default"?: boolean;
          "kind": string;
          "name": string;
          "namespace"?: string | null;
          "options"?: NonNullable<Json>;
          "updated_at"?: string;
          "url": string;
        };
        Update: {
          "agent_url_template"?: string | null;
          "console_url"?: string | null;
          "created_at"?: string;
          "enabled"?: boolean;
          "endpoint_id"?: number | null;
          "id"?: string;
          "is_default"?: boolean;
          "kind"?: string;
          "name"?: string;
          "namespace"?: string | null;
          "options"?: NonNullable<Json>;
          "updated_at"?: string;
          "url"?: string;
        };
        Relationships: [];
      };
      "container_events": {
        Row: {
          "agent_id": string;
          "container_id": string;
          "container_name": string;
          "details": NonNullable<Json>;
          "event": string;
          "id": string;
          "timestamp": string;
          "user_id": string;
        };
        ComputedFields: never;
        Insert: {
          "agent_id": string;
          "container_id": string;
          "container_name": string;
          "details"?: NonNullable<Json>;
          "event": string;
          "id"?: string;
          "timestamp"?: string;
          "user_id": string;
        };
        Update: {
          "agent_id"?: string;
          "container_id"?: string;
          "container_name"?: string;
          "details"?: NonNullable<Json>;
          "event"?: string;
          "id"?: string;
          "timestamp"?: string;
          "user_id"?: string;
        };
        Relationships: [];
      };
      "dead_letters": {
        Row: {
          "agent_id": string | null;
          "attempts": number;
          "created_at": string;
          "error": NonNullable<Json>;
          "id": string;
          "kind": string;
          "operation_id": string;
          "retried_as": string | null;
          "stack_id": string | null;
          "user_id": string | null;
        };
        ComputedFields: never;
        Insert: {
          "agent_id"?: string | null;
          "attempts": number;
          "created_at"?: string;
          "error": NonNullable<Json>;
          "id"?: string;
          "kind": string;
          "operation_id": string;
          "retried_as"?: string | null;
          "stack_id"?: string | null;
          "user_id"?: string | null;
        };
        Update: {
          "agent_id"?: string | null;
          "attempts"?: number;
          "created_at"?: string;
          "error"?: NonNullable<Json>;
          "id"?: string;
          "kind"?: string;
          "operation_id"?: string;
          "retried_as"?: string | null;
          "stack_id"?: string | null;
          "user_id"?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "dead_letters_operation_id_fkey";
            columns: ["operation_id"];
            isOneToOne: true;
            referencedRelation: "operations";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "dead_letters_retried_as_fkey";
            columns: ["retried_as"];
            isOneToOne: false;
            referencedRelation: "operations";
            referencedColumns: ["id"];
          },
        ];
      };
      "deployments": {
        Row: {
          "agent_id": string;
          "cluster_id": string | null;
          "console_url": string | null;
          "containers": NonNullable<Json>;
          "created_at": string;
          "deployed_at": string | null;
          "endpoint_id": number | null;
          "error": Json | null;
          "health": NonNullable<Json>;
          "id": string;
          "last_checked_at": string | null;
          "namespace": string | null;
          "observed_generation": number;
          "orchestrator": string | null;
          "replicas_desired": number;
          "replicas_ready": number;
          "revision": number;
          "services": NonNullable<Json>;
          "stack_id": string | null;
          "stack_name": string;
          "state": string;
          "updated_at": string;
          "url": string | null;
          "user_id": string;
        };
        ComputedFields: never;
        Insert: {
          "agent_id": string;
          "cluster_id"?: string | null;
          "console_url"?: string | null;
          "containers"?: NonNullable<Json>;
          "created_at"?: string;
          "deployed_at"?: string | null;
          "endpoint_id"?: number | null;
          "error"?: Json | null;
          "health"?: NonNullable<Json>;
          "id"?: string;
          "last_checked_at"?: string | null;
          "namespace"?: string | null;
          "observed_generation"?: number;
          "orchestrator"?: string | null;
          "replicas_desired"?: number;
          "replicas_ready"?: number;
          "revision"?: number;
          "services"?: NonNullable<Json>;
          "stack_id"?: string | null;
          "stack_name": string;
          "state"?: string;
          "updated_at"?: string;
          "url"?: string | null;
          "user_id": string;
        };
        Update: {
          "agent_id"?: string;
          "cluster_id"?: string | null;
          "console_url"?: string | null;
          "containers"?: NonNullable<Json>;
          "created_at"?: string;
          "deployed_at"?: string | null;
          "endpoint_id"?: number | null;
          "error"?: Json | null;
          "health"?: NonNullable<Json>;
          "id"?: string;
          "last_checked_at"?: string | null;
          "namespace"?: string | null;
          "observed_generation"?: number;
          "orchestrator"?: string | null;
          "replicas_desired"?: number;
          "replicas_ready"?: number;
          "revision"?: number;
          "services"?: NonNullable<Json>;
          "stack_id"?: string | null;
          "stack_name"?: string;
          "state"?: string;
          "updated_at"?: string;
          "url"?: string | null;
          "user_id"?: string;
        };
        Relationships: [
          {
            foreignKeyName: "deployments_agent_id_fkey";
            columns: ["agent_id"];
            isOneToOne: true;
            referencedRelation: "agents";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "deployments_cluster_id_fkey";
            columns: ["cluster_id"];
            isOneToOne: false;
            referencedRelation: "clusters";
            referencedColumns: ["id"];
          },
        ];
      };
      "erasures": {
        Row: {
          "agents": number;
          "finished_at": string | null;
          "id": string;
          "pending": NonNullable<Json>;
          "refused": (string)[];
          "requested_at": string;
          "requested_by": string;
          "stacks": number;
          "state": string;
        };
        ComputedFields: never;
        Insert: {
          "agents"?: number;
          "finished_at"?: string | null;
          "id"?: string;
          "pending"?: NonNullable<Json>;
          "refused"?: (string)[];
          "requested_at"?: string;
          "requested_by": string;
          "stacks"?: number;
          "state"?: string;
        };
        Update: {
          "agents"?: number;
          "finished_at"?: string | null;
          "id"?: string;
          "pending"?: NonNullable<Json>;
          "refused"?: (string)[];
          "requested_at"?: string;
          "requested_by"?: string;
          "stacks"?: number;
          "state"?: string;
        };
        Relationships: [];
      };
      "models": {
        Row: {
          "created_at": string;
          "framework": string;
          "id": string;
          "is_default": boolean;
        };
        ComputedFields: never;
        Insert: {
          "created_at"?: string;
          "framework": string;
          "id": string;
          "is_default"?: boolean;
        };
        Update: {
          "created_at"?: string;
          "framework"?: string;
          "id"?: string;
          "is_default"?: boolean;
        };
        Relationships: [];
      };
      "operations": {
        Row: {
          "agent_id": string | null;
          "api_key_id": string | null;
          "attempts": number;
          "batch_id": string | null;
          "cluster_id": string | null;
          "created_at": string;
          "error": Json | null;
          "estimated_completion": string | null;
          "finished_at": string | null;
          "id": string;
          "kind": string;
          "max_attempts": number;
          "next_attempt_at": string | null;
          "progress": number;
          "request": NonNullable<Json>;
          "request_id": string | null;
          "requested_by": string | null;
          "result": Json | null;
          "stack_id": string | null;
          "started_at": string | null;
          "state": string;
          "steps": NonNullable<Json>;
          "user_id": string | null;
          "agents": {
            "avatar": string | null;
            "character": NonNullable<Json>;
            "cluster_id": string | null;
            "created_at": string;
            "deleted_at": string | null;
            "description": string | null;
            "enabled_tools": (string)[];
            "environment_keys": (string)[];
            "framework": string;
            "generation": number;
            "id": string;
            "last_activity_at": string | null;
            "model": string | null;
            "name": string;
            "platforms": (string)[];
            "plugins": (string)[];
            "portainer": NonNullable<Json>;
            "purge_after": string | null;
            "replicas": number;
            "resources": NonNullable<Json>;
            "role": string | null;
            "scaling": Json | null;
            "settings": NonNullable<Json>;
            "status": string;
            "supabase_config": NonNullable<Json>;
            "system_prompt": string | null;
            "updated_at": string;
            "user_id": string;
          } | null;
          "stacks": {
            "cluster_id": string | null;
            "console_url": string | null;
            "created_at": string;
            "definition": NonNullable<Json>;
            "deployed_at": string | null;
            "endpoint_id": number | null;
            "environment_keys": (string)[];
            "error": Json | null;
            "generation": number;
            "id": string;
            "labels": NonNullable<Json>;
            "last_checked_at": string | null;
            "name": string;
            "networks": NonNullable<Json>;
            "observed_generation": number;
            "orchestrator": string | null;
            "parameters": NonNullable<Json>;
            "portainer_stack_id": string | null;
            "replicas": number;
            "services": NonNullable<Json>;
            "stack_name": string;
            "state": string;
            "template": string;
            "template_id": string | null;
            "template_version": number;
            "updated_at": string;
            "user_id": string;
            "volumes": NonNullable<Json>;
          } | null;
        };
        ComputedFields: "agents" | "stacks";
        Insert: {
          "agent_id"?: string | null;
          "api_key_id"?: string | null;
          "attempts"?: number;
          "batch_id"?: string | null;
          "cluster_id"?: string | null;
          "created_at"?: string;
          "error"?: Json | null;
          "estimated_completion"?: string | null;
          "finished_at"?: string | null;
          "id"?: string;
          "kind": string;
          "max_attempts"?: number;
          "next_attempt_at"?: string | null;
          "progress"?: number;
          "request"?: NonNullable<Json>;
          "request_id"?: string | null;
          "requested_by"?: string | null;
          "result"?: Json | null;
          "stack_id"?: string | null;
          "started_at"?: string | null;
          "state"?: string;
          "steps"?: NonNullable<Json>;
          "user_id"?: string | null;
        };
        Update: {
          "agent_id"?: string | null;
          "api_key_id"?: string | null;
          "attempts"?: number;
          "batch_id"?: string | null;
          "cluster_id"?: string | null;
          "created_at"?: string;
          "error"?: Json | null;
          "estimated_completion"?: string | null;
          "finished_at"?: string | null;
          "id"?: string;
          "kind"?: string;
          "max_attempts"?: number;
          "next_attempt_at"?: string | null;
          "progress"?: number;
          "request"?: NonNullable<Json>;
          "request_id"?: string | null;
          "requested_by"?: string | null;
          "result"?: Json | null;
          "stack_id"?: string | null;
          "started_at"?: string | null;
          "state"?: string;
          "steps"?: NonNullable<Json>;
          "user_id"?: string | null;
        };
        Relationships: [
          {
            foreignKeyName: "operations_batch_id_fkey";
            columns: ["batch_id"];
            isOneToOne: false;
            referencedRelation: "batches";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "operations_cluster_id_fkey";
            columns: ["cluster_id"];
            isOneToOne: false;
            referencedRelation: "clusters";
            referencedColumns: ["id"];
          },
        ];
      };
      "profiles": {
        Row: {
          "created_at": string;
          "id": string;
          "notification_preferences": NonNullable<Json>;
          "rate_limit": Json | null;
          "role": string;
          "updated_at": string;
          "username": string;
        };
        ComputedFields: never;
        Insert: {
          "created_at"?: string;
          "id": string;
          "notification_preferences"?: NonNullable<Json>;
          "rate_limit"?: Json | null;
          "role"?: string;
          "updated_at"?: string;
          "username": string;
        };
        Update: {
          "created_at"?: string;
          "id"?: string;
          "notification_preferences"?: NonNullable<Json>;
          "rate_limit"?: Json | null;
          "role"?: string;
          "updated_at"?: string;
          "username"?: string;
        };
        Relationships: [];
      };
      "security_events": {
        Row: {
          "agent_id": string | null;
          "automated_response": Json | null;
          "details": NonNullable<Json>;
          "event_type": string;
          "id": string;
          "ip_address": unknown;
          "message": string;
          "severity": string;
          "timestamp": string;
          "user_agent": string | null;
          "user_id": string | null;
        };
        ComputedFields: never;
        Insert: {
          "agent_id"?: string | null;
          "automated_response"?: Json | null;
          "details"?: NonNullable<Json>;
          "event_type": string;
          "id"?: string;
          "ip_address"?: unknown;
          "message": string;
          "severity": string;
          "timestamp"?: string;
          "user_agent"?: string | null;
          "user_id"?: string | null;
        };
        Update: {
          "agent_id"?: string | null;
          "automated_response"?: Json | null;
          "details"?: NonNullable<Json>;
          "event_type"?: string;
          "id"?: string;
          "ip_address"?: unknown;
          "message"?: string;
          "severity"?: string;
          "timestamp"?: string;
          "user_agent"?: string | null;
          "user_id"?: string | null;
        };
        Relationships: [];
      };
      "security_scans": {
        Row: {
          "agent_id": string;
          "cluster_id": string | null;
          "containers_examined": number | null;
          "created_at": string;
          "error": Json | null;
          "event_id": string | null;
          "findings": NonNullable<Json>;
          "finished_at": string | null;
          "generation": number;
          "id": string;
          "images": (string)[];
          "passed": boolean | null;
          "recommendations": (string)[];
          "request_id": string | null;
          "requested_by": string | null;
          "scanner": string | null;
          "started_at": string | null;
          "state": string;
          "supabase_compliance": Json | null;
          "unavailable_reason": string | null;
          "user_id": string;
          "vulnerabilities": Json | null;
        };
        ComputedFields: never;
        Insert: {
          "agent_id": string;
          "cluster_id"?: string | null;
          "containers_examined"?: number | null;
          "created_at"?: string;
          "error"?: Json | null;
          "event_id"?: string | null;
          "findings"?: NonNullable<Json>;
          "finished_at"?: string | null;
          "generation": number;
          "id"?: string;
          "images"?: (string)[];
          "passed"?: boolean | null;
          "recommendations"?: (string)[];
          "request_id"?: string | null;
          "requested_by"?: string | null;
          "scanner"?: string | null;
          "started_at"?: string | null;
          "state"?: string;
          "supabase_compliance"?: Json | null;
          "unavailable_reason"?: string | null;
          "user_id": string;
          "vulnerabilities"?: Json | null;
        };
        Update: {
          "agent_id"?: string;
          "cluster_id"?: string | null;
          "containers_examined"?: number | null;
          "created_at"?: string;
          "error"?: Json | null;
          "event_id"?: string | null;
          "findings"?: NonNullable<Json>;
          "finished_at"?: string | null;
          "generation"?: number;
          "id"?: string;
          "images"?: (string)[];
          "passed"?: boolean | null;
          "recommendations"?: (string)[];
          "request_id"?: string | null;
          "requested_by"?: string | null;
          "scanner"?: string | null;
          "started_at"?: string | null;
          "state"?: string;
          "supabase_compliance"?: Json | null;
          "unavailable_reason"?: string | null;
          "user_id"?: string;
          "vulnerabilities"?: Json | null;
        };
        Relationships: [
          {
            foreignKeyName: "security_scans_agent_id_fkey";
            columns: ["agent_id"];
            isOneToOne: false;
            referencedRelation: "agents";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "security_scans_cluster_id_fkey";
            columns: ["cluster_id"];
            isOneToOne: false;
            referencedRelation: "clusters";
            referencedColumns: ["id"];
          },
        ];
      };
      "settings": {
        Row: {
          "category": string;
          "description": string;
          "key": string;
          "updated_at": string;
          "updated_by": string | null;
          "value": NonNullable<Json>;
        };
        ComputedFields: never;
        Insert: {
          "category": string;
          "description"?: string;
          "key": string;
          "updated_at"?: string;
          "updated_by"?: string | null;
          "value": NonNullable<Json>;
        };
        Update: {
          "category"?: string;
          "description"?: string;
          "key"?: string;
          "updated_at"?: string;
          "updated_by"?: string | null;
          "value"?: NonNullable<Json>;
        };
        Relationships: [];
      };
      "stack_templates": {
        Row: {
          "command": (string)[] | null;
          "created_at": string;
          "definition": Json | null;
          "description": string | null;
          "health_path": string | null;
          "id": string;
          "image": string | null;
          "labels": NonNullable<Json>;
          "name": string;
          "parameters": NonNullable<Json>;
          "port": number | null;
          "user_id": string | null;
          "version": number;
        };
        ComputedFields: never;
        Insert: {
          "command"?: (string)[] | null;
          "created_at"?: string;
          "definition"?: Json | null;
          "description"?: string | null;
          "health_path"?: string | null;
          "id"?: string;
          "image"?: string | null;
          "labels"?: NonNullable<Json>;
          "name": string;
          "parameters"?: NonNullable<Json>;
          "port"?: number | null;
          "user_id"?: string | null;
          "version": number;
        };
        Update: {
          "command"?: (string)[] | null;
          "created_at"?: string;
          "definition"?: Json | null;
          "description"?: string | null;
          "health_path"?: string | null;
          "id"?: string;
          "image"?: string | null;
          "labels"?: NonNullable<Json>;
          "name"?: string;
          "parameters"?: NonNullable<Json>;
          "port"?: number | null;
          "user_id"?: string | null;
          "version"?: number;
        };
        Relationships: [];
      };
      "stacks": {
        Row: {
          "cluster_id": string | null;
          "console_url": string | null;
          "created_at": string;
          "definition": NonNullable<Json>;
          "deployed_at": string | null;
          "endpoint_id": number | null;
          "environment_keys": (string)[];
          "error": Json | null;
          "generation": number;
          "id": string;
          "labels": NonNullable<Json>;
          "last_checked_at": string | null;
          "name": string;
          "networks": NonNullable<Json>;
          "observed_generation": number;
          "orchestrator": string | null;
          "parameters": NonNullable<Json>;
          "portainer_stack_id": string | null;
          "replicas": number;
          "services": NonNullable<Json>;
          "stack_name": string;
          "state": string;
          "template": string;
          "template_id": string | null;
          "template_version": number;
          "updated_at": string;
          "user_id": string;
          "volumes": NonNullable<Json>;
          "operations": {
            "agent_id": string | null;
            "api_key_id": string | null;
            "attempts": number;
            "batch_id": string | null;
            "cluster_id": string | null;
            "created_at": string;
            "error": Json | null;
            "estimated_completion": string | null;
            "finished_at": string | null;
            "id": string;
            "kind": string;
            "max_attempts": number;
            "next_attempt_at": string | null;
            "progress": number;
            "request": NonNullable<Json>;
            "request_id": string | null;
            "requested_by": string | null;
            "result": Json | null;
            "stack_id": string | null;
            "started_at": string | null;
            "state": string;
            "steps": NonNullable<Json>;
            "user_id": string | null;
          } | null;
        };
        ComputedFields: "operations";
        Insert: {
          "cluster_id"?: string | null;
          "console_url"?: string | null;
          "created_at"?: string;
          "definition": NonNullable<Json>;
          "deployed_at"?: string | null;
          "endpoint_id"?: number | null;
          "environment_keys"?: (string)[];
          "error"?: Json | null;
          "generation"?: number;
          "id"?: string;
          "labels"?: NonNullable<Json>;
          "last_checked_at"?: string | null;
          "name": string;
          "networks"?: NonNullable<Json>;
          "observed_generation"?: number;
          "orchestrator"?: string | null;
          "parameters": NonNullable<Json>;
          "portainer_stack_id"?: string | null;
          "replicas": number;
          "services"?: NonNullable<Json>;
          "stack_name": string;
          "state"?: string;
          "template": string;
          "template_id"?: string | null;
          "template_version": number;
          "updated_at"?: string;
          "user_id": string;
          "volumes"?: NonNullable<Json>;
        };
        Update: {
          "cluster_id"?: string | null;
          "console_url"?: string | null;
          "created_at"?: string;
          "definition"?: NonNullable<Json>;
          "deployed_at"?: string | null;
          "endpoint_id"?: number | null;
          "environment_keys"?: (string)[];
          "error"?: Json | null;
          "generation"?: number;
          "id"?: string;
          "labels"?: NonNullable<Json>;
          "last_checked_at"?: string | null;
          "name"?: string;
          "networks"?: NonNullable<Json>;
          "observed_generation"?: number;
          "orchestrator"?: string | null;
          "parameters"?: NonNullable<Json>;
          "portainer_stack_id"?: string | null;
          "replicas"?: number;
          "services"?: NonNullable<Json>;
          "stack_name"?: string;
          "state"?: string;
          "template"?: string;
          "template_id"?: string | null;
          "template_version"?: number;
          "updated_at"?: string;
          "user_id"?: string;
          "volumes"?: NonNullable<Json>;
        };
        Relationships: [
          {
            foreignKeyName: "stacks_cluster_id_fkey";
            columns: ["cluster_id"];
            isOneToOne: false;
            referencedRelation: "clusters";
            referencedColumns: ["id"];
          },
          {
            foreignKeyName: "stacks_template_id_fkey";
            columns: ["template_id"];
            isOneToOne: false;
            referencedRelation: "stack_templates";
            referencedColumns: ["id"];
          },
        ];
      };
    };
    Views: {
      [_ in never]: never;
    };
    Functions: {
      "agent_events": {
        Args: { "": Database["public"]["Tables"]["agents"]["Row"] };
        Returns:
          & { error: true }
          & "the function public.agent_events with parameter or with a single unnamed json/jsonb parameter, but no matches were found in the schema cache";
        SetofOptions: {
          from: "agents";
          to: "agent_events";
          isOneToOne: false;
          isSetofReturn: true;
        };
      };
      "agent_log_lines": {
        Args: {
          "after"?: string;
          "after_id"?: number;
          "agent_id": string;
          "before"?: string;
          "container"?: string;
          "levels"?: (string)[];
          "row_limit"?: number;
          "since"?: string;
        };
        Returns: Json;
      };
      "agent_metric_series": {
        Args: { "agent_id": string; "bin": string; "since": string };
        Returns: Json;
      };
      "agent_snapshot": { Args: { "agent_id": string }; Returns: Json };
      "agents":
        | {
          Args: { "": Database["public"]["Tables"]["agent_events"]["Row"] };
          Returns:
            & { error: true }
            & "the function public.agents with parameter or with a single unnamed json/jsonb parameter, but no matches were found in the schema cache";
          SetofOptions: {
            from: "agent_events";
            to: "agents";
            isOneToOne: true;
            isSetofReturn: true;
          };
        }
        | {
          Args: { "": Database["public"]["Tables"]["operations"]["Row"] };
          Returns:
            & { error: true }
            & "the function public.agents with parameter or with a single unnamed json/jsonb parameter, but no matches were found in the schema cache";
          SetofOptions: {
            from: "operations";
            to: "agents";
            isOneToOne: true;
            isSetofReturn: true;
          };
        };
      "announce": { Args: { "event": string; "payload"?: Json }; Returns: Json };
      "batch_snapshot": { Args: { "batch_id": string }; Returns: Json };
      "cancel_batch": { Args: { "batch_id": string }; Returns: Json };
      "check_rls_policies": { Args: Record<PropertyKey, never>; Returns: Json };
      "create_agent": { Args: { "spec": Json }; Returns: Json };
      "create_agent_key": {
        Args: { "agent_id": string; "expires_at"?: string; "label"?: string };
        Returns: Json;
      };
      "create_batch": {
        Args: { "agent_ids": (string)[]; "operation": string; "options"?: Json };
        Returns: Json;
      };
      "create_stack": { Args: { "spec": Json }; Returns: Json };
      "delete_agent": { Args: { "agent_id": string }; Returns: Json };
      "delete_stack": { Args: { "stack_id": string }; Returns: Json };
      "emit_agent_event": {
        Args: { "agent_id": string; "channel": string; "event": string; "payload"?: Json };
        Returns: Json;
      };
      "erase_my_account": { Args: { "confirm"?: string }; Returns: Json };
      "erase_user": { Args: { "user_id": string }; Returns: Json };
      "export_my_data": { Args: Record<PropertyKey, never>; Returns: Json };
      "export_rows": {
        Args: Record<PropertyKey, never>;
        Returns: {
          "data": Json;
          "source": string;
        }[];
      };
      "generate_api_key": {
        Args: {
          "email"?: string;
          "expires_at"?: string;
          "label"?: string;
          "permissions"?: (string)[];
          "role"?: string;
          "username"?: string;
        };
        Returns: Json;
      };
      "health_check": { Args: Record<PropertyKey, never>; Returns: Json };
      "list_agent_revisions": {
        Args: { "agent_id": string; "before"?: number; "row_limit"?: number };
        Returns: Json;
      };
      "list_agents": {
        Args: {
          "owner"?: string;
          "platform"?: string;
          "row_limit"?: number;
          "row_offset"?: number;
          "status"?: (string)[];
        };
        Returns: Json;
      };
      "list_security_events": {
        Args: {
          "event_type"?: string;
          "row_limit"?: number;
          "severity"?: string;
          "since"?: string;
        };
        Returns: Json;
      };
      "list_stacks": {
        Args: { "row_limit"?: number; "row_offset"?: number; "status"?: (string)[] };
        Returns: Json;
      };
      "my_permissions": { Args: Record<PropertyKey, never>; Returns: (string)[] };
      "operations":
        | {
          Args: { "": Database["public"]["Tables"]["agents"]["Row"] };
          Returns:
            & { error: true }
            & "the function public.operations with parameter or with a single unnamed json/jsonb parameter, but no matches were found in the schema cache";
          SetofOptions: {
            from: "agents";
            to: "operations";
            isOneToOne: false;
            isSetofReturn: true;
          };
        }
        | {
          Args: { "": Database["public"]["Tables"]["stacks"]["Row"] };
          Returns:
            & { error: true }
            & "the function public.operations with parameter or with a single unnamed json/jsonb parameter, but no matches were found in the schema cache";
          SetofOptions: {
            from: "stacks";
            to: "operations";
            isOneToOne: false;
            isSetofReturn: true;
          };
        };
      "platform_health": { Args: Record<PropertyKey, never>; Returns: Json };
      "real_time_channel": { Args: { "event"?: string; "topic": string }; Returns: Json };
      "report_conversation": {
        Args: {
          "agent_id": string;
          "batch_id"?: string;
          "conversation_id": string;
          "messages": Json;
          "platform"?: string;
        };
        Returns: Json;
      };
      "report_logs": {
        Args: { "agent_id": string; "batch_id"?: string; "instance"?: string; "lines": Json };
        Returns: Json;
      };
      "report_metrics": {
        Args: { "agent_id": string; "instance"?: string; "metrics": Json };
        Returns: Json;
      };
      "report_status": { Args: { "agent_id": string; "status": string }; Returns: Json };
      "restart_agent": {
        Args: { "agent_id": string; "max_unavailable"?: number; "restart_policy"?: string };
        Returns: Json;
      };
      "retry_dead_letter": { Args: { "dead_letter_id": string }; Returns: Json };
      "revoke_api_key": { Args: { "key_id": string }; Returns: Json };
      "rollback_agent": { Args: { "agent_id": string; "revision"?: number }; Returns: Json };
      "scale_agent": {
        Args: {
          "agent_id": string;
          "replicas": number;
          "scaling_policy"?: Json;
          "strategy"?: string;
        };
        Returns: Json;
      };
      "scan_agent": { Args: { "agent_id": string; "force"?: boolean }; Returns: Json };
      "search_agents": {
        Args: {
          "created_after"?: string;
          "created_before"?: string;
          "platform"?: string;
          "q"?: string;
          "row_limit"?: number;
          "row_offset"?: number;
          "sort_by"?: string;
          "sort_order"?: string;
          "status"?: (string)[];
        };
        Returns: Json;
      };
      "security_scan": { Args: { "scan_id": string }; Returns: Json };
      "set_cluster_credential": {
        Args: { "cluster_id": string; "credential": string };
        Returns: undefined;
      };
      "stack_snapshot": { Args: { "stack_id": string }; Returns: Json };
      "stacks": {
        Args: { "": Database["public"]["Tables"]["operations"]["Row"] };
        Returns:
          & { error: true }
          & "the function public.stacks with parameter or with a single unnamed json/jsonb parameter, but no matches were found in the schema cache";
        SetofOptions: {
          from: "operations";
          to: "stacks";
          isOneToOne: true;
          isSetofReturn: true;
        };
      };
      "start_agent": { Args: { "agent_id": string }; Returns: Json };
      "stop_agent": { Args: { "agent_id": string }; Returns: Json };
      "supabase_usage": { Args: { "agent_id": string }; Returns: Json };
      "system_metrics": { Args: Record<PropertyKey, never>; Returns: Json };
      "update_agent": { Args: { "agent_id": string; "changes": Json }; Returns: Json };
      "update_profile": { Args: { "changes": Json }; Returns: Json };
      "update_stack": { Args: { "changes": Json; "stack_id": string }; Returns: Json };
      "user_profile": { Args: Record<PropertyKey, never>; Returns: Json };
    };
    Enums: {
      [_ in never]: never;
    };
    CompositeTypes: {
      [_ in never]: never;
    };
  };
};

type DatabaseWithoutInternals = Omit<Database, "__InternalSupabase">;

type DefaultSchema = DatabaseWithoutInternals[Extract<keyof Database, "public">];

export type Tables<
  DefaultSchemaTableNameOrOptions extends
    | keyof (DefaultSchema["Tables"] & DefaultSchema["Views"])
    | { schema: keyof DatabaseWithoutInternals },
  TableName extends DefaultSchemaTableNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  } ? keyof (
      & DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"]
      & DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Views"]
    )
    : never = never,
> = DefaultSchemaTableNameOrOptions extends { schema: keyof DatabaseWithoutInternals } ? (
    & DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"]
    & DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Views"]
  )[TableName] extends {
    Row: infer R;
  } ? R
  : never
  : DefaultSchemaTableNameOrOptions extends keyof (DefaultSchema["Tables"] & DefaultSchema["Views"])
    ? (DefaultSchema["Tables"] & DefaultSchema["Views"])[DefaultSchemaTableNameOrOptions] extends {
      Row: infer R;
    } ? R
    : never
  : never;

export type TablesInsert<
  DefaultSchemaTableNameOrOptions extends
    | keyof DefaultSchema["Tables"]
    | { schema: keyof DatabaseWithoutInternals },
  TableName extends DefaultSchemaTableNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  } ? keyof DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"]
    : never = never,
> = DefaultSchemaTableNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"][TableName] extends
    {
      Insert: infer I;
    } ? I
  : never
  : DefaultSchemaTableNameOrOptions extends keyof DefaultSchema["Tables"]
    ? DefaultSchema["Tables"][DefaultSchemaTableNameOrOptions] extends {
      Insert: infer I;
    } ? I
    : never
  : never;

export type TablesUpdate<
  DefaultSchemaTableNameOrOptions extends
    | keyof DefaultSchema["Tables"]
    | { schema: keyof DatabaseWithoutInternals },
  TableName extends DefaultSchemaTableNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  } ? keyof DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"]
    : never = never,
> = DefaultSchemaTableNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"][TableName] extends
    {
      Update: infer U;
    } ? U
  : never
  : DefaultSchemaTableNameOrOptions extends keyof DefaultSchema["Tables"]
    ? DefaultSchema["Tables"][DefaultSchemaTableNameOrOptions] extends {
      Update: infer U;
    } ? U
    : never
  : never;

export type Enums<
  DefaultSchemaEnumNameOrOptions extends
    | keyof DefaultSchema["Enums"]
    | { schema: keyof DatabaseWithoutInternals },
  EnumName extends DefaultSchemaEnumNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  } ? keyof DatabaseWithoutInternals[DefaultSchemaEnumNameOrOptions["schema"]]["Enums"]
    : never = never,
> = DefaultSchemaEnumNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[DefaultSchemaEnumNameOrOptions["schema"]]["Enums"][EnumName]
  : DefaultSchemaEnumNameOrOptions extends keyof DefaultSchema["Enums"]
    ? DefaultSchema["Enums"][DefaultSchemaEnumNameOrOptions]
  : never;

export type CompositeTypes<
  PublicCompositeTypeNameOrOptions extends
    | keyof DefaultSchema["CompositeTypes"]
    | { schema: keyof DatabaseWithoutInternals },
  CompositeTypeName extends PublicCompositeTypeNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  } ? keyof DatabaseWithoutInternals[PublicCompositeTypeNameOrOptions["schema"]]["CompositeTypes"]
    : never = never,
> = PublicCompositeTypeNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[PublicCompositeTypeNameOrOptions["schema"]]["CompositeTypes"][
    CompositeTypeName
  ]
  : PublicCompositeTypeNameOrOptions extends keyof DefaultSchema["CompositeTypes"]
    ? DefaultSchema["CompositeTypes"][PublicCompositeTypeNameOrOptions]
  : never;

export const Constants = {
  "public": {
    Enums: {},
  },
} as const;
