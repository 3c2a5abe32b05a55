-- What no code path may do to savings plans: above all, have the money of a locked one before its
-- date. docs/invariants.md lists the rules with the tests that attack them.

CREATE FUNCTION savings_break(p_rule text, p_words text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', p_words USING ERRCODE = 'check_violation', CONSTRAINT = p_rule;
END
$$;

-- Whether the moment has come by the tenant's clock: its test clock, or the server's.
CREATE FUNCTION savings_has_come(p_tenant_id uuid, p_at timestamptz) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT coalesce(t.test_clock, clock_timestamp()) >= p_at
      FROM identity_tenant t WHERE t.id = p_tenant_id
$$;

-- A date to come, and the beginning of that day for the tenant. An hour off where a day begins
-- twice, or late. Nobody gives the tenant a test clock until the transaction ends.
CREATE FUNCTION savings_check_unlock(p_tenant_id uuid, p_date date, p_at timestamptz) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    v_zone text;
BEGIN
    SELECT t.time_zone INTO v_zone FROM identity_tenant t WHERE t.id = p_tenant_id FOR SHARE;
    IF savings_has_come(p_tenant_id, p_at) THEN
        PERFORM savings_break('savings_unlock_lies_ahead', 'a plan is locked until a date to come');
    END IF;
    IF abs(extract(epoch FROM p_at - p_date::timestamp AT TIME ZONE v_zone)) > 3600 THEN
        PERFORM savings_break('savings_unlock_as_the_day_begins',
                              'a plan is unlocked when its day begins for the tenant');
    END IF;
END
$$;

-- A plan: its accounts are its tenant's and of its currency; what it is never changes; it goes from
-- status to status as written here; a locked one goes nowhere before its time, unless two people
-- have agreed to it.
CREATE FUNCTION savings_plan_rules() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.status <> 'active' THEN
            PERFORM savings_break('savings_plan_begins_active', 'a savings plan begins as active');
        END IF;
        IF NOT EXISTS (SELECT FROM accounts_account s
                         JOIN accounts_account a ON a.id = NEW.plan_account_id
                        WHERE s.id = NEW.source_account_id AND s.type <> 'internal'
                          AND a.type = 'saving' AND a.overdraft_limit = 0
                          AND s.tenant_id = NEW.tenant_id AND a.tenant_id = NEW.tenant_id
                          AND s.currency = NEW.currency AND a.currency = NEW.currency
                          AND a.owner_id IS NOT DISTINCT FROM s.owner_id
                          AND NEW.owner_id IS NOT DISTINCT FROM s.owner_id) THEN
            PERFORM savings_break('savings_plan_accounts_fit',
                'source and plan account are accounts of one customer of the tenant, in the currency');
        END IF;
        IF EXISTS (SELECT FROM savings_savingsplan p WHERE p.plan_account_id = NEW.source_account_id) THEN
            PERFORM savings_break('savings_plan_not_from_a_plan', 'the source is no plan''s account');
        END IF;
        IF NEW.recurring_payment_id IS NOT NULL
           AND NOT EXISTS (SELECT FROM payments_recurringpayment r
                            WHERE r.id = NEW.recurring_payment_id AND r.tenant_id = NEW.tenant_id
                              AND r.managed_by = 'savings_plan' AND r.kind = 'internal'
                              AND r.source_account_id = NEW.source_account_id
                              AND r.destination_account_id = NEW.plan_account_id) THEN
            PERFORM savings_break('savings_plan_has_its_payment',
                                  'its recurring payment goes from its source to its account');
        END IF;
        IF NEW.kind = 'date_locked' THEN
            PERFORM savings_check_unlock(NEW.tenant_id, NEW.unlock_date, NEW.unlock_at);
        END IF;
        RETURN NEW;
    END IF;
    IF (NEW.id, NEW.tenant_id, NEW.kind, NEW.source_account_id, NEW.plan_account_id,
        NEW.recurring_payment_id, NEW.currency, NEW.owner_id, NEW.day_count, NEW.created_at)
       IS DISTINCT FROM
       (OLD.id, OLD.tenant_id, OLD.kind, OLD.source_account_id, OLD.plan_account_id,
        OLD.recurring_payment_id, OLD.currency, OLD.owner_id, OLD.day_count, OLD.created_at) THEN
        PERFORM savings_break('savings_plan_never_rewritten',
                              'a savings plan keeps its kind, accounts and currency');
    END IF;
    IF NEW.status <> OLD.status AND (OLD.status, NEW.status) NOT IN (
        ('active', 'completed'), ('active', 'stopped'), ('active', 'unlocked'), ('active', 'closed'),
        ('completed', 'closed'), ('stopped', 'closed'), ('unlocked', 'closed'), ('unlocked', 'active'))
    THEN
        PERFORM savings_break('savings_plan_closes_once',
            format('a savings plan does not go from %s to %s', OLD.status, NEW.status));
    END IF;
    IF NEW.kind = 'date_locked' AND OLD.status = 'active' THEN
        -- For good measure also where only the date is changed: it may be later, never earlier.
        IF NEW.status = 'active' AND (NEW.unlock_at < OLD.unlock_at OR NEW.unlock_date < OLD.unlock_date) THEN
            PERFORM savings_break('savings_unlock_only_later', 'a lock is made longer, never shorter');
        END IF;
        IF NEW.status <> 'active' AND ((NEW.unlock_at, NEW.unlock_date) <> (OLD.unlock_at, OLD.unlock_date)
           OR NOT savings_has_come(OLD.tenant_id, OLD.unlock_at)
              AND NOT EXISTS (SELECT FROM savings_earlyrelease r
                               WHERE r.plan_id = OLD.id AND r.status = 'approved')) THEN
            PERFORM savings_break('savings_plan_locked',
                format('the plan is locked until %s', OLD.unlock_date));
        END IF;
    END IF;
    IF NEW.kind = 'date_locked' AND NEW.status = 'active'
       AND (OLD.status <> 'active' OR (NEW.unlock_at, NEW.unlock_date) <> (OLD.unlock_at, OLD.unlock_date)) THEN
        PERFORM savings_check_unlock(NEW.tenant_id, NEW.unlock_date, NEW.unlock_at);
    END IF;
    IF NEW.interest_from IS DISTINCT FROM OLD.interest_from AND OLD.interest_from IS NOT NULL THEN
        PERFORM savings_break('savings_interest_begins_once', 'the first day of interest never changes');
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER savings_plan_begins BEFORE INSERT ON savings_savingsplan
    FOR EACH ROW EXECUTE FUNCTION savings_plan_rules();
CREATE TRIGGER savings_plan_rules BEFORE UPDATE ON savings_savingsplan
    FOR EACH ROW EXECUTE FUNCTION savings_plan_rules();
CREATE TRIGGER savings_plan_never_deleted BEFORE DELETE ON savings_savingsplan
    FOR EACH STATEMENT EXECUTE FUNCTION florin_refuse(
        'savings_plan_never_deleted', 'savings plans are closed, and kept');
CREATE TRIGGER savings_plan_never_truncated BEFORE TRUNCATE ON savings_savingsplan
    FOR EACH STATEMENT EXECUTE FUNCTION florin_refuse(
        'savings_plan_never_truncated', 'savings plans are closed, and kept');

-- A locked plan's account is locked for debits, until its date at least; by a test clock, for good:
-- only that clock says when its date has come. At commit, since one statement writes the plan and
-- another the account.
CREATE FUNCTION savings_account_is_locked() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM savings_savingsplan p
                 JOIN accounts_account a ON a.id = p.plan_account_id
                 JOIN identity_tenant t ON t.id = p.tenant_id
                WHERE p.id = NEW.id AND p.kind = 'date_locked' AND p.status = 'active'
                  AND coalesce(a.debit_locked_until, '-infinity') <
                      CASE WHEN t.test_clock IS NULL THEN p.unlock_at ELSE '9999-12-31' END) THEN
        PERFORM savings_break('savings_account_is_locked', 'the account of a locked plan is locked');
    END IF;
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER savings_account_is_locked
    AFTER INSERT OR UPDATE OF status, unlock_at ON savings_savingsplan
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.kind = 'date_locked' AND NEW.status = 'active')
    EXECUTE FUNCTION savings_account_is_locked();

