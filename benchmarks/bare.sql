-- What Florin is measured against: the same tables and indexes without a rule, and functions that
-- check nothing, know no idempotency and write no outbox.
DROP SCHEMA IF EXISTS bare CASCADE;
CREATE SCHEMA bare;
CREATE TABLE bare.account (
    LIKE accounts_account INCLUDING DEFAULTS INCLUDING STORAGE INCLUDING INDEXES
) WITH (fillfactor = 70);
CREATE TABLE bare.transaction (LIKE ledger_transaction INCLUDING DEFAULTS INCLUDING INDEXES);
CREATE TABLE bare.entry (LIKE ledger_entry INCLUDING DEFAULTS INCLUDING INDEXES);
INSERT INTO bare.account SELECT * FROM accounts_account;

-- One transfer: two updates, three inserts.
CREATE FUNCTION bare.transfer(
    p_tenant uuid, p_id uuid, p_source uuid, p_destination uuid, p_amount bigint, p_currency text
) RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    v_source record;
    v_destination record;
BEGIN
    PERFORM FROM bare.account WHERE id IN (p_source, p_destination) ORDER BY id FOR NO KEY UPDATE;
    UPDATE bare.account SET balance = balance - p_amount, entry_count = entry_count + 1
     WHERE id = p_source RETURNING balance, entry_count INTO v_source;
    UPDATE bare.account SET balance = balance + p_amount, entry_count = entry_count + 1
     WHERE id = p_destination RETURNING balance, entry_count INTO v_destination;
    INSERT INTO bare.transaction (
        id, tenant_id, type, currency, amount, legs, description, value_date, metadata, created_at)
    VALUES (p_id, p_tenant, 'transfer', p_currency, p_amount, 2, '', current_date, '{}', now());
    INSERT INTO bare.entry (
        tenant_id, account_id, sequence, transaction_id, leg, currency, amount, balance_after,
        created_at)
    VALUES (p_tenant, p_source, v_source.entry_count, p_id, 0, p_currency, -p_amount,
            v_source.balance, now());
    INSERT INTO bare.entry (
        tenant_id, account_id, sequence, transaction_id, leg, currency, amount, balance_after,
        created_at)
    VALUES (p_tenant, p_destination, v_destination.entry_count, p_id, 1, p_currency, p_amount,
            v_destination.balance, now());
    RETURN p_id;
END
$$;

-- Many transfers, set-based.
CREATE FUNCTION bare.transfer_batch(
    p_tenant uuid, p_ids uuid[], p_sources uuid[], p_destinations uuid[], p_amounts bigint[],
    p_currency text
) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM bare.account WHERE id = ANY (p_sources || p_destinations)
      ORDER BY id FOR NO KEY UPDATE;
    INSERT INTO bare.transaction (
        id, tenant_id, type, currency, amount, legs, description, value_date, metadata, created_at)
    SELECT id, p_tenant, 'transfer', p_currency, amount, 2, '', current_date, '{}', now()
      FROM unnest(p_ids, p_amounts) t(id, amount);
    WITH legs AS (
        SELECT t.id, 0 AS leg, t.source AS account, -t.amount AS amount, t.n
          FROM unnest(p_ids, p_sources, p_amounts) WITH ORDINALITY t(id, source, amount, n)
        UNION ALL
        SELECT t.id, 1, t.destination, t.amount, t.n
          FROM unnest(p_ids, p_destinations, p_amounts) WITH ORDINALITY t(id, destination, amount, n)
    ), entries AS (
        INSERT INTO bare.entry (
            tenant_id, account_id, sequence, transaction_id, leg, currency, amount, balance_after,
            created_at)
        SELECT p_tenant, l.account, a.entry_count + row_number() OVER w, l.id, l.leg, p_currency,
               l.amount, a.balance + sum(l.amount) OVER w, now()
          FROM legs l JOIN bare.account a ON a.id = l.account
        WINDOW w AS (PARTITION BY l.account ORDER BY l.n)
    )
    UPDATE bare.account a
       SET balance = a.balance + s.amount, entry_count = a.entry_count + s.n
      FROM (SELECT account, sum(amount) AS amount, count(*) AS n FROM legs GROUP BY account) s
     WHERE a.id = s.account;
    RETURN cardinality(p_ids);
END
$$;
