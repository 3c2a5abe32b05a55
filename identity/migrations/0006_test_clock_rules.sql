-- A test clock goes forward, and stays; and no live credential is of a tenant that has one.
CREATE FUNCTION identity_test_clock_rules() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.test_clock IS NOT NULL AND (NEW.test_clock IS NULL OR NEW.test_clock < OLD.test_clock) THEN
        RAISE EXCEPTION 'a test clock goes forward'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'test_clock_goes_forward';
    END IF;
    IF NEW.test_clock IS NOT NULL AND OLD.test_clock IS NULL AND EXISTS (
        SELECT 1 FROM identity_apikey k
         WHERE k.tenant_id = NEW.id AND k.mode = 'live' AND k.revoked_at IS NULL) THEN
        RAISE EXCEPTION 'a tenant with live keys has the real time'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'test_clock_without_live_keys';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER test_clock_rules BEFORE UPDATE OF test_clock ON identity_tenant
    FOR EACH ROW EXECUTE FUNCTION identity_test_clock_rules();

CREATE FUNCTION identity_live_key_rules() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Who starts the clock at once with us waits here, or we for them.
    PERFORM 1 FROM identity_tenant t WHERE t.id = NEW.tenant_id FOR NO KEY UPDATE;
    IF EXISTS (SELECT 1 FROM identity_tenant t WHERE t.id = NEW.tenant_id AND t.test_clock IS NOT NULL) THEN
        RAISE EXCEPTION 'a tenant with a test clock has no live keys'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'test_clock_without_live_keys';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER live_key_rules BEFORE INSERT OR UPDATE OF tenant_id, mode, revoked_at ON identity_apikey
    FOR EACH ROW WHEN (NEW.mode = 'live' AND NEW.revoked_at IS NULL) EXECUTE FUNCTION identity_live_key_rules();
