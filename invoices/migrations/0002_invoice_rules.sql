-- What no code path may do to what customers owe and have paid. docs/invariants.md lists the rules with
-- the tests that attack them.

-- Numbers: counted here and nowhere else, so that no path skips one or gives one twice. Whoever takes
-- one holds the series until the end of the transaction: a number that is not used goes back.
CREATE FUNCTION invoices_next_number(p_tenant_id uuid, p_kind text, p_at timestamptz) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    v_year int;
    v_last int;
BEGIN
    SELECT extract(year FROM p_at AT TIME ZONE t.time_zone) INTO v_year
      FROM identity_tenant t WHERE t.id = p_tenant_id;
    INSERT INTO invoices_numberseries AS s (tenant_id, kind, year, last)
    VALUES (p_tenant_id, p_kind, v_year, 1)
    ON CONFLICT (tenant_id, kind, year) DO UPDATE SET last = s.last + 1
    RETURNING last INTO v_last;
    RETURN format('%s-%s-%s', p_kind, v_year, lpad(v_last::text, greatest(6, length(v_last::text)), '0'));
END
$$;
CREATE FUNCTION invoices_series_rules() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- 1 is a statement of somebody's; 2 and more, a statement of a trigger.
    IF pg_trigger_depth() < 2 OR TG_OP = 'UPDATE' AND (
            NEW.last <> OLD.last + 1
            OR (NEW.tenant_id, NEW.kind, NEW.year) IS DISTINCT FROM (OLD.tenant_id, OLD.kind, OLD.year)) THEN
        PERFORM payments_break('series_counted_by_triggers', 'numbers are counted by the database');
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER series_rules BEFORE INSERT OR UPDATE ON invoices_numberseries
    FOR EACH ROW EXECUTE FUNCTION invoices_series_rules();
CREATE TRIGGER series_never_deleted BEFORE DELETE ON invoices_numberseries FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('series_never_deleted', 'numbers are counted for ever');
CREATE TRIGGER series_never_truncated BEFORE TRUNCATE ON invoices_numberseries FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('series_never_truncated', 'numbers are counted for ever');

-- Invoices.
CREATE FUNCTION invoices_invoice_begins() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status <> 'draft' OR NEW.number IS NOT NULL
       OR (NEW.paid_amount, NEW.credited_amount, NEW.refunded_amount, NEW.overpaid_amount) <> (0, 0, 0, 0)
    THEN
        PERFORM payments_break('invoice_begins_as_draft', 'an invoice begins as a draft');
    END IF;
    IF NEW.parent_id IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM invoices_invoice p
         WHERE p.id = NEW.parent_id AND p.tenant_id = NEW.tenant_id AND p.currency = NEW.currency
           AND p.number IS NOT NULL) THEN
        PERFORM payments_break('invoice_supplements_its_own',
                               'a supplementary invoice is its tenant''s, in its parent''s currency');
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER invoice_begins BEFORE INSERT ON invoices_invoice
    FOR EACH ROW EXECUTE FUNCTION invoices_invoice_begins();

CREATE FUNCTION invoices_invoice_rules() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_due bigint := NEW.total_amount - NEW.credited_amount - NEW.paid_amount + NEW.refunded_amount;
    v_kept bigint := NEW.paid_amount - NEW.refunded_amount;
