-- The second line of tenancy: whoever reads as florin_reader sees one tenant's rows, or none.
--
-- The API's reads run under this role (core.database.reading_as). A query that forgets its tenant then
-- finds nothing of others', and a read that tries to write is refused. Writers, workers and the back
-- office do not: see docs/decisions/0011.

DO $$
BEGIN
    -- Roles belong to the whole cluster: another database of it, or somebody who may, has made this
    -- one. Whoever may not make roles is told so even where there is nothing to make.
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'florin_reader') THEN
        CREATE ROLE florin_reader NOLOGIN;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
    WHEN insufficient_privilege THEN
        RAISE EXCEPTION 'the role florin_reader is missing, and % may not create roles', current_user
            USING HINT = format('As a superuser: CREATE ROLE florin_reader NOLOGIN; '
                                'GRANT florin_reader TO %I WITH INHERIT FALSE, SET TRUE;', current_user);
END
$$;

DO $$
BEGIN
    IF NOT pg_has_role(current_user, 'florin_reader', 'SET') THEN
        -- Not inherited: policies for a role count for all who inherit it.
        EXECUTE format('GRANT florin_reader TO %I WITH INHERIT FALSE, SET TRUE', current_user);
    END IF;
END
$$;

GRANT USAGE ON SCHEMA public TO florin_reader;

-- Whether a row is of the tenant that the database transaction reads for; of none where none was named.
--
-- On purpose in a shape that no index serves. Our queries name their tenant themselves, and this only
-- looks at what they found. As an equality of columns the planner would start from it: without fresh
-- statistics it then reads all of a tenant's transactions for a page of fifty (docs/decisions/0011).
CREATE FUNCTION florin_is_own(p_tenant_id uuid) RETURNS boolean LANGUAGE sql STABLE
    RETURN coalesce(p_tenant_id::text = current_setting('florin.tenant_id', true), false);

-- Have a table guarded by the column that names its tenant. Each app calls it for its own, from a
-- migration.
CREATE FUNCTION florin_guard(p_table regclass, p_column text DEFAULT 'tenant_id') RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', p_table);
    -- What others may do, their grants say: an application's own role need not own the tables.
    EXECUTE format('CREATE POLICY as_granted ON %s USING (true) WITH CHECK (true)', p_table);
    EXECUTE format('CREATE POLICY own_tenant ON %s AS RESTRICTIVE FOR SELECT TO florin_reader'
                   ' USING (florin_is_own(%I))', p_table, p_column);
    EXECUTE format('GRANT SELECT ON %s TO florin_reader', p_table);
END
$$;

CREATE FUNCTION florin_unguard(p_table regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('REVOKE SELECT ON %s FROM florin_reader', p_table);
    EXECUTE format('DROP POLICY own_tenant ON %s', p_table);
    EXECUTE format('DROP POLICY as_granted ON %s', p_table);
    EXECUTE format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', p_table);
END
$$;

SELECT florin_guard('core_outboxevent'), florin_guard('core_idempotencyrecord'),
       florin_guard('core_auditrecord');
