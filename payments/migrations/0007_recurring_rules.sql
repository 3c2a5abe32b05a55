-- What no code path may do to recurring payments and their runs. docs/invariants.md lists the rules
-- with the tests that attack them.

-- A recurring payment: its accounts are its tenant's and of its currency; what it is never changes.
CREATE FUNCTION payments_recurring_rules() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND (NEW.id, NEW.tenant_id, NEW.kind, NEW.source_account_id, NEW.currency,
                             NEW.trigger, NEW.created_at)
            IS DISTINCT FROM (OLD.id, OLD.tenant_id, OLD.kind, OLD.source_account_id, OLD.currency,
                              OLD.trigger, OLD.created_at) THEN
        PERFORM payments_break('recurring_never_rewritten',
                               'a recurring payment keeps its source, kind, currency and trigger');
    END IF;
    IF TG_OP = 'INSERT' AND NEW.status <> 'active' THEN
        PERFORM payments_break('recurring_begins_active', 'a recurring payment begins as active');
    END IF;
    IF TG_OP = 'INSERT' OR NEW.destination_account_id IS DISTINCT FROM OLD.destination_account_id THEN
        IF (SELECT count(*) FROM accounts_account a
             WHERE a.id IN (NEW.source_account_id, NEW.destination_account_id)
               AND a.tenant_id = NEW.tenant_id AND a.currency = NEW.currency AND a.type <> 'internal')
           <> (CASE WHEN NEW.destination_account_id IS NULL THEN 1 ELSE 2 END) THEN
            PERFORM payments_break('recurring_accounts_fit',
                'source and destination are accounts of the tenant''s customers, in the currency');
        END IF;
    END IF;
    IF TG_OP = 'UPDATE' AND NEW.status <> OLD.status AND (OLD.status, NEW.status) NOT IN (
        ('active', 'paused'), ('paused', 'active'), ('active', 'completed'), ('paused', 'completed'),
        ('active', 'cancelled'), ('paused', 'cancelled'), ('active', 'failed'), ('paused', 'failed'))
    THEN
        PERFORM payments_break('recurring_ends_for_good',
            format('a recurring payment does not go from %s to %s', OLD.status, NEW.status));
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER recurring_begins BEFORE INSERT ON payments_recurringpayment
    FOR EACH ROW EXECUTE FUNCTION payments_recurring_rules();
-- Not for the columns that each run moves on: a hundred thousand are due on the first of a month.
CREATE TRIGGER recurring_rules BEFORE UPDATE OF id, tenant_id, kind, source_account_id,
        destination_account_id, currency, trigger, status, created_at ON payments_recurringpayment
    FOR EACH ROW EXECUTE FUNCTION payments_recurring_rules();
CREATE TRIGGER recurring_never_deleted BEFORE DELETE ON payments_recurringpayment
    FOR EACH STATEMENT EXECUTE FUNCTION florin_refuse(
        'recurring_never_deleted', 'recurring payments are cancelled, and kept');
CREATE TRIGGER recurring_never_truncated BEFORE TRUNCATE ON payments_recurringpayment
    FOR EACH STATEMENT EXECUTE FUNCTION florin_refuse(
        'recurring_never_truncated', 'recurring payments are cancelled, and kept');

-- A run: what it is never changes, it ends once, and it has succeeded only if it was posted.
CREATE FUNCTION payments_recurring_run_begins() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM new_rows r
                WHERE r.status NOT IN ('due', 'skipped') OR r.transaction_id IS NOT NULL
                   OR r.payout_id IS NOT NULL) THEN
        PERFORM payments_break('recurring_run_begins_due', 'a run begins as due, or is skipped');
    END IF;
    IF EXISTS (SELECT 1 FROM new_rows r JOIN payments_recurringpayment p ON p.id = r.recurring_payment_id
                WHERE p.tenant_id <> r.tenant_id) THEN
        PERFORM payments_break('recurring_run_of_its_tenant', 'a run is of its payment''s tenant');
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER recurring_run_begins AFTER INSERT ON payments_recurringrun
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION payments_recurring_run_begins();