BEGIN
    IF (NEW.id, NEW.tenant_id, NEW.currency, NEW.token, NEW.parent_id, NEW.created_at)
       IS DISTINCT FROM
       (OLD.id, OLD.tenant_id, OLD.currency, OLD.token, OLD.parent_id, OLD.created_at)
       OR OLD.number IS NOT NULL AND
       (NEW.number, NEW.tax_rounding, NEW.fee_mode, NEW.fee_percent, NEW.fee_fixed, NEW.subtotal_amount,
        NEW.total_tax_amount, NEW.total_service_fee_amount, NEW.total_amount, NEW.customer_key,
        NEW.customer_reference, NEW.customer_name, NEW.customer_address, NEW.settlement_account_id,
        NEW.external_id, NEW.has_schedule, NEW.finalized_at)
       IS DISTINCT FROM
       (OLD.number, OLD.tax_rounding, OLD.fee_mode, OLD.fee_percent, OLD.fee_fixed, OLD.subtotal_amount,
        OLD.total_tax_amount, OLD.total_service_fee_amount, OLD.total_amount, OLD.customer_key,
        OLD.customer_reference, OLD.customer_name, OLD.customer_address, OLD.settlement_account_id,
        OLD.external_id, OLD.has_schedule, OLD.finalized_at)
    THEN
        PERFORM payments_break('invoice_never_rewritten', 'an invoice with a number stays as it is');
    END IF;
    IF NEW.status <> OLD.status AND (OLD.status, NEW.status) NOT IN (
        ('draft', 'pending'), ('draft', 'voided'),
        ('pending', 'partially_paid'), ('pending', 'fully_paid'), ('pending', 'failed'),
        ('pending', 'expired'), ('pending', 'voided'),
        ('partially_paid', 'fully_paid'), ('partially_paid', 'failed'), ('partially_paid', 'refunded'),
        -- Charged back, or paid back.
        ('partially_paid', 'pending'), ('fully_paid', 'partially_paid'), ('fully_paid', 'pending'),
        ('fully_paid', 'refunded'),
        -- Opened again by staff; paid late.
        ('failed', 'pending'), ('failed', 'partially_paid'), ('failed', 'fully_paid'),
        ('failed', 'expired'), ('failed', 'voided'), ('failed', 'refunded'),
        ('expired', 'pending'), ('expired', 'voided'),
        -- What was paid went back, and the rest was credited.
        ('pending', 'refunded'))
    THEN
        PERFORM payments_break('invoice_moves_as_it_may',
                               format('an invoice does not go from %s to %s', OLD.status, NEW.status));
    END IF;
    IF NOT (CASE NEW.status
            WHEN 'draft' THEN (NEW.paid_amount, NEW.credited_amount, NEW.overpaid_amount) = (0, 0, 0)
            WHEN 'pending' THEN v_kept = 0 AND v_due > 0
            WHEN 'partially_paid' THEN v_kept > 0 AND v_due > 0
            WHEN 'fully_paid' THEN v_kept > 0 AND v_due = 0
            WHEN 'failed' THEN v_due > 0
            WHEN 'refunded' THEN v_kept = 0 AND v_due = 0 AND NEW.paid_amount > 0
            -- Voided and expired.
            ELSE v_kept = 0 END) THEN
        PERFORM payments_break('invoice_status_tells_amounts',
                               format('%s is not what the amounts say', NEW.status));
    END IF;
    IF NEW.number IS DISTINCT FROM OLD.number THEN
        PERFORM payments_break('invoice_number_by_series', 'the database gives the number');
    END IF;
    IF OLD.status = 'draft' AND NEW.status = 'pending' THEN
        IF (NEW.subtotal_amount, NEW.total_tax_amount) <>
           (SELECT coalesce(sum(l.subtotal_amount), 0), coalesce(sum(l.tax_amount), 0)
              FROM invoices_lineitem l WHERE l.invoice_id = NEW.id) THEN
            PERFORM payments_break('invoice_is_sum_of_lines', 'subtotal and tax are those of its lines');
        END IF;
        IF (NEW.subtotal_amount, NEW.total_tax_amount, NEW.total_service_fee_amount) <>
           (SELECT coalesce(sum(i.net_amount), 0), coalesce(sum(i.tax_amount), 0),
                   coalesce(sum(i.service_fee_amount), 0)
              FROM invoices_installment i WHERE i.invoice_id = NEW.id) THEN
            PERFORM payments_break('invoice_is_sum_of_installments', 'its installments are all of it');
        END IF;
        NEW.number := invoices_next_number(NEW.tenant_id, 'INV', NEW.finalized_at);
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER invoice_rules BEFORE UPDATE ON invoices_invoice
    FOR EACH ROW EXECUTE FUNCTION invoices_invoice_rules();
