import { z } from "zod";
import { jsonObject } from "./request-fields.ts";

/** Request body of `PUT /api/users/profile`: seed 001's words and seed 002's stand side by side. */

const switches = z.partialRecord(
  z.enum(["email", "slack", "real_time", "security_alerts"], "is not known"),
  z.boolean("must be true or false"),
  "must be an object of switches",
);

/** What a user shows of themselves travels in each access token, so it stays small. */
const metadata = jsonObject(16 * 1024);

export const profileBody = z.strictObject({
  email: z.email("must be an email address").max(254, "must be at most 254 characters").optional(),
  notifications: switches.optional(),
  user_metadata: metadata.optional(),
  notification_preferences: switches.optional(),
}, "must be an object");

/** Request body of `DELETE /api/users/profile`. */
export const erasureBody = z.strictObject({
  confirm: z.string("must be the email of the account").max(320, "is too long").optional(),
}, "must be an object");
