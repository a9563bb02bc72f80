-- Supabase Vault with its real table, view and signatures, in SQL over pgcrypto.
--
-- Each secret is AES-256-CBC with a random initialisation vector, then an HMAC over vector,
-- ciphertext and the row's id: a value copied into another row does not decrypt. The root key lies in
-- a file that only the server reads, so neither a dump nor a look at the tables gives it away.
-- Safe to run again: bootstrap.ts does when this file changed.

create table if not exists vault.secrets (
  id uuid primary key default gen_random_uuid(),
  name text,
  description text not null default '',
  secret text not null,
  key_id uuid,
  nonce bytea,
  created_at timestamptz not null default current_timestamp,
  updated_at timestamptz not null default current_timestamp
);
create unique index if not exists secrets_name_idx on vault.secrets (name) where name is not null;
alter table vault.secrets enable row level security;
comment on table vault.secrets is
  'Table with encrypted `secret` column for storing sensitive information on disk.';

-- Definer: only a superuser may read files of the server.
create or replace function vault._root_key() returns bytea
language sql
stable
security definer
set search_path = ''
as $$ select pg_catalog.pg_read_binary_file('vault.key') $$;
revoke all on function vault._root_key() from public;

create or replace function vault._crypto_aead_det_noncegen() returns bytea
language sql
volatile
set search_path = ''
as $$ select extensions.gen_random_bytes(16) $$;
alter table vault.secrets alter column nonce set default vault._crypto_aead_det_noncegen();

-- Definer: reaches the root key for callers that may decrypt but must not see the key.
create or replace function vault._crypto_aead_det_encrypt(
  message bytea,
  additional bytea,
  key_id bigint,
  context bytea default 'pgsodium'::bytea,
  nonce bytea default null
) returns bytea
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  keys bytea := extensions.hmac(context || pg_catalog.int8send(key_id), vault._root_key(), 'sha512');
  sealed bytea := extensions.encrypt_iv(message, substr(keys, 1, 32), nonce, 'aes-cbc/pad:pkcs');
begin
  return sealed || extensions.hmac(nonce || additional || sealed, substr(keys, 33, 32), 'sha256');
end
$$;
revoke all on function vault._crypto_aead_det_encrypt(bytea, bytea, bigint, bytea, bytea) from public;

create or replace function vault._crypto_aead_det_decrypt(
  message bytea,
  additional bytea,
  key_id bigint,
  context bytea default 'pgsodium'::bytea,
  nonce bytea default null
) returns bytea
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  keys bytea := extensions.hmac(context || pg_catalog.int8send(key_id), vault._root_key(), 'sha512');
  sealed bytea := substr(message, 1, greatest(length(message) - 32, 0));
  mark bytea := substr(message, length(sealed) + 1);
begin
  if mark is distinct from
    extensions.hmac(nonce || additional || sealed, substr(keys, 33, 32), 'sha256') then
    raise exception 'pgsodium_crypto_aead_det_decrypt_by_id: invalid ciphertext'
      using errcode = '22000';
  end if;
  return extensions.decrypt_iv(sealed, substr(keys, 1, 32), nonce, 'aes-cbc/pad:pkcs');
end
$$;
revoke all on function vault._crypto_aead_det_decrypt(bytea, bytea, bigint, bytea, bytea) from public;

create or replace view vault.decrypted_secrets as
select
  s.id,
  s.name,
  s.description,
  s.secret,
  convert_from(
    vault._crypto_aead_det_decrypt(
      message => decode(s.secret, 'base64'),
      additional => convert_to(s.id::text, 'utf8'),
      key_id => 0,
      context => 'pgsodium'::bytea,
      nonce => s.nonce
    ),
    'utf8'
  ) as decrypted_secret,
  s.key_id,
  s.nonce,
  s.created_at,
  s.updated_at
from vault.secrets as s;

-- Definer, as in the original: callers may create secrets without writing the table.
create or replace function vault.create_secret(
  new_secret text,
  new_name text default null,
  new_description text default '',
  new_key_id uuid default null
) returns uuid
language plpgsql
security definer
set search_path = ''
as $$
declare
  new_id uuid := pg_catalog.gen_random_uuid();
  new_nonce bytea := vault._crypto_aead_det_noncegen();
begin
  insert into vault.secrets (id, name, description, secret, key_id, nonce)
  values (
    new_id,
    new_name,
    new_description,
    encode(
      vault._crypto_aead_det_encrypt(
        convert_to(new_secret, 'utf8'), convert_to(new_id::text, 'utf8'), 0, 'pgsodium', new_nonce
      ),
      'base64'
    ),
    new_key_id,
    new_nonce
  );
  return new_id;
end
$$;
revoke all on function vault.create_secret(text, text, text, uuid) from public;

-- Definer, as in the original. A null leaves what is there.
create or replace function vault.update_secret(
  secret_id uuid,
  new_secret text default null,
  new_name text default null,
  new_description text default null,
  new_key_id uuid default null
) returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  new_nonce bytea := vault._crypto_aead_det_noncegen();
begin
  update vault.secrets as s
  set
    secret = case
      when new_secret is null then s.secret
      else encode(
        vault._crypto_aead_det_encrypt(
          convert_to(new_secret, 'utf8'), convert_to(s.id::text, 'utf8'), 0, 'pgsodium', new_nonce
        ),
        'base64'
      )
    end,
    nonce = case when new_secret is null then s.nonce else new_nonce end,
    name = coalesce(new_name, s.name),
    description = coalesce(new_description, s.description),
    key_id = coalesce(new_key_id, s.key_id),
    updated_at = now()
  where s.id = secret_id;
end
$$;
revoke all on function vault.update_secret(uuid, text, text, text, uuid) from public;

grant usage on schema vault to postgres with grant option;
grant select, delete, truncate, references on vault.secrets, vault.decrypted_secrets
  to postgres with grant option;
grant execute on function
  vault.create_secret(text, text, text, uuid),
  vault.update_secret(uuid, text, text, text, uuid),
  vault._crypto_aead_det_decrypt(bytea, bytea, bigint, bytea, bytea)
  to postgres with grant option;

grant usage on schema vault to service_role;
grant select, delete on vault.secrets, vault.decrypted_secrets to service_role;
grant execute on function
  vault.create_secret(text, text, text, uuid),
  vault.update_secret(uuid, text, text, text, uuid),
  vault._crypto_aead_det_decrypt(bytea, bytea, bigint, bytea, bytea)
  to service_role;
