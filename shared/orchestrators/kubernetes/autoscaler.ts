import { z } from "zod";
import type { AutoscalerState } from "../types.ts";
import { anyObject } from "./state.ts";

/** A HorizontalPodAutoscaler, as far as it tells what it decided. */
export const horizontalPodAutoscaler = anyObject.extend({
  spec: z.object({
    metrics: z.array(z.object({
      resource: z.object({
        name: z.string(),
        target: z.object({ averageUtilization: z.number().nullish() }).nullish(),
      }).nullish(),
    })).nullish(),
  }),
  status: z.object({
    desiredReplicas: z.number().int().nonnegative().nullish(),
    currentMetrics: z.array(z.object({
      resource: z.object({
        name: z.string(),
        current: z.object({ averageUtilization: z.number().nullish() }).nullish(),
      }).nullish(),
    })).nullish(),
    conditions: z.array(z.object({
      type: z.string(),
      status: z.string(),
      reason: z.string().nullish(),
    })).nullish(),
  }).nullish(),
});

/** What the autoscaler decided last, and what kept it from more. */
export function autoscalerState(
  found: z.output<typeof horizontalPodAutoscaler>,
): AutoscalerState {
  const measured = new Map(
    found.status?.currentMetrics?.map(({ resource }) => [
      resource?.name,
      resource?.current?.averageUtilization ?? null,
    ]),
  );
  return {
    // It never wants none; 0 stands there until it could first decide.
    replicas: found.status?.desiredReplicas || null,
    metrics: (found.spec.metrics ?? []).flatMap(({ resource }) => {
      const target = resource?.target?.averageUtilization;
      if (!resource || typeof target !== "number") return [];
      if (resource.name !== "cpu" && resource.name !== "memory") return [];
      const { name } = resource;
      return [{ metric: name, valuePercent: measured.get(name) ?? null, targetPercent: target }];
    }),
    limitedBy: limitedBy(found.status?.conditions ?? []),
  };
}

/** Its words are prose of another's; the reasons are an enumeration. */
function limitedBy(
  conditions: { type: string; status: string; reason?: string | null }[],
): AutoscalerState["limitedBy"] {
  const is = (type: string, status: string, reasons: RegExp) =>
    conditions.some((one) =>
      one.type === type && one.status === status && reasons.test(one.reason ?? "")
    );
  if (is("AbleToScale", "False", /^Failed/)) return "scaling_failed";
  // Scaled to zero is stopped on purpose.
  if (is("ScalingActive", "False", /^(?!ScalingDisabled$)/)) return "unmeasured";
  return is("ScalingLimited", "True", /^TooManyReplicas$/) ? "max_replicas" : null;
}
