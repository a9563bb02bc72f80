import type { Json, JsonObject } from "../../../shared/contract/editions.ts";
import { isoTime } from "../../../shared/contract/times.ts";
import { sizeText } from "./figures.ts";
import type { Presenters } from "./presenter.ts";

/** Answer of `user_profile` and `update_profile`. */
export interface ProfileFacts {
  user: {
    id: string;
    email: string | null;
    /** Waits for its confirmation. */
    new_email: string | null;
    role: string;
    created_at: string;
    last_sign_in_at: string | null;
    app_metadata: JsonObject;
    user_metadata: JsonObject;
  };
  profile: {
    username: string;
    role: string;
    /** Of this request: those of the role, narrowed to the API key's. */
    permissions: string[];
    notification_preferences: Record<string, boolean>;
    agent_count: number;
    /** Bytes; null where the project has no Storage. */
    storage_used: number | null;
  };
}

function profile1({ user, profile }: ProfileFacts): JsonObject {
  const { email = null, slack = null } = profile.notification_preferences;
  return {
    userId: user.id,
    username: profile.username,
    email: user.email,
    role: profile.role.toUpperCase(),
    createdAt: isoTime(user.created_at),
    lastLogin: isoTime(user.last_sign_in_at),
    permissions: profile.permissions,
    notifications: { email, slack } as Json,
  };
}

function profile2({ user, profile }: ProfileFacts): JsonObject {
  return {
    user: {
      id: user.id,
      email: user.email,
      new_email: user.new_email,
      created_at: isoTime(user.created_at),
      last_sign_in_at: isoTime(user.last_sign_in_at),
      app_metadata: user.app_metadata,
      user_metadata: user.user_metadata,
      role: user.role,
    },
    profile: {
      username: profile.username,
      notification_preferences: profile.notification_preferences,
      agent_count: profile.agent_count,
      storage_used: sizeText(profile.storage_used),
    },
  };
}

/** `GET` and `PUT /api/users/profile`; seed 000 has none of its own. */
export const presentProfile: Presenters<ProfileFacts> = { 1: profile1, 2: profile2, 3: profile2 };