CREATE TRIGGER invoice_never_deleted BEFORE DELETE ON invoices_invoice FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('invoice_never_deleted', 'invoices are kept for ever');
CREATE TRIGGER invoice_never_truncated BEFORE TRUNCATE ON invoices_invoice FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('invoice_never_truncated', 'invoices are kept for ever');

-- At commit, since the posting follows: what is owed is in the books, and what is owed no more is not.
CREATE FUNCTION invoices_invoice_was_posted() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_invoice invoices_invoice;
BEGIN
    -- As it is now: one transaction may have moved it twice.
    SELECT * INTO v_invoice FROM invoices_invoice i WHERE i.id = NEW.id;
    IF v_invoice.transaction_id IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM ledger_transaction t
         WHERE t.id = v_invoice.transaction_id AND t.tenant_id = v_invoice.tenant_id AND t.type = 'invoice'
           AND t.currency = v_invoice.currency AND t.amount = v_invoice.total_amount) THEN
        PERFORM payments_break('invoice_was_posted', 'what an invoice claims is posted');
    END IF;
    -- What ends because credit notes left nothing of it was taken out by them.
    IF v_invoice.number IS NOT NULL
       AND (v_invoice.status IN ('voided', 'expired') AND v_invoice.credited_amount < v_invoice.total_amount) <> EXISTS (
        SELECT 1 FROM ledger_transaction t
         WHERE t.tenant_id = v_invoice.tenant_id AND t.reverses_id = v_invoice.transaction_id) THEN
        PERFORM payments_break('invoice_was_unposted_iff_ended',
                               'an invoice that ends unpaid is taken out of the books, and no other');
    END IF;
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER invoice_was_posted AFTER UPDATE ON invoices_invoice
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN (NEW.status <> OLD.status OR NEW.transaction_id IS DISTINCT FROM OLD.transaction_id)
    EXECUTE FUNCTION invoices_invoice_was_posted();

-- Lines: of drafts only. By statement: an invoice of a thousand lines is written in one.
CREATE FUNCTION invoices_lines_of_drafts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- FOR SHARE: a draft that is being finalised has its lines.
    PERFORM 1 FROM invoices_invoice i
      WHERE i.id IN (SELECT l.invoice_id FROM touched l) FOR SHARE;
    IF EXISTS (SELECT 1 FROM touched l JOIN invoices_invoice i ON i.id = l.invoice_id
                WHERE i.status <> 'draft' OR i.tenant_id <> l.tenant_id) THEN
        PERFORM payments_break('lines_stay_once_numbered', 'the lines of an invoice with a number stay');
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER lines_added AFTER INSERT ON invoices_lineitem REFERENCING NEW TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION invoices_lines_of_drafts();
CREATE TRIGGER lines_removed AFTER DELETE ON invoices_lineitem REFERENCING OLD TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION invoices_lines_of_drafts();
CREATE TRIGGER lines_never_changed BEFORE UPDATE ON invoices_lineitem FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('lines_never_changed', 'lines are written anew, not changed');
CREATE TRIGGER lines_never_truncated BEFORE TRUNCATE ON invoices_lineitem FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('lines_never_truncated', 'lines are kept for ever');

-- Installments: made and unmade with drafts; later only what is unpaid is adjusted.
CREATE TRIGGER installments_added AFTER INSERT ON invoices_installment REFERENCING NEW TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION invoices_lines_of_drafts();
CREATE TRIGGER installments_removed AFTER DELETE ON invoices_installment REFERENCING OLD TABLE AS touched
    FOR EACH STATEMENT EXECUTE FUNCTION invoices_lines_of_drafts();
