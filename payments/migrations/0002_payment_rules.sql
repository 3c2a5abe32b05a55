-- What no code path may do to money on its way in or out. docs/invariants.md lists the rules with the
-- tests that attack them.

-- Whether a transaction of the ledger moved this much, of this kind, to or from the account.
CREATE FUNCTION payments_was_posted(
    p_transaction_id uuid, p_tenant_id uuid, p_type text, p_currency text, p_account_id uuid, p_amount bigint
) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT 1
          FROM ledger_transaction t
          JOIN ledger_entry e ON e.transaction_id = t.id
         WHERE t.id = p_transaction_id AND t.tenant_id = p_tenant_id AND t.type = p_type
           AND t.currency = p_currency
           AND (p_account_id IS NULL OR e.account_id = p_account_id) AND e.amount = p_amount)
$$;

CREATE FUNCTION payments_break(p_rule text, p_words text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%', p_words USING ERRCODE = 'check_violation', CONSTRAINT = p_rule;
END
$$;

-- Gateways: what a configuration is never changes, and a tenant's enabled ones are of one mode.
CREATE FUNCTION payments_gateway_rules() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND (NEW.id, NEW.tenant_id, NEW.gateway, NEW.mode, NEW.created_at)
            IS DISTINCT FROM (OLD.id, OLD.tenant_id, OLD.gateway, OLD.mode, OLD.created_at) THEN
        PERFORM payments_break('gateway_never_rewritten', 'a gateway keeps what it is');
    END IF;
    IF TG_OP = 'UPDATE' AND OLD.deleted_at IS NOT NULL
       AND NEW.deleted_at IS DISTINCT FROM OLD.deleted_at THEN
        PERFORM payments_break('gateway_deleted_for_good', 'a deleted gateway stays deleted');
    END IF;
    IF NEW.is_enabled THEN
        -- Two that are enabled at once wait for each other here.
        PERFORM 1 FROM identity_tenant WHERE id = NEW.tenant_id FOR NO KEY UPDATE;
        IF EXISTS (SELECT 1 FROM payments_gatewayconfiguration g
                    WHERE g.tenant_id = NEW.tenant_id AND g.id <> NEW.id AND g.is_enabled
                      AND g.mode <> NEW.mode) THEN
            PERFORM payments_break('gateway_modes_never_mix',
                                   'test and live gateways are never enabled together');
        END IF;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER gateway_rules BEFORE INSERT OR UPDATE ON payments_gatewayconfiguration
    FOR EACH ROW EXECUTE FUNCTION payments_gateway_rules();
CREATE TRIGGER gateway_never_deleted BEFORE DELETE ON payments_gatewayconfiguration
    FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('gateway_never_deleted', 'payments refer to gateways');

-- Payments.
CREATE FUNCTION payments_payment_rules() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.id, NEW.tenant_id, NEW.purpose, NEW.account_id, NEW.amount, NEW.currency, NEW.method,
        NEW.idempotency_key, NEW.request_fingerprint, NEW.created_at)
       IS DISTINCT FROM
       (OLD.id, OLD.tenant_id, OLD.purpose, OLD.account_id, OLD.amount, OLD.currency, OLD.method,
        OLD.idempotency_key, OLD.request_fingerprint, OLD.created_at)
    THEN
        PERFORM payments_break('payment_never_rewritten', 'a payment keeps what was asked for');
    END IF;
    -- Another gateway or another reference: only while no gateway has it.
    IF (NEW.configuration_id, NEW.reference, NEW.attempt)
            IS DISTINCT FROM (OLD.configuration_id, OLD.reference, OLD.attempt)
       AND NOT (OLD.status IN ('created', 'failed') AND NEW.status = 'created'
                AND OLD.gateway_payment_id = '') THEN
        PERFORM payments_break('payment_stays_with_gateway',
                               'a payment that a gateway has seen stays with it');
    END IF;
    IF NEW.status <> OLD.status AND (OLD.status, NEW.status) NOT IN (
        ('created', 'pending'), ('created', 'unknown'), ('created', 'paid'), ('created', 'failed'),
        ('created', 'expired'),
        ('pending', 'unknown'), ('pending', 'paid'), ('pending', 'failed'), ('pending', 'expired'),
        ('unknown', 'pending'), ('unknown', 'paid'), ('unknown', 'failed'), ('unknown', 'expired'),
        ('paid', 'deposited'), ('paid', 'deposit_pending'), ('paid', 'reversed'),
        ('paid', 'refunding'),
        ('deposit_pending', 'deposited'), ('deposit_pending', 'refunding'),
        ('deposit_pending', 'reversed'),
        ('refunding', 'refunded'), ('refunding', 'deposit_pending'), ('refunding', 'reversed'),
        ('deposited', 'refunded'), ('deposited', 'reversed'),
        -- Sent again after the gateway could not be reached; paid late.
        ('failed', 'created'), ('failed', 'paid'), ('expired', 'paid'))
    THEN
        PERFORM payments_break('payment_moves_forward',
                               format('a payment does not go from %s to %s', OLD.status, NEW.status));
    END IF;
    IF OLD.transaction_id IS NOT NULL AND NEW.transaction_id IS DISTINCT FROM OLD.transaction_id
       OR OLD.reversal_transaction_id IS NOT NULL
          AND NEW.reversal_transaction_id IS DISTINCT FROM OLD.reversal_transaction_id
    THEN
        PERFORM payments_break('payment_posted_once', 'a payment is deposited and reversed once');
    END IF;
    IF NEW.transaction_id IS NOT NULL AND OLD.transaction_id IS NULL AND NOT payments_was_posted(
        NEW.transaction_id, NEW.tenant_id, 'topup', NEW.currency, NEW.account_id, NEW.amount)
    THEN
        PERFORM payments_break('payment_deposit_was_posted',
                               'the deposit is a posting of this amount to this account');
    END IF;
    -- What was taken back and what was paid back are never more than was paid.
    IF NEW.reversal_transaction_id IS NOT NULL AND OLD.reversal_transaction_id IS NULL AND NOT EXISTS (
        SELECT 1 FROM ledger_transaction t
         WHERE t.id = NEW.reversal_transaction_id AND t.tenant_id = NEW.tenant_id
           AND t.type = 'chargeback' AND t.currency = NEW.currency
           AND t.amount + coalesce((SELECT sum(r.amount) FROM payments_refund r
                                     WHERE r.payment_id = NEW.id AND r.status <> 'failed'), 0)
               <= NEW.amount)
    THEN
        PERFORM payments_break('payment_reversal_was_posted',
                               'a reversal is a posting of what is left of the payment');
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER payment_rules BEFORE UPDATE ON payments_payment
    FOR EACH ROW EXECUTE FUNCTION payments_payment_rules();
