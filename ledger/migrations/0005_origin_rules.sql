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