CREATE FUNCTION invoices_installment_rules() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (NEW.id, NEW.tenant_id, NEW.invoice_id, NEW.number, NEW.token)
       IS DISTINCT FROM (OLD.id, OLD.tenant_id, OLD.invoice_id, OLD.number, OLD.token)
       OR (OLD.paid_amount, OLD.credited_amount) <> (0, 0) AND
       (NEW.due_date, NEW.amount, NEW.net_amount, NEW.tax_amount, NEW.service_fee_amount)
       IS DISTINCT FROM
       (OLD.due_date, OLD.amount, OLD.net_amount, OLD.tax_amount, OLD.service_fee_amount) THEN
        PERFORM payments_break('installment_stays_once_paid', 'what was paid on is not adjusted');
    END IF;
    IF (NEW.paid_amount, NEW.credited_amount) <> (0, 0) AND EXISTS (
        SELECT 1 FROM invoices_invoice i WHERE i.id = NEW.invoice_id AND i.number IS NULL) THEN
        PERFORM payments_break('installment_of_a_draft_is_unpaid', 'nothing is paid on a draft');
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER installment_rules BEFORE UPDATE ON invoices_installment
    FOR EACH ROW EXECUTE FUNCTION invoices_installment_rules();
CREATE TRIGGER installment_begins_unpaid BEFORE INSERT ON invoices_installment FOR EACH ROW
    WHEN (NEW.paid_amount <> 0 OR NEW.credited_amount <> 0)
    EXECUTE FUNCTION florin_refuse('installment_begins_unpaid', 'an installment begins as unpaid');
CREATE TRIGGER installments_never_truncated BEFORE TRUNCATE ON invoices_installment FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('installments_never_truncated', 'installments are kept for ever');

-- At commit: an invoice's figures are the sums of what they are figures of.
CREATE FUNCTION invoices_books_agree(p_invoice_id uuid) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_invoice invoices_invoice;
    v_received record;
    v_installments record;
BEGIN
    SELECT * INTO v_invoice FROM invoices_invoice i WHERE i.id = p_invoice_id;
    IF v_invoice.number IS NULL THEN
        RETURN;
    END IF;
    SELECT coalesce(sum(r.applied_amount - r.reversed_amount), 0) AS paid,
           coalesce(sum(r.refunded_amount), 0) AS refunded
      INTO v_received FROM invoices_receipt r WHERE r.invoice_id = p_invoice_id;
    IF (v_invoice.paid_amount, v_invoice.refunded_amount) <> (v_received.paid, v_received.refunded) THEN
        PERFORM payments_break('invoice_paid_is_receipts', 'what was paid is what was received');
    END IF;
    IF v_invoice.overpaid_amount <> (SELECT coalesce(sum(c.amount), 0) FROM invoices_credit c
                                      WHERE c.invoice_id = p_invoice_id) THEN
        PERFORM payments_break('invoice_overpaid_is_credit', 'what was overpaid is credit');
    END IF;
    IF (v_invoice.credited_amount, v_invoice.refunded_amount) <>
       (SELECT coalesce(sum(n.amount), 0), coalesce(sum(n.refund_amount), 0)
          FROM invoices_creditnote n WHERE n.invoice_id = p_invoice_id) THEN
        PERFORM payments_break('invoice_credited_by_notes', 'what was credited is in credit notes');
    END IF;
    SELECT sum(i.net_amount) AS net, sum(i.tax_amount) AS tax, sum(i.service_fee_amount) AS fee,
           sum(i.paid_amount) AS paid, sum(i.credited_amount) AS credited
      INTO v_installments FROM invoices_installment i WHERE i.invoice_id = p_invoice_id;
    IF (v_installments.net, v_installments.tax, v_installments.fee, v_installments.paid,
        v_installments.credited)
       IS DISTINCT FROM
       (v_invoice.subtotal_amount::numeric, v_invoice.total_tax_amount::numeric,
        v_invoice.total_service_fee_amount::numeric, v_invoice.paid_amount::numeric,
        (v_invoice.credited_amount - v_invoice.refunded_amount)::numeric) THEN
        PERFORM payments_break('invoice_is_its_installments', 'the installments are all of the invoice');
    END IF;
