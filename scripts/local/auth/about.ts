import type { AuthContext } from "./context.ts";
import { json } from "./request.ts";

const PUBLIC_FOR_TEN_MINUTES = "public, max-age=600";

/** `GET /health` */
export async function health(context: AuthContext): Promise<Response> {
  await context.sql`select 1`;
  return json({
    version: "agent-launchpad-local",
    name: "GoTrue",
    description: "GoTrue is a user registration and authentication API",
  });
}

/** `GET /.well-known/jwks.json`: the keys that access tokens are checked with. */
export function jwks(context: AuthContext): Response {
  const response = json(context.signer.jwks);
  response.headers.set("cache-control", PUBLIC_FOR_TEN_MINUTES);
  return response;
}

/** `GET /settings`: which ways to sign in there are. */
export function showSettings({ settings, providers: enabled }: AuthContext): Response {
  const names = new Set([...PROVIDERS, ...enabled.keys()]);
  const providers = Object.fromEntries([...names].map((name) => [name, enabled.has(name)]));
  return json({
    external: {
      ...providers,
      anonymous_users: settings.anonymousSignInEnabled,
      email: settings.emailEnabled,
    },
    disable_signup: !settings.signupEnabled,
    mailer_autoconfirm: settings.autoconfirm,
    phone_autoconfirm: false,
    sms_provider: "",
    saml_enabled: false,
    passkeys_enabled: false,
  });
}

const PROVIDERS = [
  "anonymous_users",
  "apple",
  "azure",
  "bitbucket",
  "discord",
  "facebook",
  "snapchat",
  "figma",
  "fly",
  "github",
  "gitlab",
  "google",
  "keycloak",
  "kakao",
  "linkedin",
  "linkedin_oidc",
  "notion",
  "spotify",
  "slack",
  "slack_oidc",
  "workos",
  "twitch",
  "twitter",
  "email",
  "phone",
  "zoom",
];
