import process from "node:process";
import { StackError } from "../errors.ts";
import type { TomlTable, TomlValue } from "../toml.ts";

/** What `[auth]` of `supabase/config.toml` decides, with the CLI's defaults filled in. */
export interface AuthSettings {
  siteUrl: string;
  /** Patterns of addresses that a mail's link may lead back to, besides the site itself. */
  redirectUrls: string[];
  /** Life of an access token in seconds. */
  jwtExpiry: number;
  refreshTokenRotation: boolean;
  /** Seconds in which a spent refresh token may be used again. */
  refreshTokenReuseInterval: number;
  signupEnabled: boolean;
  anonymousSignInEnabled: boolean;
  emailEnabled: boolean;
  /** True when an address counts as confirmed without a mail. */
  autoconfirm: boolean;
  /** True when both the old and the new address must agree to a change. */
  secureEmailChange: boolean;
  /** True when a new password needs a code by mail once the sign-in is a day old. */
  securePasswordChange: boolean;
  /** Least pause in seconds between two mails of one kind to one user. */
  mailPause: number;
  otpLength: number;
  /** Seconds in which a code or link from a mail is good. */
  otpExpiry: number;
  passwordMinLength: number;
  /** A password needs one character of each of these sets. */
  passwordCharacterSets: string[];
  /** Seconds after sign-in at which a session ends whatever happens; null for never. */
  sessionTimebox: number | null;
  /** Seconds without a refresh after which a session ends; null for never. */
  sessionInactivity: number | null;
  accessTokenHook: PostgresHook | null;
  passwordHook: PostgresHook | null;
  rateLimits: RateLimits;
  /** True when users may link and unlink identities themselves. */
  manualLinkingEnabled: boolean;
  /** The enabled `[auth.external.NAME]`, by name in lower case. */
  external: Record<string, ExternalProviderSettings>;
  /** The mail server to hand mails to; null for the stack's inbox. */
  smtp: SmtpSettings | null;
}

/** `[auth.external.NAME]` */
export interface ExternalProviderSettings {
  clientId: string;
  secret: string;
  /** Issuer of an OpenID Connect provider, or base of one that has its own protocol; "" for the usual one. */
  url: string;
  /** Where the provider sends people back to; "" for this stack's `/auth/v1/callback`. */
  redirectUri: string;
  /** True when an ID token need not carry the nonce of the request. */
  skipNonceCheck: boolean;
  /** True when an account may come without an address. */
  emailOptional: boolean;
}

/** `[auth.email.smtp]` */
export interface SmtpSettings {
  host: string;
  port: number;
  /** "" for a server that wants no sign-in. */
  user: string;
  pass: string;
  /** Sender of the mails. */
  adminEmail: string;
  senderName: string;
}

/** `pg-functions://postgres/SCHEMA/NAME` */
export interface PostgresHook {
  uri: string;
  schema: string;
  name: string;
}

/** Requests of one address in five minutes; anonymous sign-ins and mails in an hour. */
export interface RateLimits {
  tokenRefresh: number;
  signInSignUps: number;
  tokenVerifications: number;
  anonymousUsers: number;
  emailSent: number;
}

/**
 * What holds where config.toml says nothing. `supabase start` counts no requests by address at
 * all (it gives Auth no header to know the address by), and a test run signs hundreds of users up
 * from one address, so the local default only stops a client that has run wild. A limit that
 * stands in config.toml is kept to the letter.
 */
const LOCAL_RATE_LIMITS: RateLimits = {
  tokenRefresh: 6000,
  signInSignUps: 3000,
  tokenVerifications: 3000,
  anonymousUsers: 3000,
  emailSent: 360_000,
};

const LOWER = "abcdefghijklmnopqrstuvwxyz";
const UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const DIGITS = "0123456789";
const SYMBOLS = "!@#$%^&*()_+-=[]{};'\\\\:\"|<>?,./`~";
const PASSWORD_CHARACTER_SETS: Record<string, string[]> = {
  "": [],
  letters_digits: [LOWER + UPPER, DIGITS],
  lower_upper_letters_digits: [LOWER, UPPER, DIGITS],
  lower_upper_letters_digits_symbols: [LOWER, UPPER, DIGITS, SYMBOLS],
};

