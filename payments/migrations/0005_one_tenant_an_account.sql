-- An account at a gateway is one tenant's: payments are asked for there by references that tenants have
-- alike (INV-2026-000001-1), and what is another's must never be taken for one's own.
CREATE FUNCTION payments_gateway_account_rules() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.account_digest IS NULL OR NEW.deleted_at IS NOT NULL THEN
        RETURN NEW;
    END IF;
    -- Two that are set up at once wait for each other here.
    PERFORM pg_advisory_xact_lock(hashtextextended(encode(NEW.account_digest, 'hex'), 0));
    IF EXISTS (SELECT 1 FROM payments_gatewayconfiguration g
                WHERE g.account_digest = NEW.account_digest AND g.tenant_id <> NEW.tenant_id
                  AND g.deleted_at IS NULL) THEN
        PERFORM payments_break('gateway_account_of_one_tenant',
                               'another tenant has this account at the gateway');
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER gateway_account_rules
    BEFORE INSERT OR UPDATE OF account_digest, deleted_at ON payments_gatewayconfiguration
    FOR EACH ROW EXECUTE FUNCTION payments_gateway_account_rules();
