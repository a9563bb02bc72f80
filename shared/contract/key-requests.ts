import { z } from "zod";
import { isoTimeText, name } from "./request-fields.ts";

const ROLES = ["user", "operator", "admin"] as const;

/**
 * Body of `POST /api/auth/generate-key` (seed 001), where `username` and `email` say whose key it is;
 * `label`, `permissions` and `expiresAt` are ours.
 */
export const generateKeyBody = z.strictObject({
  username: name.optional(),
  email: z.email("must be an email address").max(320, "must be at most 320 characters").optional(),
  label: name.optional(),
  role: z.string("must be USER, OPERATOR or ADMIN").transform((word) => word.toLowerCase()).pipe(
    z.enum(ROLES, "must be USER, OPERATOR or ADMIN"),
  ).optional(),
  permissions: z.array(
    z.string().regex(/^[a-z_]+:([a-z_]+|\*)$/, "must be a permission such as agents:read"),
  ).min(1, "must name a permission").max(100, "must be at most 100 permissions").optional(),
  expiresAt: isoTimeText.optional(),
}, "must be an object");
