import type postgres from "postgres";

/** A new user of the role that everybody starts with; gives the id. `admin` may write `auth.users`. */
export async function createOwner(admin: postgres.Sql): Promise<string> {
  const [owner] = await admin<{ id: string }[]>`
    insert into auth.users (id, email, aud, role)
    values (gen_random_uuid(), gen_random_uuid() || '@example.com', 'authenticated', 'authenticated') returning id`;
  return owner!.id;
}
