-- The audit trail is only ever added to. Its rows are sealed into blocks (core/sealing.py), so that
-- even the hand of a superuser, who can switch triggers off, leaves a mark.

CREATE TRIGGER audit_never_changed BEFORE UPDATE OR DELETE ON core_auditrecord
    FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('audit_never_changed', 'audit records are never changed');
CREATE TRIGGER audit_never_truncated BEFORE TRUNCATE ON core_auditrecord
    FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('audit_never_truncated', 'audit records are kept for ever');
CREATE TRIGGER audit_block_never_changed BEFORE UPDATE OR DELETE ON core_auditblock
    FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('audit_block_never_changed', 'sealed blocks are never changed');
CREATE TRIGGER audit_block_never_truncated BEFORE TRUNCATE ON core_auditblock
    FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('audit_block_never_truncated', 'sealed blocks are kept for ever');

-- Ids in bulk and the digests of a block are random: compressing them costs time and saves nothing.
ALTER TABLE core_auditrecord ALTER COLUMN object_ids SET STORAGE EXTERNAL;
ALTER TABLE core_auditblock ALTER COLUMN row_digests SET STORAGE EXTERNAL;

-- A moment as a number: how a timestamp prints depends on the session.
CREATE FUNCTION core_microseconds(p_moment timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE
    RETURN (extract(epoch FROM p_moment) * 1000000)::bigint;

-- The SHA-256 of a record, of every column there is today. A column that is added later needs a
-- digest of its own version: this one must stay what it is, for the blocks that were sealed by it.
CREATE FUNCTION core_audit_digest(r core_auditrecord) RETURNS bytea LANGUAGE sql STABLE
    RETURN sha256(convert_to(jsonb_build_array(
        r.id, r.tenant_id, r.action, r.actor_id, r.object_id, to_jsonb(r.object_ids), r.before,
        r.after, r.reason, r.request_id, host(r.address), core_microseconds(r.created_at)
    )::text, 'UTF8'));