END
$$;
CREATE FUNCTION invoices_invoice_books() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM invoices_books_agree(NEW.id);
    RETURN NULL;
END
$$;
CREATE FUNCTION invoices_part_books() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM invoices_books_agree(NEW.invoice_id);
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER invoice_books AFTER UPDATE ON invoices_invoice
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
    WHEN ((NEW.paid_amount, NEW.credited_amount, NEW.refunded_amount, NEW.overpaid_amount)
          <> (OLD.paid_amount, OLD.credited_amount, OLD.refunded_amount, OLD.overpaid_amount))
    EXECUTE FUNCTION invoices_invoice_books();
CREATE CONSTRAINT TRIGGER installment_books AFTER UPDATE ON invoices_installment
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION invoices_part_books();
CREATE CONSTRAINT TRIGGER receipt_books AFTER INSERT OR UPDATE ON invoices_receipt
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION invoices_part_books();
CREATE CONSTRAINT TRIGGER credit_books AFTER INSERT ON invoices_credit
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION invoices_part_books();
CREATE CONSTRAINT TRIGGER credit_note_books AFTER INSERT ON invoices_creditnote
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION invoices_part_books();

-- Receipts.
CREATE FUNCTION invoices_receipt_rules() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NOT EXISTS (
            SELECT 1 FROM invoices_invoice i
             WHERE i.id = NEW.invoice_id AND i.tenant_id = NEW.tenant_id
               AND payments_was_posted(
                   NEW.transaction_id, NEW.tenant_id,
                   CASE NEW.kind WHEN 'credit' THEN 'credit_use' ELSE 'invoice_payment' END,
                   i.currency, NULL, NEW.amount)) THEN
            PERFORM payments_break('receipt_was_posted', 'what was received is posted');
        END IF;
        RETURN NEW;
    END IF;
    IF (NEW.id, NEW.tenant_id, NEW.invoice_id, NEW.kind, NEW.method, NEW.payment_id, NEW.amount,
        NEW.applied_amount, NEW.split, NEW.reference, NEW.received_on, NEW.transaction_id,
        NEW.idempotency_key, NEW.request_fingerprint, NEW.created_at)
       IS DISTINCT FROM
       (OLD.id, OLD.tenant_id, OLD.invoice_id, OLD.kind, OLD.method, OLD.payment_id, OLD.amount,
        OLD.applied_amount, OLD.split, OLD.reference, OLD.received_on, OLD.transaction_id,
        OLD.idempotency_key, OLD.request_fingerprint, OLD.created_at)
       OR NEW.reversed_amount < OLD.reversed_amount OR NEW.refunded_amount < OLD.refunded_amount THEN
        PERFORM payments_break('receipt_never_rewritten', 'a receipt says what was received');
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER receipt_rules BEFORE INSERT OR UPDATE ON invoices_receipt
    FOR EACH ROW EXECUTE FUNCTION invoices_receipt_rules();
CREATE TRIGGER receipt_never_deleted BEFORE DELETE ON invoices_receipt FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('receipt_never_deleted', 'receipts are kept for ever');
CREATE TRIGGER receipt_never_truncated BEFORE TRUNCATE ON invoices_receipt FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('receipt_never_truncated', 'receipts are kept for ever');