CREATE FUNCTION payments_recurring_run_rules() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.id, NEW.tenant_id, NEW.recurring_payment_id, NEW.number, NEW.nominal_date, NEW.date,
        NEW.scheduled_for, NEW.trigger_transaction_id, NEW.created_at)
       IS DISTINCT FROM (OLD.id, OLD.tenant_id, OLD.recurring_payment_id, OLD.number,
                         OLD.nominal_date, OLD.date, OLD.scheduled_for, OLD.trigger_transaction_id,
                         OLD.created_at) THEN
        PERFORM payments_break('recurring_run_never_rewritten', 'a run keeps what it is about');
    END IF;
    IF NEW.status <> OLD.status AND NOT (
           OLD.status IN ('due', 'retrying') AND NEW.status <> 'due'
           OR OLD.status = 'sent' AND NEW.status IN ('succeeded', 'failed'))
       OR NEW.status = OLD.status AND OLD.ended_at IS NOT NULL
           AND (NEW.ended_at, NEW.error_code) IS DISTINCT FROM (OLD.ended_at, OLD.error_code)
       -- What was sent is its payout's from then on.
       OR (OLD.ended_at IS NOT NULL OR OLD.status = 'sent')
           AND (NEW.amount, NEW.transaction_id, NEW.payout_id)
               IS DISTINCT FROM (OLD.amount, OLD.transaction_id, OLD.payout_id) THEN
        PERFORM payments_break('recurring_run_ends_once', 'a run that has ended stays as it is');
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER recurring_run_rules BEFORE UPDATE ON payments_recurringrun
    FOR EACH ROW EXECUTE FUNCTION payments_recurring_run_rules();

-- Thousands of runs end in one statement, or one does: EXECUTE has each planned by how many they
-- are. A plan that is kept is that of the session's first statement, which often ends none, and
-- takes a second for two thousand.
CREATE FUNCTION payments_recurring_run_was_posted() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    broken bigint;
BEGIN
    EXECUTE $query$
    -- All are looked at, not until the first: the plan of an EXISTS joins each to each.
    SELECT count(*)
      FROM new_rows n
      JOIN old_rows o ON o.id = n.id
      JOIN payments_recurringpayment p ON p.id = n.recurring_payment_id
      LEFT JOIN ledger_transaction t ON t.id = n.transaction_id
      LEFT JOIN payments_payout y ON y.id = n.payout_id
     WHERE n.status IN ('succeeded', 'sent') AND o.status <> n.status
       -- The key is the run's own, and unique: one posting serves one run.
       AND NOT coalesce(
           CASE p.kind
               WHEN 'internal' THEN n.status = 'succeeded' AND t.tenant_id = n.tenant_id
                   AND t.type = 'recurring_payment' AND t.amount = n.amount
                   AND t.currency = p.currency
                   AND t.idempotency_key = 'recurring run ' || n.id
               ELSE y.tenant_id = n.tenant_id AND y.amount = n.amount
                   AND y.source_account_id = p.source_account_id
                   AND y.transaction_id = n.transaction_id
                   AND y.idempotency_key = 'recurring run ' || n.id
                   AND (n.status = 'sent' OR o.status = 'sent' AND y.status = 'settled')
           END, false)
    $query$ INTO broken;
    IF broken > 0 THEN
        PERFORM payments_break('recurring_run_was_posted',
                               'a run that succeeded has the posting, or the payout, of its amount');
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER recurring_run_was_posted AFTER UPDATE ON payments_recurringrun
    REFERENCING NEW TABLE AS new_rows OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION payments_recurring_run_was_posted();
CREATE TRIGGER recurring_run_never_deleted BEFORE DELETE ON payments_recurringrun
    FOR EACH STATEMENT EXECUTE FUNCTION florin_refuse(
        'recurring_run_never_deleted', 'what was due, and what came of it, is kept');
CREATE TRIGGER recurring_run_never_truncated BEFORE TRUNCATE ON payments_recurringrun
    FOR EACH STATEMENT EXECUTE FUNCTION florin_refuse(
        'recurring_run_never_truncated', 'what was due, and what came of it, is kept');

SELECT florin_guard('payments_recurringpayment'), florin_guard('payments_recurringrun'),
       florin_guard('payments_calendarday');

-- A tenant whose time is a test clock's moves no real money.
CREATE FUNCTION payments_live_gateway_rules() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM identity_tenant t WHERE t.id = NEW.tenant_id FOR NO KEY UPDATE;
    IF EXISTS (SELECT 1 FROM identity_tenant t WHERE t.id = NEW.tenant_id AND t.test_clock IS NOT NULL) THEN
        PERFORM payments_break('gateway_live_by_real_time',
                               'a tenant with a test clock has no live gateway');
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER live_gateway_rules BEFORE INSERT OR UPDATE OF is_enabled ON payments_gatewayconfiguration
    FOR EACH ROW WHEN (NEW.mode = 'live' AND NEW.is_enabled) EXECUTE FUNCTION payments_live_gateway_rules();

CREATE FUNCTION payments_test_clock_rules() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM payments_gatewayconfiguration g
                WHERE g.tenant_id = NEW.id AND g.mode = 'live' AND g.is_enabled) THEN
        PERFORM payments_break('test_clock_without_live_gateway',
                               'a tenant with a live gateway has the real time');
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER test_clock_without_live_gateway BEFORE UPDATE OF test_clock ON identity_tenant
    FOR EACH ROW WHEN (NEW.test_clock IS NOT NULL AND OLD.test_clock IS NULL)
    EXECUTE FUNCTION payments_test_clock_rules();
