import { z } from "zod";

/**
 * Building blocks of the response schemas. Objects let further fields through, as the documents'
 * clients do; a documented field that is missing or of another type fails. What may be unknown is
 * nullable, and nothing else is.
 */
export const time = z.iso.datetime();
export const uuid = z.uuid();
export const count = z.number().int().nonnegative();
export const figure = z.number().nullable();
export const percent = z.number().min(0).nullable();
/** `agents:read`, `agents:*` */
export const permission = z.string().regex(/^[a-z_]+:([a-z_]+|\*)$/);
export const severity = z.enum(["LOW", "MEDIUM", "HIGH", "CRITICAL"]);
/** `AUTH_FAILURE` */
export const eventType = z.string().regex(/^[A-Z][A-Z_]*$/);
/** `150MB`, `2.5GB` */
export const size = z.string().regex(/^\d+(\.\d)?[KMGTP]?B$/);
/** `45ms` */
export const milliseconds = z.string().regex(/^\d+ms$/);
/** `2h 15m` */
export const uptime = z.string().regex(/^\d+h \d{1,2}m$/);
/** `5-10 minutes` */
export const deployTime = z.string().regex(/^\d+-\d+ minutes$/);
/** What went wrong with a deployment, as `error` of an agent; no document has the field. */
export const failure = z.object({
  code: z.string(),
  message: z.string(),
  details: z.record(z.string(), z.unknown()).optional(),
});
