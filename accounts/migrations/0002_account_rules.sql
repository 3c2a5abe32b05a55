-- What no code path may do to an account. A trigger's WHEN says the rule, its column list when to
-- look: a posting touches balance, entry_count and updated_at only, and pays for one rule here.

-- Room on each page for the next version of a row: balances change in place (HOT), indexes do not.
ALTER TABLE accounts_account SET (fillfactor = 70);

-- Refuse, in the name of the rule given as the trigger's first argument; the second says it in words.
CREATE FUNCTION florin_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', TG_ARGV[1] USING ERRCODE = 'check_violation', CONSTRAINT = TG_ARGV[0];
END
$$;

CREATE TRIGGER account_opens_empty AFTER INSERT ON accounts_account
    FOR EACH ROW WHEN (NEW.entry_count <> 0 OR NEW.balance <> 0 OR NEW.held <> 0)
    EXECUTE FUNCTION florin_refuse('account_opens_empty', 'an account opens with no balance');

CREATE TRIGGER account_type_known AFTER INSERT OR UPDATE OF type ON accounts_account
    FOR EACH ROW WHEN (NEW.type NOT IN ('checking', 'saving', 'internal'))
    EXECUTE FUNCTION florin_refuse('account_type_known', 'the type is checking, saving or internal');

CREATE TRIGGER account_status_known AFTER INSERT OR UPDATE OF status ON accounts_account
    FOR EACH ROW WHEN (NEW.status NOT IN ('active', 'frozen', 'closed'))
    EXECUTE FUNCTION florin_refuse('account_status_known', 'the status is active, frozen or closed');

CREATE TRIGGER account_role_iff_internal AFTER INSERT OR UPDATE OF type, role, owner_id
    ON accounts_account
    FOR EACH ROW WHEN (
        (NEW.type = 'internal') <> (NEW.role IS NOT NULL)
        OR (NEW.type = 'internal' AND NEW.owner_id IS NOT NULL)
    )
    EXECUTE FUNCTION florin_refuse(
        'account_role_iff_internal', 'internal accounts, and only they, have a role and no owner');

CREATE TRIGGER account_overdraft_limit_sane AFTER INSERT OR UPDATE OF overdraft_limit, type
    ON accounts_account
    FOR EACH ROW WHEN (
        (NEW.overdraft_limit IS NULL AND NEW.type <> 'internal')
        OR NEW.overdraft_limit NOT BETWEEN 0 AND 9000000000000000000
    )
    EXECUTE FUNCTION florin_refuse(
        'account_overdraft_limit_sane', 'the overdraft limit is not negative; only internal accounts have none');

CREATE TRIGGER account_held_not_negative AFTER UPDATE OF held ON accounts_account
    FOR EACH ROW WHEN (NEW.held < 0)
    EXECUTE FUNCTION florin_refuse('account_held_not_negative', 'holds do not sum to less than zero');

CREATE TRIGGER account_closed_is_empty AFTER INSERT OR UPDATE OF status, held ON accounts_account
    FOR EACH ROW WHEN (NEW.status = 'closed' AND (NEW.balance <> 0 OR NEW.held <> 0))
    EXECUTE FUNCTION florin_refuse('account_closed_is_empty', 'an account closes with no balance and no holds');

CREATE TRIGGER account_identity_fixed
    BEFORE UPDATE OF id, tenant_id, currency, type, role, created_at ON accounts_account
    FOR EACH ROW WHEN (
        OLD.id <> NEW.id OR OLD.tenant_id <> NEW.tenant_id OR OLD.currency <> NEW.currency
        OR OLD.type <> NEW.type OR OLD.role IS DISTINCT FROM NEW.role
        OR OLD.created_at <> NEW.created_at
    )
    EXECUTE FUNCTION florin_refuse(
        'account_identity_fixed', 'id, tenant, currency, type and role of an account never change');

CREATE TRIGGER account_closed_for_good BEFORE UPDATE OF status ON accounts_account
    FOR EACH ROW WHEN (OLD.status = 'closed' AND NEW.status <> 'closed')
    EXECUTE FUNCTION florin_refuse('account_closed_for_good', 'a closed account stays closed');

CREATE TRIGGER account_entry_count_only_grows BEFORE UPDATE OF entry_count ON accounts_account
    FOR EACH ROW WHEN (NEW.entry_count < OLD.entry_count)
    EXECUTE FUNCTION florin_refuse(
        'account_entry_count_only_grows', 'the entries of an account are never taken back');

CREATE TRIGGER account_never_deleted BEFORE DELETE ON accounts_account
    FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('account_never_deleted', 'accounts are closed, not deleted');

CREATE TRIGGER account_never_truncated BEFORE TRUNCATE ON accounts_account
    FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('account_never_truncated', 'accounts are closed, not deleted');