-- Nobody takes the lock off the account, or makes it shorter, as long as the plan is locked. A
-- posting touches neither column, and pays nothing.
CREATE FUNCTION savings_lock_holds() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM savings_savingsplan p
                WHERE p.plan_account_id = OLD.id AND p.kind = 'date_locked' AND p.status = 'active') THEN
        PERFORM savings_break('savings_lock_holds', 'a savings plan keeps this account locked');
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER savings_lock_holds BEFORE UPDATE OF debit_locked_until ON accounts_account
    FOR EACH ROW WHEN (OLD.debit_locked_until IS NOT NULL
                       AND coalesce(NEW.debit_locked_until, '-infinity') < OLD.debit_locked_until)
    EXECUTE FUNCTION savings_lock_holds();

-- A plan's account closes after the plan: what the plan is to put in, or pays as interest, must
-- have somewhere to go. And it does not go below zero: a plan lends nothing.
CREATE FUNCTION savings_account_in_use() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM savings_savingsplan p
                WHERE p.plan_account_id = NEW.id AND (p.status <> 'closed' OR NEW.status <> 'closed')) THEN
        PERFORM savings_break('savings_account_in_use',
            'the account of a savings plan closes after the plan, and has no overdraft');
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER savings_account_in_use BEFORE UPDATE OF status ON accounts_account
    FOR EACH ROW WHEN (NEW.status = 'closed' AND OLD.status <> 'closed')
    EXECUTE FUNCTION savings_account_in_use();