CREATE TRIGGER payment_begins_at_the_beginning BEFORE INSERT ON payments_payment
    FOR EACH ROW WHEN (NEW.status <> 'created' OR NEW.transaction_id IS NOT NULL
                       OR NEW.refunded_amount <> 0)
    EXECUTE FUNCTION florin_refuse('payment_begins_at_the_beginning', 'a payment begins as created');
CREATE TRIGGER payment_never_deleted BEFORE DELETE ON payments_payment FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('payment_never_deleted', 'payments are kept for ever');
CREATE TRIGGER payment_never_truncated BEFORE TRUNCATE ON payments_payment FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('payment_never_truncated', 'payments are kept for ever');

-- Refunds: those of a payment never exceed it.
CREATE FUNCTION payments_refund_within_payment() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_payment record;
BEGIN
    -- Twins wait for each other here.
    SELECT amount, currency, tenant_id, status INTO v_payment
      FROM payments_payment WHERE id = NEW.payment_id FOR NO KEY UPDATE;
    IF v_payment.currency <> NEW.currency OR v_payment.tenant_id <> NEW.tenant_id
       OR v_payment.status IN ('failed', 'expired', 'refunded', 'reversed')
       OR (SELECT sum(r.amount) FROM payments_refund r
            WHERE r.payment_id = NEW.payment_id AND r.status <> 'failed') > v_payment.amount THEN
        PERFORM payments_break('refund_within_payment', 'refunds never exceed what was paid');
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER refund_within_payment AFTER INSERT ON payments_refund
    FOR EACH ROW EXECUTE FUNCTION payments_refund_within_payment();

