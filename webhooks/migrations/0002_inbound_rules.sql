-- What a gateway said stays as it was said, and what was done about it is not forgotten.
CREATE FUNCTION webhooks_inbound_rules() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.id, NEW.tenant_id, NEW.configuration_id, NEW.gateway, NEW.event_id, NEW.kind,
        NEW.reference, NEW.gateway_object_id, NEW.claimed_state, NEW.failure_code, NEW.body,
        NEW.headers, NEW.status_report, NEW.received_at)
       IS DISTINCT FROM
       (OLD.id, OLD.tenant_id, OLD.configuration_id, OLD.gateway, OLD.event_id, OLD.kind,
        OLD.reference, OLD.gateway_object_id, OLD.claimed_state, OLD.failure_code, OLD.body,
        OLD.headers, OLD.status_report, OLD.received_at)
    THEN
        RAISE EXCEPTION 'event % cannot be rewritten', OLD.id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'inbound_event_never_rewritten';
    END IF;
    IF OLD.status = 'succeeded' AND NEW.status <> 'succeeded' THEN
        RAISE EXCEPTION 'event % is done', OLD.id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'inbound_event_done_once';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER inbound_event_rules BEFORE UPDATE ON webhooks_inboundevent
    FOR EACH ROW EXECUTE FUNCTION webhooks_inbound_rules();
CREATE TRIGGER inbound_event_never_deleted BEFORE DELETE ON webhooks_inboundevent
    FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('inbound_event_never_deleted', 'what was said is kept');
CREATE TRIGGER inbound_attempt_never_changed BEFORE UPDATE OR DELETE ON webhooks_inboundattempt
    FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('inbound_attempt_never_changed', 'an attempt was what it was');

SELECT florin_guard('webhooks_inboundevent'), florin_guard('webhooks_inboundattempt');
