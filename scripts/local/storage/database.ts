import type postgres from "postgres";
import type { TokenClaims } from "../keys.ts";

export type Transaction = postgres.TransactionSql;

/** Whom a request comes from. */
export interface Caller {
  claims: TokenClaims;
  token: string;
  /** False when there was no token, or none that holds. */
  authenticated: boolean;
}

/** What policies can ask about a request. */
export interface Scope {
  caller: Caller;
  /** `storage.object.upload`, as `storage.operation()` gives it */
  operation: string;
  method: string;
  path: string;
  headers: Record<string, string>;
}

/** Transactions of one request. Who may do what is decided by the policies on `storage.*` alone. */
export interface RequestDatabase {
  asCaller<T>(work: (transaction: Transaction) => Promise<T>): Promise<T>;
  /** What policies do not decide: limits of a bucket, the row of a file whose upload was allowed. */
  asService<T>(work: (transaction: Transaction) => Promise<T>): Promise<T>;
  /** Whether the caller may do that: it is done and undone. Throws what the database throws. */
  tryAsCaller<T>(work: (transaction: Transaction) => Promise<T>): Promise<T>;
}

const SERVICE: Caller = { claims: { role: "service_role" }, token: "", authenticated: true };

export function databaseFor(sql: postgres.Sql, scope: Scope): RequestDatabase {
  async function as<T>(caller: Caller, work: (transaction: Transaction) => Promise<T>): Promise<T> {
    // What begin() hands through loses the count of rows.
    let result: T;
    await sql.begin(async (transaction) => {
      await enter(transaction, scope, caller);
      result = await work(transaction);
    });
    return result!;
  }
  return {
    asCaller: (work) => as(scope.caller, work),
    asService: (work) => as(SERVICE, work),
    async tryAsCaller<T>(work: (transaction: Transaction) => Promise<T>) {
      let done: { result: T } | undefined;
      try {
        await as(scope.caller, async (transaction) => {
          done = { result: await work(transaction) };
          throw new Error("to undo it");
        });
      } catch (error) {
        if (done === undefined) throw error;
      }
      return done!.result;
    },
  };
}

/** Becomes somebody else within an open transaction, until it ends or the next call. */
export async function enter(
  transaction: Transaction,
  scope: Scope,
  { claims, token }: Caller,
): Promise<void> {
  await transaction`
    select set_config('role', ${claims.role}, true),
      set_config('request.jwt.claim.role', ${claims.role}, true),
      set_config('request.jwt', ${token}, true),
      set_config('request.jwt.claim.sub', ${claims.sub ?? ""}, true),
      set_config('request.jwt.claims', ${JSON.stringify(claims)}, true),
      set_config('request.headers', ${JSON.stringify(scope.headers)}, true),
      set_config('request.method', ${scope.method}, true),
      set_config('request.path', ${scope.path}, true),
      set_config('storage.operation', ${scope.operation}, true),
      set_config('storage.allow_delete_query', 'true', true)`;
}