-- Credit and its uses.
CREATE FUNCTION invoices_credit_rules() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.used_amount <> 0 OR NOT payments_was_posted(
            NEW.transaction_id, NEW.tenant_id, 'invoice_allocation', NEW.currency, NULL, NEW.amount)
           OR NOT EXISTS (SELECT 1 FROM invoices_receipt r
                           WHERE r.id = NEW.receipt_id AND r.invoice_id = NEW.invoice_id) THEN
            PERFORM payments_break('credit_was_posted', 'credit is money that is posted');
        END IF;
    ELSIF (NEW.id, NEW.tenant_id, NEW.invoice_id, NEW.receipt_id, NEW.customer_key, NEW.currency,
           NEW.amount, NEW.transaction_id, NEW.created_at)
          IS DISTINCT FROM
          (OLD.id, OLD.tenant_id, OLD.invoice_id, OLD.receipt_id, OLD.customer_key, OLD.currency,
           OLD.amount, OLD.transaction_id, OLD.created_at) THEN
        PERFORM payments_break('credit_never_rewritten', 'credit stays what it was');
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER credit_rules BEFORE INSERT OR UPDATE ON invoices_credit
    FOR EACH ROW EXECUTE FUNCTION invoices_credit_rules();
CREATE TRIGGER credit_never_deleted BEFORE DELETE ON invoices_credit FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('credit_never_deleted', 'credit is used, not deleted');
CREATE TRIGGER credit_never_truncated BEFORE TRUNCATE ON invoices_credit FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('credit_never_truncated', 'credit is used, not deleted');

CREATE FUNCTION invoices_credit_use_rules() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.is_undone OR NOT EXISTS (
            SELECT 1 FROM invoices_credit c
             WHERE c.id = NEW.credit_id AND c.tenant_id = NEW.tenant_id
               AND payments_was_posted(NEW.transaction_id, NEW.tenant_id, 'credit_use', c.currency,
                                       NULL, -NEW.amount)) THEN
            PERFORM payments_break('credit_use_was_posted', 'what is used of a credit is posted');
        END IF;
    ELSIF (NEW.id, NEW.tenant_id, NEW.credit_id, NEW.kind, NEW.amount, NEW.receipt_id, NEW.refund_id,
           NEW.transaction_id, NEW.idempotency_key, NEW.request_fingerprint, NEW.created_at)
          IS DISTINCT FROM
          (OLD.id, OLD.tenant_id, OLD.credit_id, OLD.kind, OLD.amount, OLD.receipt_id, OLD.refund_id,
           OLD.transaction_id, OLD.idempotency_key, OLD.request_fingerprint, OLD.created_at)
          OR OLD.is_undone THEN
        PERFORM payments_break('credit_use_never_rewritten', 'what was used of a credit stays used');
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER credit_use_rules BEFORE INSERT OR UPDATE ON invoices_credituse
    FOR EACH ROW EXECUTE FUNCTION invoices_credit_use_rules();
CREATE TRIGGER credit_use_never_deleted BEFORE DELETE ON invoices_credituse FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('credit_use_never_deleted', 'uses of credit are kept for ever');
CREATE TRIGGER credit_use_never_truncated BEFORE TRUNCATE ON invoices_credituse FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('credit_use_never_truncated', 'uses of credit are kept for ever');
CREATE FUNCTION invoices_credit_used(p_credit_id uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT c.used_amount FROM invoices_credit c WHERE c.id = p_credit_id)
       <> (SELECT coalesce(sum(u.amount), 0) FROM invoices_credituse u
            WHERE u.credit_id = p_credit_id AND NOT u.is_undone) THEN
        PERFORM payments_break('credit_used_is_uses', 'what is used of a credit is its uses');
    END IF;
END
$$;
CREATE FUNCTION invoices_credit_at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM invoices_credit_used(NEW.id);
    RETURN NULL;
END
$$;
CREATE FUNCTION invoices_credit_use_at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM invoices_credit_used(NEW.credit_id);
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER credit_at_commit AFTER UPDATE ON invoices_credit
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION invoices_credit_at_commit();
CREATE CONSTRAINT TRIGGER credit_use_at_commit AFTER INSERT OR UPDATE ON invoices_credituse
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION invoices_credit_use_at_commit();