CREATE TRIGGER savings_account_without_overdraft BEFORE UPDATE OF overdraft_limit ON accounts_account
    FOR EACH ROW WHEN (NEW.overdraft_limit IS DISTINCT FROM 0 AND NEW.status <> 'closed')
    EXECUTE FUNCTION savings_account_in_use();

-- A tenant with locked plans keeps the real time: a clock that can be moved would open them.
CREATE FUNCTION savings_test_clock_rules() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM savings_savingsplan p
                WHERE p.tenant_id = NEW.id AND p.kind = 'date_locked' AND p.status = 'active') THEN
        PERFORM savings_break('test_clock_without_locked_plans',
                              'a tenant with locked savings plans keeps the real time');
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER test_clock_without_locked_plans BEFORE UPDATE OF test_clock ON identity_tenant
    FOR EACH ROW WHEN (NEW.test_clock IS NOT NULL AND OLD.test_clock IS NULL)
    EXECUTE FUNCTION savings_test_clock_rules();

-- Interest of one day, in minor units to twelve decimals: balance x rate x days / basis. ACT/365F:
-- one day of 365. 30E/360: the days by which its count of days grows, none from the 30th to the
-- 31st, up to three at the end of February. The divisor has more decimals than the result: else
-- PostgreSQL would divide large balances to fewer.
CREATE FUNCTION savings_days_30_360(p_date date) RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT extract(year FROM p_date)::int * 360 + extract(month FROM p_date)::int * 30
           + least(extract(day FROM p_date)::int, 30)
$$;
CREATE FUNCTION savings_interest(p_balance bigint, p_rate_bps int, p_day_count text, p_date date)
RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN p_balance <= 0 OR p_rate_bps = 0 THEN 0::numeric
                WHEN p_day_count = 'act_365f' THEN
                    round(p_balance::numeric * p_rate_bps / 3650000::numeric(32, 20), 12)
                ELSE round(p_balance::numeric * p_rate_bps
                           * (savings_days_30_360(p_date + 1) - savings_days_30_360(p_date))
                           / 3600000::numeric(32, 20), 12)
           END
$$;
ALTER TABLE savings_interestaccrual ADD CONSTRAINT interest_accrual_by_the_formula
    CHECK (amount = savings_interest(balance, annual_rate_bps, day_count, date));
-- Wherever the tenant is: no zone is further from UTC.
ALTER TABLE savings_interestaccrual ADD CONSTRAINT interest_accrual_of_its_day
    CHECK ((ends_at AT TIME ZONE 'UTC') - date BETWEEN interval '9 hours' AND interval '39 hours');
-- Half to even.
CREATE FUNCTION savings_rounded(p_amount numeric) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN abs(p_amount - trunc(p_amount)) = 0.5 THEN 2 * round(p_amount / 2)
                ELSE round(p_amount) END::bigint
$$;