CREATE FUNCTION payments_refund_rules() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.id, NEW.tenant_id, NEW.payment_id, NEW.reference, NEW.amount, NEW.currency,
        NEW.idempotency_key, NEW.request_fingerprint, NEW.created_at, NEW.transaction_id)
       IS DISTINCT FROM
       (OLD.id, OLD.tenant_id, OLD.payment_id, OLD.reference, OLD.amount, OLD.currency,
        OLD.idempotency_key, OLD.request_fingerprint, OLD.created_at, OLD.transaction_id)
    THEN
        PERFORM payments_break('refund_never_rewritten', 'a refund keeps what was asked for');
    END IF;
    IF NEW.status <> OLD.status AND (OLD.status IN ('succeeded', 'failed') OR NEW.status = 'created')
    THEN
        PERFORM payments_break('refund_moves_forward',
                               format('a refund does not go from %s to %s', OLD.status, NEW.status));
    END IF;
    IF OLD.return_transaction_id IS NOT NULL
       AND NEW.return_transaction_id IS DISTINCT FROM OLD.return_transaction_id THEN
        PERFORM payments_break('refund_returned_once', 'a failed refund is given back once');
    END IF;
    IF NEW.return_transaction_id IS NOT NULL AND OLD.return_transaction_id IS NULL
       AND NOT payments_was_posted(NEW.return_transaction_id, NEW.tenant_id, 'refund_return',
                                   NEW.currency, NULL, NEW.amount) THEN
        PERFORM payments_break('refund_return_was_posted', 'what failed is given back by a posting');
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER refund_rules BEFORE UPDATE ON payments_refund
    FOR EACH ROW EXECUTE FUNCTION payments_refund_rules();
CREATE FUNCTION payments_refund_begins() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status <> 'created' OR NEW.return_transaction_id IS NOT NULL THEN
        PERFORM payments_break('refund_begins_at_the_beginning', 'a refund begins as created');
    END IF;
    IF (SELECT CASE WHEN p.transaction_id IS NULL THEN NEW.transaction_id IS NOT NULL
                    ELSE NOT payments_was_posted(NEW.transaction_id, NEW.tenant_id, 'refund',
                                                 NEW.currency, p.account_id, -NEW.amount) END
          FROM payments_payment p WHERE p.id = NEW.payment_id) THEN
        PERFORM payments_break('refund_was_debited',
                               'a refund of a deposited payment debits the account');
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER refund_begins BEFORE INSERT ON payments_refund
    FOR EACH ROW EXECUTE FUNCTION payments_refund_begins();
CREATE TRIGGER refund_never_deleted BEFORE DELETE ON payments_refund FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('refund_never_deleted', 'refunds are kept for ever');
CREATE TRIGGER refund_never_truncated BEFORE TRUNCATE ON payments_refund FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('refund_never_truncated', 'refunds are kept for ever');

-- Payouts.
CREATE FUNCTION payments_payout_rules() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.status <> 'pending' OR NEW.settlement_transaction_id IS NOT NULL THEN
            PERFORM payments_break('payout_begins_at_the_beginning', 'a payout begins as pending');
        END IF;
        IF NOT payments_was_posted(NEW.transaction_id, NEW.tenant_id, 'payout', NEW.currency,
                                   NEW.source_account_id, -NEW.amount) THEN
            PERFORM payments_break('payout_was_debited', 'a payout debits its source');
        END IF;
        RETURN NEW;
    END IF;
    IF (NEW.id, NEW.tenant_id, NEW.configuration_id, NEW.source_account_id, NEW.amount,
        NEW.currency, NEW.beneficiary_name, NEW.iban, NEW.account_number, NEW.bank_code,
        NEW.country, NEW.reference, NEW.transaction_id, NEW.idempotency_key,
        NEW.request_fingerprint, NEW.created_at)
       IS DISTINCT FROM
       (OLD.id, OLD.tenant_id, OLD.configuration_id, OLD.source_account_id, OLD.amount,
        OLD.currency, OLD.beneficiary_name, OLD.iban, OLD.account_number, OLD.bank_code,
        OLD.country, OLD.reference, OLD.transaction_id, OLD.idempotency_key,
        OLD.request_fingerprint, OLD.created_at)
       OR OLD.batch_id IS NOT NULL AND NEW.batch_id IS DISTINCT FROM OLD.batch_id
    THEN
        PERFORM payments_break('payout_never_rewritten', 'a payout keeps what was asked for');
    END IF;
    IF NEW.status <> OLD.status AND (OLD.status, NEW.status) NOT IN (
        ('pending', 'submitted'), ('pending', 'unknown'), ('pending', 'settled'),
        ('pending', 'failed'), ('pending', 'returned'),
        ('submitted', 'settled'), ('submitted', 'returned'), ('submitted', 'failed'),
        ('unknown', 'submitted'), ('unknown', 'settled'), ('unknown', 'failed'),
        ('unknown', 'returned'),
        -- Sent back after it had arrived.
        ('settled', 'returned'))
    THEN
        PERFORM payments_break('payout_moves_forward',
                               format('a payout does not go from %s to %s', OLD.status, NEW.status));
    END IF;
    IF OLD.settlement_transaction_id IS NOT NULL
       AND NEW.settlement_transaction_id IS DISTINCT FROM OLD.settlement_transaction_id
       OR OLD.return_transaction_id IS NOT NULL
       AND NEW.return_transaction_id IS DISTINCT FROM OLD.return_transaction_id
    THEN
        PERFORM payments_break('payout_posted_once', 'a payout settles and returns once');
    END IF;
    IF NEW.settlement_transaction_id IS NOT NULL AND OLD.settlement_transaction_id IS NULL
       AND NOT payments_was_posted(NEW.settlement_transaction_id, NEW.tenant_id,
                                   'payout_settlement', NEW.currency, NULL, NEW.amount)
       OR NEW.return_transaction_id IS NOT NULL AND OLD.return_transaction_id IS NULL
       AND NOT payments_was_posted(NEW.return_transaction_id, NEW.tenant_id, 'payout_return',
                                   NEW.currency, NULL, NEW.amount)
    THEN
        PERFORM payments_break('payout_end_was_posted', 'what ends a payout is a posting');
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER payout_rules BEFORE INSERT OR UPDATE ON payments_payout
    FOR EACH ROW EXECUTE FUNCTION payments_payout_rules();