-- Credit notes.
CREATE FUNCTION invoices_credit_note_begins() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (
        SELECT 1 FROM invoices_invoice i
         WHERE i.id = NEW.invoice_id AND i.tenant_id = NEW.tenant_id AND i.currency = NEW.currency
           AND i.number IS NOT NULL
           AND payments_was_posted(NEW.transaction_id, NEW.tenant_id, 'credit_note', NEW.currency, NULL,
                                   NEW.amount)) THEN
        PERFORM payments_break('credit_note_was_posted', 'a credit note is posted');
    END IF;
    IF NEW.number <> '' THEN
        PERFORM payments_break('credit_note_number_by_series', 'the database gives the number');
    END IF;
    NEW.number := invoices_next_number(NEW.tenant_id, 'CN', NEW.created_at);
    RETURN NEW;
END
$$;
CREATE TRIGGER credit_note_begins BEFORE INSERT ON invoices_creditnote
    FOR EACH ROW EXECUTE FUNCTION invoices_credit_note_begins();
CREATE TRIGGER credit_note_never_changed BEFORE UPDATE OR DELETE ON invoices_creditnote
    FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('credit_note_never_changed', 'a credit note stays as it is');
CREATE TRIGGER credit_note_never_truncated BEFORE TRUNCATE ON invoices_creditnote FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('credit_note_never_truncated', 'credit notes are kept for ever');

CREATE FUNCTION invoices_credit_note_refund_rules() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NOT EXISTS (
            SELECT 1 FROM invoices_receipt r
              JOIN invoices_creditnote n ON n.invoice_id = r.invoice_id
             WHERE r.id = NEW.receipt_id AND n.id = NEW.credit_note_id
               AND r.tenant_id = NEW.tenant_id) THEN
            PERFORM payments_break('credit_note_refund_by_own_receipt',
                                   'it goes back by a receipt of its invoice');
        END IF;
        RETURN NEW;
    END IF;
    IF (NEW.id, NEW.tenant_id, NEW.credit_note_id, NEW.receipt_id, NEW.amount, NEW.refund_id,
        NEW.created_at)
       IS DISTINCT FROM
       (OLD.id, OLD.tenant_id, OLD.credit_note_id, OLD.receipt_id, OLD.amount, OLD.refund_id,
        OLD.created_at)
       OR NEW.status <> OLD.status AND OLD.status <> 'pending' THEN
        PERFORM payments_break('credit_note_refund_ends_once', 'a refund ends once');
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER credit_note_refund_rules BEFORE INSERT OR UPDATE ON invoices_creditnoterefund
    FOR EACH ROW EXECUTE FUNCTION invoices_credit_note_refund_rules();
CREATE TRIGGER credit_note_refund_never_deleted BEFORE DELETE ON invoices_creditnoterefund
    FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('credit_note_refund_never_deleted', 'refunds are kept for ever');
CREATE TRIGGER credit_note_refund_never_truncated BEFORE TRUNCATE ON invoices_creditnoterefund
    FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('credit_note_refund_never_truncated', 'refunds are kept for ever');
CREATE FUNCTION invoices_credit_note_is_refunded() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_note_id uuid := CASE TG_TABLE_NAME WHEN 'invoices_creditnote' THEN to_jsonb(NEW)->>'id'
                           ELSE to_jsonb(NEW)->>'credit_note_id' END;
BEGIN
    IF (SELECT n.refund_amount FROM invoices_creditnote n WHERE n.id = v_note_id)
       <> (SELECT coalesce(sum(r.amount), 0) FROM invoices_creditnoterefund r
            WHERE r.credit_note_id = v_note_id) THEN
        PERFORM payments_break('credit_note_is_refunded', 'what a credit note pays back has its ways');
    END IF;
    RETURN NULL;
