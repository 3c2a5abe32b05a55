-- The rules of payments as they are in 0002, but that the deposit is of the kind that the purpose has.

CREATE OR REPLACE FUNCTION payments_payment_rules() RETURNS trigger LANGUAGE plpgsql AS $$
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
        NEW.transaction_id, NEW.tenant_id,
        -- Of a purpose without a posting of its own, nothing is a deposit.
        CASE NEW.purpose WHEN 'topup' THEN 'topup' WHEN 'invoice' THEN 'invoice_payment' END,
        NEW.currency, NEW.account_id, NEW.amount)
    THEN
        PERFORM payments_break('payment_deposit_was_posted',
                               'the deposit is a posting of this amount to this account, of the payment''s kind');
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