-- Accruals: of a plan of the tenant, of a day that is over, after all that was posted, each plan's
-- days without a gap. For a statement at once: a million come in a night.
CREATE FUNCTION savings_accruals_fit() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    broken bigint;
BEGIN
    -- EXECUTE: planned for how many they are. A plan that is kept is that of the first statement.
    EXECUTE $query$
        SELECT count(*)
          FROM (SELECT n.plan_id, n.tenant_id, min(n.date) AS first, max(n.date) AS last,
                       max(n.ends_at) AS ends_at, count(*) AS days
                  FROM new_rows n GROUP BY n.plan_id, n.tenant_id) n
          LEFT JOIN savings_savingsplan p ON p.id = n.plan_id AND p.tenant_id = n.tenant_id
          LEFT JOIN identity_tenant t ON t.id = n.tenant_id
         WHERE (n.days = n.last - n.first + 1
                AND (n.first = p.interest_from
                     OR EXISTS (SELECT FROM savings_interestaccrual b
                                 WHERE b.plan_id = n.plan_id AND b.date = n.first - 1))
                AND n.ends_at <= coalesce(t.test_clock, clock_timestamp())
                AND NOT EXISTS (SELECT FROM savings_interestposting q
                                 WHERE q.plan_id = n.plan_id AND q.period_to >= n.first)) IS NOT TRUE
    $query$ INTO broken;
    IF broken > 0 THEN
        PERFORM savings_break('interest_accrual_fits',
            'interest is accrued day by day, for days that are over and not yet posted');
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER interest_accrual_fits AFTER INSERT ON savings_interestaccrual
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION savings_accruals_fit();
CREATE TRIGGER interest_accrual_never_changed BEFORE UPDATE OR DELETE ON savings_interestaccrual
    FOR EACH STATEMENT EXECUTE FUNCTION florin_refuse(
        'interest_accrual_never_changed', 'what a day has earned stays as it was written');
CREATE TRIGGER interest_accrual_never_truncated BEFORE TRUNCATE ON savings_interestaccrual
    FOR EACH STATEMENT EXECUTE FUNCTION florin_refuse(
        'interest_accrual_never_truncated', 'what a day has earned is kept');

-- Postings: each goes on where the one before ended, is the sum of its days, rounded once, and has
-- the ledger's transaction of that amount.
CREATE FUNCTION savings_postings_fit() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    broken bigint;
BEGIN
    EXECUTE $query$
        SELECT count(*)
          FROM new_rows n
          LEFT JOIN savings_savingsplan p ON p.id = n.plan_id AND p.tenant_id = n.tenant_id
          LEFT JOIN LATERAL (
              SELECT q.period_to, q.carried_out FROM savings_interestposting q
               WHERE q.plan_id = n.plan_id AND q.period_to < n.period_to
               ORDER BY q.period_to DESC LIMIT 1) before ON true
          LEFT JOIN LATERAL (
              SELECT count(*) AS days, sum(a.amount) AS amount FROM savings_interestaccrual a
               WHERE a.plan_id = n.plan_id AND a.date BETWEEN n.period_from AND n.period_to) sum ON true
          LEFT JOIN ledger_transaction t ON t.id = n.transaction_id
         WHERE (n.period_from = coalesce(before.period_to + 1, p.interest_from)
                AND n.carried_in = coalesce(before.carried_out, 0)
                AND sum.days = n.period_to - n.period_from + 1
                AND n.accrued = sum.amount
                AND n.amount = greatest(savings_rounded(n.accrued + n.carried_in), 0)
                AND n.tax = trunc(n.amount::numeric * n.tax_bps / 10000)
                AND (n.amount = 0
                     OR t.tenant_id = n.tenant_id AND t.type = 'interest' AND t.amount = n.amount
                        AND t.currency = p.currency
                        AND t.idempotency_key = 'interest ' || n.plan_id || ' ' || n.period_to
                        AND EXISTS (SELECT FROM ledger_entry e
                                     WHERE e.transaction_id = t.id AND e.account_id = p.plan_account_id
                                       AND e.amount = n.amount - n.tax))
               ) IS NOT TRUE
    $query$ INTO broken;
    IF broken > 0 THEN
        PERFORM savings_break('interest_posting_fits',
            'interest is posted once, as the sum of its days, by a transaction of its amount to the plan');
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER interest_posting_fits AFTER INSERT ON savings_interestposting
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION savings_postings_fit();
CREATE TRIGGER interest_posting_never_changed BEFORE UPDATE OR DELETE ON savings_interestposting
    FOR EACH STATEMENT EXECUTE FUNCTION florin_refuse(
        'interest_posting_never_changed', 'interest that was posted stays as it was written');
