-- What no code path may do to runs of jobs and to dead letters. docs/invariants.md lists the rules.

CREATE TRIGGER job_run_ends_once BEFORE UPDATE ON core_jobrun FOR EACH ROW
    WHEN (OLD.finished_at IS NOT NULL)
    EXECUTE FUNCTION florin_refuse('job_run_ends_once', 'a run that has ended stays as it ended');

CREATE TRIGGER dead_letter_begins_waiting BEFORE INSERT ON core_deadletter FOR EACH ROW
    WHEN (NEW.status <> 'waiting')
    EXECUTE FUNCTION florin_refuse('dead_letter_begins_waiting', 'a dead letter begins as waiting');
CREATE TRIGGER dead_letter_decided_once BEFORE UPDATE ON core_deadletter FOR EACH ROW
    WHEN (OLD.status <> 'waiting')
    EXECUTE FUNCTION florin_refuse('dead_letter_decided_once', 'a dead letter is decided once');
CREATE TRIGGER dead_letter_never_rewritten BEFORE UPDATE ON core_deadletter FOR EACH ROW
    WHEN ((OLD.id, OLD.tenant_id, OLD.task, OLD.arguments, OLD.fingerprint, OLD.is_tick,
           OLD.is_replayable, OLD.first_failed_at)
          IS DISTINCT FROM
          (NEW.id, NEW.tenant_id, NEW.task, NEW.arguments, NEW.fingerprint, NEW.is_tick,
           NEW.is_replayable, NEW.first_failed_at)
          OR NEW.failures < OLD.failures)
    EXECUTE FUNCTION florin_refuse('dead_letter_never_rewritten', 'a dead letter stays what it is');
CREATE TRIGGER dead_letter_waiting_is_kept BEFORE DELETE ON core_deadletter FOR EACH ROW
    WHEN (OLD.status = 'waiting')
    EXECUTE FUNCTION florin_refuse('dead_letter_waiting_is_kept', 'a dead letter waits for a person');
CREATE TRIGGER dead_letters_never_truncated BEFORE TRUNCATE ON core_deadletter FOR EACH STATEMENT
    EXECUTE FUNCTION florin_refuse('dead_letters_never_truncated', 'a dead letter waits for a person');

CREATE TRIGGER failure_notice_ends_once BEFORE UPDATE ON core_failurenotice FOR EACH ROW
    WHEN (OLD.status <> 'waiting')
    EXECUTE FUNCTION florin_refuse('failure_notice_ends_once', 'a notice is sent once');

SELECT florin_guard('core_jobrun'), florin_guard('core_deadletter');
