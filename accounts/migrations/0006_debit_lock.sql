-- The posting engine takes an account's own time where the server's clock lags behind it, and an
-- entry may say any time: a lock goes by the server's clock alone. A posting pays for one comparison.
CREATE TRIGGER account_locked_for_debits BEFORE UPDATE OF balance ON accounts_account
    FOR EACH ROW WHEN (NEW.balance < OLD.balance AND OLD.debit_locked_until > clock_timestamp())
    EXECUTE FUNCTION florin_refuse('account_locked_for_debits', 'the account takes no debits for now');