CREATE TRIGGER interest_posting_never_truncated BEFORE TRUNCATE ON savings_interestposting
    FOR EACH STATEMENT EXECUTE FUNCTION florin_refuse(
        'interest_posting_never_truncated', 'interest that was posted is kept');

-- The book of a tenant's interest goes forward.
CREATE FUNCTION savings_book_rules() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.tenant_id <> OLD.tenant_id OR NEW.accrued_to < OLD.accrued_to OR NEW.posted_to < OLD.posted_to
       OR NEW.posted_to > NEW.accrued_to THEN
        PERFORM savings_break('interest_book_goes_forward', 'days that were accrued or posted stay so');
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER interest_book_rules BEFORE UPDATE ON savings_interestbook
    FOR EACH ROW EXECUTE FUNCTION savings_book_rules();
CREATE TRIGGER interest_book_never_deleted BEFORE DELETE ON savings_interestbook
    FOR EACH STATEMENT EXECUTE FUNCTION florin_refuse(
        'interest_book_never_deleted', 'how far interest was worked out is kept');
CREATE TRIGGER interest_book_never_truncated BEFORE TRUNCATE ON savings_interestbook
    FOR EACH STATEMENT EXECUTE FUNCTION florin_refuse(
        'interest_book_never_truncated', 'how far interest was worked out is kept');

-- An early release: of a locked plan, asked for by one, decided once.
CREATE FUNCTION savings_release_rules() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.status <> 'requested' THEN
            PERFORM savings_break('early_release_is_requested_first', 'a release is asked for, then decided');
        END IF;
        IF NOT EXISTS (SELECT FROM savings_savingsplan p
                        WHERE p.id = NEW.plan_id AND p.tenant_id = NEW.tenant_id
                          AND p.kind = 'date_locked' AND p.status = 'active') THEN
            PERFORM savings_break('early_release_of_a_locked_plan', 'only a locked plan is released');
        END IF;
        RETURN NEW;
    END IF;
    IF OLD.status <> 'requested' OR
       (NEW.id, NEW.tenant_id, NEW.plan_id, NEW.reason, NEW.requested_by, NEW.requested_at)
       IS DISTINCT FROM
       (OLD.id, OLD.tenant_id, OLD.plan_id, OLD.reason, OLD.requested_by, OLD.requested_at) THEN
        PERFORM savings_break('early_release_decided_once', 'a release is decided once, as it was asked for');
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER early_release_rules BEFORE INSERT OR UPDATE ON savings_earlyrelease
    FOR EACH ROW EXECUTE FUNCTION savings_release_rules();
-- What was agreed is done in the same transaction: no agreement is left over for a later lock.
CREATE FUNCTION savings_release_takes_effect() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM savings_savingsplan p WHERE p.id = NEW.plan_id AND p.status <> 'closed') THEN
        PERFORM savings_break('early_release_closes_the_plan',
                              'a plan that is released is paid out and closed');
    END IF;
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER early_release_closes_the_plan AFTER UPDATE OF status ON savings_earlyrelease
    DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.status = 'approved')
    EXECUTE FUNCTION savings_release_takes_effect();
CREATE TRIGGER early_release_never_deleted BEFORE DELETE ON savings_earlyrelease
    FOR EACH STATEMENT EXECUTE FUNCTION florin_refuse(
        'early_release_never_deleted', 'who asked for a release, and who decided, is kept');
CREATE TRIGGER early_release_never_truncated BEFORE TRUNCATE ON savings_earlyrelease
    FOR EACH STATEMENT EXECUTE FUNCTION florin_refuse(
        'early_release_never_truncated', 'who asked for a release, and who decided, is kept');

SELECT florin_guard('savings_savingsplan'), florin_guard('savings_interestbook'),
       florin_guard('savings_interestaccrual'), florin_guard('savings_interestposting'),
       florin_guard('savings_earlyrelease');
