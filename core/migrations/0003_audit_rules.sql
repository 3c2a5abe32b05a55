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