END
$$;
CREATE CONSTRAINT TRIGGER credit_note_at_commit AFTER INSERT ON invoices_creditnote
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION invoices_credit_note_is_refunded();
CREATE CONSTRAINT TRIGGER credit_note_refund_at_commit AFTER INSERT ON invoices_creditnoterefund
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION invoices_credit_note_is_refunded();

-- Checkouts: an invoice is paid as a whole or by installments, not both at once.
CREATE FUNCTION invoices_checkout_begins() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Two that begin at once wait for each other here.
    PERFORM 1 FROM invoices_invoice i WHERE i.id = NEW.invoice_id FOR NO KEY UPDATE;
    IF NEW.is_active AND EXISTS (
        SELECT 1 FROM invoices_checkout c
         WHERE c.invoice_id = NEW.invoice_id AND c.is_active
           AND (c.installment_id IS NULL) <> (NEW.installment_id IS NULL)) THEN
        PERFORM payments_break('checkout_of_all_or_of_parts', 'all of it is being paid, or a part');
    END IF;
    IF NOT EXISTS (
        SELECT 1 FROM payments_payment p JOIN invoices_invoice i ON i.id = NEW.invoice_id
         WHERE p.id = NEW.payment_id AND p.tenant_id = NEW.tenant_id AND i.tenant_id = NEW.tenant_id
           AND p.purpose = 'invoice' AND p.amount = NEW.amount AND p.currency = i.currency) THEN
        PERFORM payments_break('checkout_has_its_payment', 'a checkout asks for what its payment asks');
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER checkout_begins BEFORE INSERT ON invoices_checkout
    FOR EACH ROW EXECUTE FUNCTION invoices_checkout_begins();
CREATE TRIGGER checkout_only_ends BEFORE UPDATE ON invoices_checkout FOR EACH ROW
    WHEN (NEW.is_active AND NOT OLD.is_active
          OR (NEW.id, NEW.tenant_id, NEW.invoice_id, NEW.installment_id, NEW.attempt, NEW.amount,
              NEW.payment_id, NEW.created_at)
             IS DISTINCT FROM
             (OLD.id, OLD.tenant_id, OLD.invoice_id, OLD.installment_id, OLD.attempt, OLD.amount,
              OLD.payment_id, OLD.created_at))
    EXECUTE FUNCTION florin_refuse('checkout_only_ends', 'an attempt is made once, and ends');
CREATE TRIGGER checkout_never_deleted BEFORE DELETE ON invoices_checkout FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('checkout_never_deleted', 'attempts are kept for ever');
CREATE TRIGGER checkout_never_truncated BEFORE TRUNCATE ON invoices_checkout FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('checkout_never_truncated', 'attempts are kept for ever');

-- E-mails: written, then sent once.
CREATE TRIGGER mailing_sent_once BEFORE UPDATE ON invoices_mailing FOR EACH ROW
    WHEN (OLD.status = 'sent' OR (NEW.id, NEW.tenant_id, NEW.invoice_id, NEW.kind, NEW.subject_id,
                                  NEW."to", NEW.unique_key, NEW.created_at)
                                 IS DISTINCT FROM
                                 (OLD.id, OLD.tenant_id, OLD.invoice_id, OLD.kind, OLD.subject_id,
                                  OLD."to", OLD.unique_key, OLD.created_at))
    EXECUTE FUNCTION florin_refuse('mailing_sent_once', 'an e-mail is sent once, as it was written');

SELECT florin_guard('invoices_invoicesettings'), florin_guard('invoices_numberseries'),
       florin_guard('invoices_invoice'), florin_guard('invoices_lineitem'),
       florin_guard('invoices_installment'), florin_guard('invoices_receipt'),
       florin_guard('invoices_credit'), florin_guard('invoices_credituse'),
       florin_guard('invoices_creditnote'), florin_guard('invoices_creditnoterefund'),
       florin_guard('invoices_checkout'), florin_guard('invoices_mailing'),
       florin_guard('invoices_dailyfigures');
