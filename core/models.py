"""Tables of the kernel: outbox, audit trail, answers kept for repeated requests, runs of jobs."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django_celery_beat.models import PeriodicTask


class OutboxEvent(models.Model):
    """
    A domain event, written in the transaction of the change it tells of. A relay delivers it.

    Narrow on purpose: one row a posting. The relay reads `resource_id` for the rest, since ledger
    rows never change; `payload` is for events whose resource does.
    """

    id = models.BigAutoField(primary_key=True)
    tenant_id = models.UUIDField()
    # "<resource>.<past participle>", such as transfer.posted.
    event_type = models.CharField(max_length=64)
    resource_id = models.UUIDField()
    payload = models.JSONField(null=True)
    created_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.event_type} {self.resource_id}"


class IdempotencyRecord(models.Model):
    """
    The finished answer to a POST, kept with the effect in one database transaction.

    Postings need none: their key is unique on the ledger's own row.
    """

    id = models.BigAutoField(primary_key=True)
    tenant_id = models.UUIDField()
    # A customer's has their id before it.
    key = models.CharField(max_length=300)
    # SHA-256 of method, path, actor and body.
    fingerprint = models.BinaryField(max_length=32)
    status = models.PositiveSmallIntegerField(null=True)
    body = models.JSONField(null=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="idempotency_key_unique_in_tenant", fields=["tenant_id", "key"]
            ),
        ]
        indexes = [models.Index(name="idempotency_purge_idx", fields=["created_at"])]

    def __str__(self) -> str:
        return f"idempotency key {self.key}"


class AuditRecord(models.Model):
    """
    Who changed what, when, from where. Written with the change, never altered (trigger), sealed
    into the chain of AuditBlock.

    What postings do is in their own rows, which carry the same names (`actor_id` ...).
    """

    id = models.BigAutoField(primary_key=True)
    # None: a change that belongs to no tenant.
    tenant_id = models.UUIDField(null=True)
    # As the event's type: account.frozen.
    action = models.CharField(max_length=64)
    # See core.caller.
    actor_id = models.CharField(max_length=64)
    object_id = models.UUIDField(null=True)
    # Of a change made to many at once: 10,000 accounts opened are one record.
    object_ids = ArrayField(models.UUIDField(), null=True)
    # The fields that changed; no secrets, ever.
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    reason = models.CharField(max_length=500, default="")
    request_id = models.CharField(max_length=100, default="")
    address = models.GenericIPAddressField(null=True)
    created_at = models.DateTimeField()

    class Meta:
        verbose_name = "audit record"
        indexes = [
            models.Index(name="audit_list_idx", fields=["tenant_id", "id"]),
            models.Index(name="audit_object_idx", fields=["object_id", "id"]),
            models.Index(
                name="audit_request_idx", fields=["request_id"], condition=~models.Q(request_id="")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.object_id or ''}".strip()


class AuditBlock(models.Model):
    """
    A link of the audit chain: the digests of rows that existed when it was sealed.

    `hash` covers all else and the hash of the block before, so that no row of an earlier block can
    change, go, or be put in, without every later block changing too.
    """

    # From 1, without gaps.
    number = models.BigIntegerField(primary_key=True)
    # Which rows: a key of core.sealing.streams().
    stream = models.CharField(max_length=32)
    previous_hash = models.BinaryField(max_length=32)
    row_ids = ArrayField(models.CharField(max_length=36))
    # One SHA-256 a row, in the same order, end to end.
    row_digests = models.BinaryField()
    hash = models.BinaryField(max_length=32)
    sealed_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(name="audit_chain_never_forks", fields=["previous_hash"]),
        ]

    def __str__(self) -> str:
        return f"block {self.number}"


class SealCursor(models.Model):
    """How far a follower has read, see core.following: of what is sealed, with the block."""

    stream = models.CharField(primary_key=True, max_length=32)
    # The highest number that was looked at.
    position = models.BigIntegerField(default=0)
    # Numbers up to there that nobody had seen: of transactions that were open, or were undone.
    # [first, last, seen at (seconds), transaction id that all suspects precede].
    gaps = models.JSONField(default=list)

    def __str__(self) -> str:
        return f"{self.stream} at {self.position}"


class JobRun(models.Model):
    """
    A run of a task: begun here before it begins, so that one that kills its worker is counted.

    waiting → running → succeeded | failed | lost | dead; a job (see core.runs), which was asked for
    and must be done, goes from running back to waiting until its attempts are used up.
    """

    class Status(models.TextChoices):
        # To be sent to a worker at next_attempt_at; again, if it was tried before.
        WAITING = "waiting"
        RUNNING = "running"
        SUCCEEDED = "succeeded"
        # A tick only: the next tick is its retry.
        FAILED = "failed"
        # A tick only: its worker has gone.
        LOST = "lost"
        # A job only: it is a dead letter.
        DEAD = "dead"

    id = models.BigAutoField(primary_key=True)
    # Celery's.
    task_id = models.CharField(max_length=64)
    task = models.CharField(max_length=128)
    # JSON of {"args": [...], "kwargs": {...}}, as text: what jsonb refuses (NUL) stays as it was.
    arguments = models.TextField()
    # False: the arguments held a secret, which is not kept, and they cannot be sent again.
    is_replayable = models.BooleanField(default=True)
    # Known from an argument of that name; None: it works for all tenants.
    tenant_id = models.UUIDField(null=True)
    is_tick = models.BooleanField()
    status = models.CharField(max_length=10, choices=Status)
    # Begun so often, and how often at most.
    attempts = models.PositiveSmallIntegerField(default=0)
    attempts_max = models.PositiveSmallIntegerField()
    # Sent to a worker so often since it was begun last.
    sends = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True)
    # "<host>:<process id>".
    worker = models.CharField(max_length=128, default="")
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    # When its worker's process last said that it lives.
    alive_at = models.DateTimeField(null=True)
    # When the task last said how far it is; at first, when it began.
    heartbeat_at = models.DateTimeField(null=True)
    # How long it may go without a heartbeat.
    silence_limit_s = models.PositiveIntegerField(default=0)
    stuck_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    done = models.PositiveBigIntegerField(null=True)
    total = models.PositiveBigIntegerField(null=True)
    # What it returned, shortened.
    result = models.CharField(max_length=200, default="")
    # "<class>: <message>" of the last failure.
    error = models.CharField(max_length=500, default="")

    class Meta:
        verbose_name = "job run"
        constraints = [
            models.UniqueConstraint(name="job_run_once", fields=["task_id"]),
            models.CheckConstraint(
                name="job_run_status_known",
                condition=models.Q(
                    status__in=("waiting", "running", "succeeded", "failed", "lost", "dead")
                ),
            ),
            models.CheckConstraint(
                name="job_run_waiting_is_due",
                condition=models.Q(status="waiting", next_attempt_at__isnull=False)
                | ~models.Q(status="waiting") & models.Q(next_attempt_at=None),
            ),
            models.CheckConstraint(
                name="job_run_running_has_worker",
                condition=~models.Q(status="running")
                | models.Q(
                    attempts__gt=0,
                    started_at__isnull=False,
                    alive_at__isnull=False,
                    heartbeat_at__isnull=False,
                ),
            ),
            models.CheckConstraint(
                name="job_run_ended_has_end",
                condition=models.Q(status__in=("waiting", "running"), finished_at=None)
                | ~models.Q(status__in=("waiting", "running"))
                & models.Q(finished_at__isnull=False),
            ),
            models.CheckConstraint(
                name="job_run_done_within_total",
                condition=models.Q(done=None)
                | models.Q(total=None)
                | models.Q(done__lte=models.F("total")),
            ),
        ]
        indexes = [
            models.Index(
                name="job_run_due_idx",
                fields=["next_attempt_at"],
                condition=models.Q(next_attempt_at__isnull=False),
            ),
            models.Index(
                name="job_run_running_idx",
                fields=["alive_at"],
                condition=models.Q(status="running"),
            ),
            models.Index(
                name="job_run_purge_idx",
                fields=["finished_at"],
                condition=models.Q(finished_at__isnull=False),
            ),
            models.Index(name="job_run_task_idx", fields=["task", "id"]),
        ]

    def __str__(self) -> str:
        return f"{self.task} {self.task_id}"


class JobState(models.Model):
    """How a task went lately, one row a task: what a view of late ticks reads."""

    task = models.CharField(primary_key=True, max_length=128)
    last_began_at = models.DateTimeField(null=True)
    # To the second, about: a tick that is rung for ten times in one writes once.
    last_succeeded_at = models.DateTimeField(null=True)
    last_failed_at = models.DateTimeField(null=True)
    failures_in_row = models.PositiveIntegerField(default=0)

    def __str__(self) -> str:
        return self.task


class DeadLetter(models.Model):
    """
    Work that was given up: a person replays it, or discards it and says why.

    waiting → replayed | discarded | recovered, once (trigger). One waits for each task and
    arguments, and counts what fails again; `recovered` is a tick that has succeeded since.
    """

    class Status(models.TextChoices):
        WAITING = "waiting"
        REPLAYED = "replayed"
        DISCARDED = "discarded"
        RECOVERED = "recovered"

    id = models.UUIDField(primary_key=True)
    tenant_id = models.UUIDField(null=True)
    task = models.CharField(max_length=128)
    # Celery's, of the run that failed last.
    task_id = models.CharField(max_length=64)
    # As JobRun's, but without secrets.
    arguments = models.TextField()
    # SHA-256 of task and arguments, as they were.
    fingerprint = models.BinaryField(max_length=32)
    is_tick = models.BooleanField()
    # False: the arguments held a secret, and what is left of them cannot be sent again.
    is_replayable = models.BooleanField()
    error_class = models.CharField(max_length=200)
    error_message = models.CharField(max_length=2000)
    traceback = models.TextField()
    # A tick: failures since the letter was written, and those before in a row. A job: its attempts.
    failures = models.PositiveIntegerField()
    first_failed_at = models.DateTimeField()
    last_failed_at = models.DateTimeField()
    status = models.CharField(max_length=10, choices=Status, default=Status.WAITING)
    reason = models.CharField(max_length=500, default="")
    # See core.caller; empty for a recovery.
    decided_by = models.CharField(max_length=64, default="")
    decided_at = models.DateTimeField(null=True)
    # Celery's, of the run that it was replayed as.
    replay_task_id = models.CharField(max_length=64, default="")

    class Meta:
        verbose_name = "dead letter"
        constraints = [
            models.UniqueConstraint(
                name="dead_letter_one_waiting",
                fields=["fingerprint"],
                condition=models.Q(status="waiting"),
            ),
            models.CheckConstraint(
                name="dead_letter_decided_by_somebody",
                condition=models.Q(status="waiting", decided_at=None, decided_by="", reason="")
                | models.Q(status="recovered", decided_at__isnull=False)
                | models.Q(status="replayed", decided_at__isnull=False)
                & ~models.Q(decided_by="")
                & ~models.Q(replay_task_id="")
                | models.Q(status="discarded", decided_at__isnull=False)
                & ~models.Q(decided_by="")
                & ~models.Q(reason=""),
            ),
            models.CheckConstraint(
                name="dead_letter_failed",
                condition=models.Q(failures__gt=0, last_failed_at__gte=models.F("first_failed_at")),
            ),
        ]
        indexes = [
            models.Index(name="dead_letter_task_idx", fields=["task", "id"]),
            models.Index(
                name="dead_letter_waiting_idx",
                fields=["id"],
                condition=models.Q(status="waiting"),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.task}, {self.error_class}"


class FailureNotice(models.Model):
    """An e-mail about what failed, at most one a task and hour; what fails meanwhile is counted."""

    class Status(models.TextChoices):
        WAITING = "waiting"
        SENT = "sent"
        FAILED = "failed"

    id = models.BigAutoField(primary_key=True)
    task = models.CharField(max_length=128)
    # What it tells of; of several, the last.
    words = models.CharField(max_length=2000)
    failures = models.PositiveIntegerField(default=1)
    status = models.CharField(max_length=10, choices=Status, default=Status.WAITING)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True)
    last_error = models.CharField(max_length=300, default="")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="failure_notice_one_waiting",
                fields=["task"],
                condition=models.Q(status="waiting"),
            ),
            models.CheckConstraint(
                name="failure_notice_sent_once",
                condition=models.Q(status="waiting", next_attempt_at__isnull=False, sent_at=None)
                | models.Q(status="sent", next_attempt_at=None, sent_at__isnull=False)
                | models.Q(status="failed", next_attempt_at=None, sent_at=None),
            ),
        ]
        indexes = [models.Index(name="failure_notice_sent_idx", fields=["task", "sent_at"])]

    def __str__(self) -> str:
        return f"{self.task}: {self.status}"


class ScheduledTask(PeriodicTask):  # type: ignore[misc]  # the package has no types
    """A line of beat's schedule, under our own name in the back office."""

    class Meta:
        proxy = True
        verbose_name = "scheduled task"

    def __str__(self) -> str:
        return str(self.name)