CREATE TRIGGER payout_never_deleted BEFORE DELETE ON payments_payout FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('payout_never_deleted', 'payouts are kept for ever');
CREATE TRIGGER payout_never_truncated BEFORE TRUNCATE ON payments_payout FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('payout_never_truncated', 'payouts are kept for ever');

-- Files: what was sent to a bank, and what it sent, stays as it was.
CREATE TRIGGER payout_batch_never_rewritten BEFORE UPDATE ON payments_payoutbatch
    FOR EACH ROW WHEN (
        (NEW.id, NEW.tenant_id, NEW.configuration_id, NEW.message_id, NEW.currency,
         NEW.payout_count, NEW.total, NEW.document, NEW.created_at)
        IS DISTINCT FROM
        (OLD.id, OLD.tenant_id, OLD.configuration_id, OLD.message_id, OLD.currency,
         OLD.payout_count, OLD.total, OLD.document, OLD.created_at))
    EXECUTE FUNCTION florin_refuse('payout_batch_never_rewritten', 'a payout file never changes');
CREATE TRIGGER payout_batch_never_deleted BEFORE DELETE ON payments_payoutbatch FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('payout_batch_never_deleted', 'payout files are kept for ever');
CREATE TRIGGER payout_report_never_rewritten BEFORE UPDATE ON payments_payoutreportfile
    FOR EACH ROW WHEN (
        (NEW.id, NEW.tenant_id, NEW.message_id, NEW.kind, NEW.document, NEW.created_at)
        IS DISTINCT FROM
        (OLD.id, OLD.tenant_id, OLD.message_id, OLD.kind, OLD.document, OLD.created_at))
    EXECUTE FUNCTION florin_refuse('payout_report_never_rewritten', 'a bank''s report never changes');
CREATE TRIGGER payout_report_never_deleted BEFORE DELETE ON payments_payoutreportfile
    FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('payout_report_never_deleted', 'reports are kept for ever');

-- A discrepancy says what it said, and is resolved once.
CREATE TRIGGER discrepancy_never_rewritten BEFORE UPDATE ON payments_discrepancy
    FOR EACH ROW WHEN (
        (NEW.id, NEW.tenant_id, NEW.configuration_id, NEW.kind, NEW.object_type, NEW.object_id,
         NEW.reference, NEW.amount, NEW.currency, NEW.found_at)
        IS DISTINCT FROM
        (OLD.id, OLD.tenant_id, OLD.configuration_id, OLD.kind, OLD.object_type, OLD.object_id,
         OLD.reference, OLD.amount, OLD.currency, OLD.found_at))
    EXECUTE FUNCTION florin_refuse('discrepancy_never_rewritten', 'a discrepancy stays what it is');
CREATE TRIGGER discrepancy_never_deleted BEFORE DELETE ON payments_discrepancy FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('discrepancy_never_deleted', 'discrepancies are kept for ever');
CREATE TRIGGER discrepancy_resolved_once BEFORE UPDATE ON payments_discrepancy
    FOR EACH ROW WHEN (OLD.status = 'resolved')
    EXECUTE FUNCTION florin_refuse('discrepancy_resolved_once', 'a discrepancy is resolved once');

SELECT florin_guard('payments_gatewayconfiguration'), florin_guard('payments_payment'),
       florin_guard('payments_refund'), florin_guard('payments_payout'),
       florin_guard('payments_payoutbatch'), florin_guard('payments_payoutreportfile'),
       florin_guard('payments_discrepancy');
