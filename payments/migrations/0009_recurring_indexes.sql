-- Fewer and smaller indexes: each run rewrites all that its payment is in. A database that was made
-- while 0006 already had these has nothing to change, and gets the same again.
ALTER TABLE payments_recurringpayment DROP CONSTRAINT IF EXISTS recurring_external_id_unique;
DROP INDEX IF EXISTS recurring_external_id_unique;
CREATE UNIQUE INDEX recurring_external_id_unique ON payments_recurringpayment (tenant_id, external_id)
    WHERE external_id IS NOT NULL;

ALTER TABLE payments_recurringrun DROP CONSTRAINT IF EXISTS recurring_run_once_a_time;
DROP INDEX IF EXISTS recurring_run_once_a_time;
-- Its list backwards is served by this one.
DROP INDEX IF EXISTS recurring_run_list_idx;
ALTER TABLE payments_recurringrun ADD CONSTRAINT recurring_run_once_a_time
    UNIQUE NULLS NOT DISTINCT (recurring_payment_id, scheduled_for, trigger_transaction_id);
