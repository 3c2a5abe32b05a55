-- The rules that make a wrong balance impossible, whoever writes: the posting function, a future
-- service, or an operator with psql. docs/invariants.md lists them with the tests that attack them.
--
-- A posting is one SQL statement that inserts the transaction and its entries and updates the
-- accounts. Triggers AFTER a statement run when all of it is done, so each side can be checked
-- against the other: entries without the accounts' new figures are refused, and new figures
-- without entries are refused.

CREATE TRIGGER entry_never_changed BEFORE UPDATE OR DELETE ON ledger_entry
    FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('entry_never_changed', 'entries are put right by a reversal');
CREATE TRIGGER entry_never_truncated BEFORE TRUNCATE ON ledger_entry
    FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('entry_never_truncated', 'entries are kept for ever');
CREATE TRIGGER transaction_never_changed BEFORE UPDATE OR DELETE ON ledger_transaction
    FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse(
        'transaction_never_changed', 'transactions are put right by a reversal');
CREATE TRIGGER transaction_never_truncated BEFORE TRUNCATE ON ledger_transaction
    FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('transaction_never_truncated', 'transactions are kept for ever');

-- New transactions: each has its entries by the end of its own statement, in its currency, and they
-- sum to zero. Look-ups in these functions are scalar subqueries: they stay index look-ups, whatever
-- the planner believed about the sizes when it made the plan.
CREATE FUNCTION ledger_transaction_sums_to_zero() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_id uuid;
BEGIN
    SELECT t.id INTO v_id
      FROM new_transactions t
     WHERE t.legs NOT BETWEEN 2 AND 100
        OR (t.idempotency_key IS NOT NULL AND t.request_fingerprint IS NULL)
        OR (SELECT count(*) = t.legs AND sum(e.amount) = 0
                   AND sum(e.amount) FILTER (WHERE e.amount > 0) = t.amount
                   AND bool_and(e.currency = t.currency)
              FROM ledger_entry e
             WHERE e.transaction_id = t.id) IS NOT TRUE
     LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'transaction % is not complete or does not sum to zero', v_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'transaction_sums_to_zero';
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER transaction_sums_to_zero AFTER INSERT ON ledger_transaction
    REFERENCING NEW TABLE AS new_transactions
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_transaction_sums_to_zero();

-- New entries: each belongs to a transaction, within its number of legs (a complete transaction has
-- no free leg, so that nothing can be added to it later); to an account of its tenant and currency
-- that is active and not locked for debits; and the account has counted it, in this same statement:
-- numbers that were counted before are taken.
CREATE FUNCTION ledger_entries_fit() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_entry record;
BEGIN
    SELECT e.account_id, e.sequence INTO v_entry
      FROM new_entries e
     WHERE e.amount = 0
        OR e.leg < 0
        OR (SELECT t.tenant_id = e.tenant_id AND e.leg < t.legs
              FROM ledger_transaction t WHERE t.id = e.transaction_id) IS NOT TRUE
        OR (SELECT a.tenant_id = e.tenant_id AND a.currency = e.currency AND a.status = 'active'
                   AND e.sequence BETWEEN 1 AND a.entry_count
                   AND (e.amount > 0 OR a.debit_locked_until IS NULL
                        OR a.debit_locked_until <= greatest(clock_timestamp(), e.created_at))
              FROM accounts_account a WHERE a.id = e.account_id) IS NOT TRUE
     LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'entry % of account % does not fit', v_entry.sequence, v_entry.account_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'entry_fits_account_and_transaction';
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER entry_fits_account_and_transaction AFTER INSERT ON ledger_entry
    REFERENCING NEW TABLE AS new_entries
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_entries_fit();

-- Changed accounts: the entries that were counted now are there, each following the one before it by
-- its amount, from the old balance to the new one. Nothing else changes a balance.
CREATE FUNCTION ledger_account_figures_in_step() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_account_id uuid;
BEGIN
    SELECT n.id INTO v_account_id
      FROM new_accounts n
      JOIN old_accounts o ON o.id = n.id
     WHERE CASE n.entry_count - o.entry_count
               WHEN 0 THEN n.balance = o.balance
               WHEN 1 THEN
                   (SELECT e.balance_after = n.balance AND e.amount = n.balance - o.balance
                      FROM ledger_entry e
                     WHERE e.account_id = n.id AND e.sequence = n.entry_count)
               ELSE
                   (SELECT count(*) = n.entry_count - o.entry_count
                           AND bool_and(e.balance_after - e.amount = e.balance_before)
                           AND bool_or(e.sequence = n.entry_count AND e.balance_after = n.balance)
                      FROM (SELECT sequence, amount, balance_after,
                                   lag(balance_after, 1, o.balance) OVER (ORDER BY sequence)
                                       AS balance_before
                              FROM ledger_entry
                             WHERE account_id = n.id
                               AND sequence > o.entry_count AND sequence <= n.entry_count) e)
           END IS NOT TRUE
     LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'the figures of account % are not those of its entries', v_account_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'account_figures_in_step';
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER account_figures_in_step AFTER UPDATE ON accounts_account
    REFERENCING OLD TABLE AS old_accounts NEW TABLE AS new_accounts
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_account_figures_in_step();

-- A hold closes once and is never rewritten or deleted.
CREATE FUNCTION ledger_hold_rules() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'hold % cannot be deleted', OLD.id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'hold_never_deleted';
    END IF;
    IF OLD.status <> 'active' THEN
        RAISE EXCEPTION 'hold % is already %', OLD.id, OLD.status
            USING ERRCODE = 'check_violation', CONSTRAINT = 'hold_closes_once';
    END IF;
    IF (NEW.id, NEW.tenant_id, NEW.account_id, NEW.amount, NEW.currency, NEW.idempotency_key,
        NEW.request_fingerprint, NEW.created_at)
       IS DISTINCT FROM
       (OLD.id, OLD.tenant_id, OLD.account_id, OLD.amount, OLD.currency, OLD.idempotency_key,
        OLD.request_fingerprint, OLD.created_at) THEN
        RAISE EXCEPTION 'hold % cannot be rewritten', OLD.id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'hold_never_rewritten';
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER hold_rules BEFORE UPDATE OR DELETE ON ledger_hold
    FOR EACH ROW EXECUTE FUNCTION ledger_hold_rules();
CREATE TRIGGER hold_never_truncated BEFORE TRUNCATE ON ledger_hold
    FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('hold_never_truncated', 'holds are kept for ever');

-- An account's `held` is the sum of its active holds. At commit, since one statement places the hold
-- and another reserves; a posting touches neither column and pays nothing.
CREATE FUNCTION ledger_held_in_step() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_account_id uuid;
BEGIN
    IF TG_TABLE_NAME = 'ledger_hold' THEN
        v_account_id := NEW.account_id;
    ELSE
        v_account_id := NEW.id;
    END IF;
    IF (SELECT a.held <> (SELECT coalesce(sum(h.amount), 0) FROM ledger_hold h
                           WHERE h.account_id = a.id AND h.status = 'active')
          FROM accounts_account a WHERE a.id = v_account_id)
    THEN
        RAISE EXCEPTION 'held of account % is not the sum of its active holds', v_account_id
            USING ERRCODE = 'check_violation', CONSTRAINT = 'account_held_in_step';
    END IF;
    RETURN NULL;
END
$$;

CREATE CONSTRAINT TRIGGER account_held_in_step AFTER UPDATE OF held ON accounts_account
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION ledger_held_in_step();
CREATE CONSTRAINT TRIGGER hold_held_in_step AFTER INSERT OR UPDATE OF status ON ledger_hold
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION ledger_held_in_step();
