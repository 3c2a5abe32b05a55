-- Who had a transaction posted stands in its own row, and costs no row more.

-- Say for whom the rest of this statement (of this database transaction, where there is one) is done.
-- Returns the tenant, for the posting function to take: so it is always called first.
CREATE FUNCTION florin_act_as(p_tenant_id uuid, p_actor_id text, p_request_id text, p_address text)
RETURNS uuid LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM set_config('florin.actor_id', coalesce(p_actor_id, ''), true),
            set_config('florin.request_id', coalesce(p_request_id, ''), true),
            set_config('florin.address', coalesce(p_address, ''), true);
    RETURN p_tenant_id;
END
$$;

ALTER TABLE ledger_transaction
    ALTER COLUMN actor_id SET DEFAULT nullif(current_setting('florin.actor_id', true), ''),
    ALTER COLUMN request_id SET DEFAULT nullif(current_setting('florin.request_id', true), ''),
    ALTER COLUMN address SET DEFAULT nullif(current_setting('florin.address', true), '')::inet;

-- The SHA-256 of a transaction with its entries; NULL where there is none. See core_audit_digest.
CREATE FUNCTION ledger_transaction_digest(p_id uuid) RETURNS bytea LANGUAGE sql STABLE
    RETURN (
        SELECT sha256(convert_to(jsonb_build_array(
                   t.id, t.tenant_id, t.type, t.currency, t.amount, t.legs, t.description,
                   t.external_reference, t.idempotency_key, encode(t.request_fingerprint, 'hex'),
                   t.value_date, t.reverses_id, t.metadata, core_microseconds(t.created_at),
                   t.actor_id, t.request_id, host(t.address),
                   (SELECT jsonb_agg(jsonb_build_array(
                               e.tenant_id, e.account_id, e.sequence, e.leg, e.currency, e.amount,
                               e.balance_after, core_microseconds(e.created_at))
                           ORDER BY e.leg)
                      FROM ledger_entry e WHERE e.transaction_id = t.id)
               )::text, 'UTF8'))
          FROM ledger_transaction t WHERE t.id = p_id
    );