/**
 * Reads `[auth]` of the CLI's configuration.
 *
 * @param config the whole parsed config.toml
 * @param env where `env(NAME)` looks, by default the process's own environment
 * @throws {StackError} when a setting has a value that Auth cannot follow
 */
export function readAuthSettings(
  config: TomlTable,
  env: Environment = process.env,
): AuthSettings {
  const auth = table(config.auth);
  const email = table(auth.email);
  const sessions = table(auth.sessions);
  const requirements = text(auth.password_requirements, "");
  const characterSets = PASSWORD_CHARACTER_SETS[requirements];
  if (characterSets === undefined) {
    throw invalid("password_requirements", requirements, Object.keys(PASSWORD_CHARACTER_SETS));
  }
  return {
    siteUrl: text(auth.site_url, "http://127.0.0.1:3000"),
    redirectUrls: Array.isArray(auth.additional_redirect_urls)
      ? auth.additional_redirect_urls.filter((url) => typeof url === "string")
      : [],
    jwtExpiry: number(auth.jwt_expiry, 3600),
    refreshTokenRotation: flag(auth.enable_refresh_token_rotation, true),
    refreshTokenReuseInterval: number(auth.refresh_token_reuse_interval, 10),
    signupEnabled: flag(auth.enable_signup, true),
    anonymousSignInEnabled: flag(auth.enable_anonymous_sign_ins, false),
    emailEnabled: flag(email.enable_signup, true),
    autoconfirm: !flag(email.enable_confirmations, false),
    secureEmailChange: flag(email.double_confirm_changes, true),
    securePasswordChange: flag(email.secure_password_change, false),
    mailPause: parseDuration(text(email.max_frequency, "1s")) ??
      fail("email.max_frequency", email.max_frequency),
    otpLength: number(email.otp_length, 6),
    otpExpiry: number(email.otp_expiry, 3600),
    passwordMinLength: number(auth.minimum_password_length, 6),
    passwordCharacterSets: characterSets,
    sessionTimebox: optionalDuration("sessions.timebox", sessions.timebox),
    sessionInactivity: optionalDuration("sessions.inactivity_timeout", sessions.inactivity_timeout),
    accessTokenHook: postgresHook(table(auth.hook), "custom_access_token"),
    passwordHook: postgresHook(table(auth.hook), "password_verification_attempt"),
    rateLimits: rateLimits(table(auth.rate_limit)),
    manualLinkingEnabled: flag(auth.enable_manual_linking, false),
    external: externalProviders(table(auth.external), env),
    smtp: smtp(table(email.smtp), env),
  };
}

type Environment = Record<string, string | undefined>;

function externalProviders(
  section: TomlTable,
  env: Environment,
): Record<string, ExternalProviderSettings> {
  const enabled = Object.entries(section).filter(([, value]) => table(value).enabled === true);
  return Object.fromEntries(enabled.map(([name, value]) => {
    const provider = table(value);
    const setting = (key: string) => substituted(`external.${name}.${key}`, provider[key], env);
    const clientId = required(`external.${name}.client_id`, setting("client_id"));
    const url = setting("url");
    if (url !== "" && !URL.canParse(url)) fail(`external.${name}.url`, url);
    return [name.toLowerCase(), {
      clientId,
      secret: required(`external.${name}.secret`, setting("secret")),
      url: url.replace(/\/$/, ""),
      redirectUri: setting("redirect_uri"),
      skipNonceCheck: flag(provider.skip_nonce_check, false),
      emailOptional: flag(provider.email_optional, false),
    }];
  }));
}

function smtp(section: TomlTable, env: Environment): SmtpSettings | null {
  // As in the CLI, the table alone switches it on.
  if (Object.keys(section).length === 0 || !flag(section.enabled, true)) return null;
  const setting = (key: string) => substituted(`email.smtp.${key}`, section[key], env);
  const port = number(section.port, 0);
  if (!Number.isInteger(port) || port < 1 || port > 65535) fail("email.smtp.port", section.port);
  return {
    host: required("email.smtp.host", setting("host")),
    port,
    user: setting("user"),
    pass: setting("pass"),
    adminEmail: required("email.smtp.admin_email", setting("admin_email")),
    senderName: setting("sender_name"),
  };
}

/** A text, where `env(NAME)` stands for a variable of the environment; "" when absent. */
function substituted(name: string, value: TomlValue | undefined, env: Environment): string {
  const given = text(value, "");
  const [, variable] = /^env\((\w+)\)$/.exec(given) ?? [];
  if (variable === undefined) return given;
  const found = env[variable];
  if (found === undefined || found === "") {
    throw new StackError(
      `auth.${name} in supabase/config.toml takes its value from ${variable}, which is not set.`,
      `Set the environment variable ${variable}, or switch the feature off there.`,
    );
  }
  return found;
}

function required(name: string, value: string): string {
  if (value === "") fail(name, value);
  return value;
}

/**
 * Seconds of a Go duration such as `24h`, `1m30s` or `500ms`; null when the text is none.
 * Negative ones are none here: nothing in Auth lasts less than no time.
 */
export function parseDuration(duration: string): number | null {
  const units: Record<string, number> = {
    ns: 1e-9,
    us: 1e-6,
    "µs": 1e-6,
    ms: 1e-3,
    s: 1,
    m: 60,
    h: 3600,
  };
  if (duration === "0") return 0;
  if (!/^\+?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|ms|s|m|h))+$/.test(duration)) return null;
  let seconds = 0;
  for (const [, amount, unit] of duration.matchAll(/(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)/g)) {
    seconds += Number(amount) * units[unit!]!;
  }
  return seconds;
}

function rateLimits(section: TomlTable): RateLimits {
  return {
    tokenRefresh: number(section.token_refresh, LOCAL_RATE_LIMITS.tokenRefresh),
    signInSignUps: number(section.sign_in_sign_ups, LOCAL_RATE_LIMITS.signInSignUps),
    tokenVerifications: number(section.token_verifications, LOCAL_RATE_LIMITS.tokenVerifications),
    anonymousUsers: number(section.anonymous_users, LOCAL_RATE_LIMITS.anonymousUsers),
    emailSent: number(section.email_sent, LOCAL_RATE_LIMITS.emailSent),
  };
}

function postgresHook(hooks: TomlTable, event: string): PostgresHook | null {
  const section = table(hooks[event]);
  if (section.enabled !== true) return null;
  const uri = text(section.uri, "");
  const [, schema, name] = /^pg-functions:\/\/[^/]+\/([^/]+)\/([^/]+)$/.exec(uri) ?? [];
  if (schema === undefined || name === undefined) fail(`hook.${event}.uri`, uri);
  return { uri, schema, name };
}

function optionalDuration(name: string, value: TomlValue | undefined): number | null {
  if (value === undefined) return null;
  const seconds = typeof value === "string" ? parseDuration(value) : null;
  if (seconds === null) fail(name, value);
  // Zero switches the rule off, as in Auth.
  return seconds === 0 ? null : seconds;
}

function fail(name: string, value: unknown): never {
  throw invalid(name, value, []);
}

function invalid(name: string, value: unknown, choices: string[]): StackError {
  const known = choices.length === 0 ? "" : ` Known values: ${choices.map(quote).join(", ")}.`;
  return new StackError(
    `auth.${name} in supabase/config.toml is ${quote(value)}.`,
    `The local stack cannot follow that.${known}`,
  );
}

function quote(value: unknown): string {
  return JSON.stringify(value) ?? "absent";
}

function table(value: TomlValue | undefined): TomlTable {
  return typeof value === "object" && !Array.isArray(value) ? value : {};
}

function text(value: TomlValue | undefined, fallback: string): string {
  return typeof value === "string" ? value : fallback;
}

function number(value: TomlValue | undefined, fallback: number): number {
  return typeof value === "number" ? value : fallback;
}

function flag(value: TomlValue | undefined, fallback: boolean): boolean {
  return typeof value === "boolean" ? value : fallback;
}
