"""Jobs in the back office: what is scheduled, what ran, what was given up and waits."""

import json
from typing import Any
from uuid import UUID

from celery import current_app
from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from core import dead_letters, schedule
from core.admin import (
    REASON_LENGTH_MAX,
    Act,
    BackOfficeAdmin,
    Done,
    ReasonForm,
    StandingFilter,
    badge,
    link_to,
    minute,
    panel_on,
    sees_every_tenant,
    staff_tenant_id,
)
from core.models import DeadLetter, FailureNotice, JobRun, JobState, ScheduledTask
from core.permissions import Permission
from core.redaction import redacted_text

TASK_SHOWN_MAX = 60
_SHOWN_OF_STATE = ("last_succeeded_at", "last_failed_at", "failures_in_row")


def _tenant_for(request: HttpRequest) -> UUID | None:
    """The tenant that the caller is held to; None for those who see all."""
    return None if sees_every_tenant(request) else staff_tenant_id(request)


# --- The schedule ------------------------------------------------------------------------------
class IntervalForm(ReasonForm):
    every_s = forms.IntegerField(
        label="Every so many seconds", min_value=1, max_value=schedule.EVERY_S_MAX
    )
    field_order = ("every_s", "reason")


class ChangeInterval(Act[ScheduledTask]):
    name, label, permission = "change-interval", "Change interval", Permission.MANAGE_JOBS
    warning = "Beat takes it up within seconds. What is due waits longer, or less long, for a look."

    def form(self, obj: ScheduledTask, data: Any) -> IntervalForm:
        return IntervalForm(data, initial={"every_s": schedule.every_s_of(obj)})

    def run(self, obj: ScheduledTask, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        schedule.change_scheduled_task(
            scheduled_id=obj.pk,
            every_s=cleaned["every_s"],
            reason=cleaned["reason"],
            now=timezone.now(),
        )
        return Done(f"Runs every {cleaned['every_s']} seconds from now on.")


class SwitchOff(Act[ScheduledTask]):
    name, label, permission = "switch-off", "Switch off", Permission.MANAGE_JOBS
    is_dangerous = True
    warning = "Nothing of its kind is done any more, until somebody switches it on again."

    def is_offered(self, obj: ScheduledTask) -> bool:
        return bool(obj.enabled)

    def run(self, obj: ScheduledTask, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        schedule.change_scheduled_task(
            scheduled_id=obj.pk, is_enabled=False, reason=cleaned["reason"], now=timezone.now()
        )
        return Done("Switched off.")


class SwitchOn(Act[ScheduledTask]):
    name, label, permission = "switch-on", "Switch on", Permission.MANAGE_JOBS
    warning = "Beat sends it again, by its interval."

    def is_offered(self, obj: ScheduledTask) -> bool:
        return not obj.enabled

    def run(self, obj: ScheduledTask, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        schedule.change_scheduled_task(
            scheduled_id=obj.pk, is_enabled=True, reason=cleaned["reason"], now=timezone.now()
        )
        return Done("Switched on.")


class RunNow(Act[ScheduledTask]):
    name, label, permission = "run-now", "Run now", Permission.MANAGE_JOBS
    warning = "A worker runs it once, beside its schedule. What was done is not done twice."

    def run(self, obj: ScheduledTask, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        schedule.run_scheduled_task(
            scheduled_id=obj.pk, reason=cleaned["reason"], now=timezone.now()
        )
        return Done("A worker runs it as soon as one is free: see the runs of jobs.")


class NewScheduledTaskForm(forms.Form):
    name = forms.CharField(max_length=100)
    task = forms.ChoiceField()
    every_s = forms.IntegerField(
        label="Every so many seconds", min_value=1, max_value=schedule.EVERY_S_MAX
    )
    kwargs = forms.CharField(
        label="Arguments",
        initial="{}",
        max_length=2_000,
        help_text="A JSON object, by name; ids and the like, no secrets.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        current_app.loader.import_default_modules()
        ours = sorted(name for name in current_app.tasks if not name.startswith("celery."))
        self.fields["task"] = forms.ChoiceField(choices=[(name, name) for name in ours])

    def clean_kwargs(self) -> dict[str, Any]:
        try:
            given = json.loads(self.cleaned_data["kwargs"])
        except (ValueError, RecursionError) as error:
            raise ValidationError("That is not JSON.") from error
        if not isinstance(given, dict):
            raise ValidationError("An object is needed, such as {}.")
        return given


@admin.register(ScheduledTask)
class ScheduledTaskAdmin(BackOfficeAdmin[ScheduledTask]):
    """For those who see every tenant: a schedule is everybody's."""

    view_permission = Permission.VIEW_JOBS
    add_permission = Permission.MANAGE_JOBS
    add_warning = "Beat sends it from now on. It can be switched off, and is never deleted."
    list_display = ("line", "interval_shown", "state", "sent", "succeeded")
    list_select_related = ("interval",)
    acts = (ChangeInterval(), RunNow(), SwitchOff(), SwitchOn())

    def get_queryset(self, request: HttpRequest) -> QuerySet[ScheduledTask]:
        state = JobState.objects.filter(pk=OuterRef("task"))
        rows: QuerySet[ScheduledTask] = ScheduledTask.objects.select_related("interval").annotate(
            **{f"state_{name}": Subquery(state.values(name)) for name in _SHOWN_OF_STATE}
        )
        return rows if sees_every_tenant(request) else rows.none()

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return sees_every_tenant(request) and super().has_view_permission(request, obj)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return sees_every_tenant(request) and super().has_add_permission(request)

    @admin.display(description="Scheduled task")
    def line(self, obj: ScheduledTask) -> SafeString:
        return format_html("{}<small>{}</small>", obj.name, obj.task)

    @admin.display(description="Every")
    def interval_shown(self, obj: ScheduledTask) -> str:
        return _interval_words(schedule.every_s_of(obj))

    @admin.display(description="State")
    def state(self, obj: ScheduledTask) -> SafeString:
        return _state(_line(obj))

    @admin.display(description="Sent")
    def sent(self, obj: ScheduledTask) -> SafeString:
        times = f"{obj.total_run_count:,} times"
        return format_html("{}<small>{}</small>", minute(obj.last_run_at), times)

    @admin.display(description="Last success")
    def succeeded(self, obj: ScheduledTask) -> str:
        return minute(_line(obj).last_succeeded_at)

    def heading(self, obj: ScheduledTask) -> str:
        return str(obj.name)

    def status(self, obj: ScheduledTask) -> SafeString:
        return _state(_line(obj))

    def figures(self, obj: ScheduledTask) -> list[tuple[str, str]]:
        line = _line(obj)
        return [
            ("Every", _interval_words(line.every_s)),
            ("Sent", f"{line.total_sent:,} times"),
            ("Failures in a row", f"{line.failures_in_row:,}"),
        ]

    def facts(self, obj: ScheduledTask) -> list[tuple[str, Any]]:
        line = _line(obj)
        return [
            ("Task", obj.task),
            ("Known to the workers", "" if _is_known(obj.task) else "No: there is no such task."),
            ("Arguments", obj.kwargs if obj.kwargs != "{}" else ""),
            ("Last sent", line.last_sent_at),
            ("Next", line.next_due_at),
            ("Last success", line.last_succeeded_at),
            ("Last failure", line.last_failed_at),
            ("After a success, pauses for", _interval_words(line.pause_s) if line.pause_s else ""),
            ("Changed", obj.date_changed),
        ]

    def new_form(self, request: HttpRequest, data: Any) -> NewScheduledTaskForm:
        return NewScheduledTaskForm(data)

    def make(self, request: HttpRequest, cleaned: dict[str, Any]) -> ScheduledTask:
        return schedule.add_scheduled_task(
            name=cleaned["name"],
            task=cleaned["task"],
            kwargs=cleaned["kwargs"],
            every_s=cleaned["every_s"],
            now=timezone.now(),
        )


def _line(obj: ScheduledTask) -> schedule.Line:
    # What the list has read along with it.
    state = {name: getattr(obj, f"state_{name}") for name in _SHOWN_OF_STATE}
    return schedule.line_of(
        obj, JobState(**{**state, "failures_in_row": state["failures_in_row"] or 0})
    )


def _state(line: schedule.Line) -> SafeString:
    if not line.is_enabled:
        return badge("off", "Off")
    if line.is_late(timezone.now()):
        return badge("late", "Late")
    return badge("failed", "Failing") if line.failures_in_row else badge("on_time", "On time")


def _is_known(task: str) -> bool:
    current_app.loader.import_default_modules()
    return task in current_app.tasks


def _interval_words(seconds: int | None) -> str:
    if seconds is None:
        return "by the clock"
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


# --- Runs --------------------------------------------------------------------------------------
@admin.register(JobRun)
class JobRunAdmin(BackOfficeAdmin[JobRun]):
    view_permission = Permission.VIEW_JOBS
    list_display = ("run", "status_badge", "progress_bar", "tries", "took")
    list_filter = ("status",)
    search_fields = ("pk",)
    search_help_text = "A whole task name, or the whole id of a run."

    def search(
        self, queryset: QuerySet[JobRun], text: str, found_id: UUID | None
    ) -> QuerySet[JobRun]:
        return queryset.filter(task_id=text) if found_id else queryset.filter(task=text)

    @admin.display(description="Run")
    def run(self, obj: JobRun) -> SafeString:
        return format_html("{}<small>{}</small>", obj.task[:TASK_SHOWN_MAX], obj.task_id)

    @admin.display(description="Status")
    def status_badge(self, obj: JobRun) -> SafeString:
        return format_html("{}<small>{}</small>", _run_badge(obj), obj.error[:TASK_SHOWN_MAX])

    @admin.display(description="Progress")
    def progress_bar(self, obj: JobRun) -> str:
        return _progress(obj)

    @admin.display(description="Attempts")
    def tries(self, obj: JobRun) -> int:
        return obj.attempts

    @admin.display(description="Began")
    def took(self, obj: JobRun) -> SafeString:
        return format_html("{}<small>{}</small>", minute(obj.started_at), _took(obj))

    def heading(self, obj: JobRun) -> str:
        return obj.task

    def status(self, obj: JobRun) -> SafeString:
        return _run_badge(obj)

    def figures(self, obj: JobRun) -> list[tuple[str, str]]:
        shown = [("Attempts", f"{obj.attempts} of {obj.attempts_max}")]
        if obj.started_at:
            shown.append(("Took", _took(obj)))
        if obj.done is not None:
            shown.append(("Progress", _progress(obj)))
        return shown

    def facts(self, obj: JobRun) -> list[tuple[str, Any]]:
        return [
            ("Error", obj.error),
            ("Result", obj.result),
            ("Arguments", obj.arguments),
            ("Kind", "tick" if obj.is_tick else "job"),
            ("Worker", obj.worker),
            ("Asked for", obj.created_at),
            ("Next attempt", obj.next_attempt_at),
            ("Began", obj.started_at),
            ("Worker last heard", obj.alive_at),
            ("Last heartbeat", obj.heartbeat_at),
            ("Stuck since", obj.stuck_at),
            ("Ended", obj.finished_at),
            ("Id", obj.task_id),
            ("Tenant", obj.tenant_id),
        ]


def _run_badge(run: JobRun) -> SafeString:
    return badge("stuck") if run.stuck_at and not run.finished_at else badge(run.status)


def _progress(run: JobRun) -> str:
    if run.done is None:
        return ""
    if not run.total:
        return f"{run.done:,}"
    context = {
        "done": run.done,
        "total": run.total,
        "words": f"{run.done:,} of {run.total:,}, {100 * run.done // run.total} %",
    }
    return render_to_string("admin/progress.html", context)


def _took(run: JobRun) -> str:
    if run.started_at is None:
        return ""
    until = run.finished_at or timezone.now()
    return f"{max(0.0, (until - run.started_at).total_seconds()):,.1f} s"


# --- Dead letters ------------------------------------------------------------------------------
class Replay(Act[DeadLetter]):
    name, label, permission = "replay", "Replay", Permission.MANAGE_JOBS
    warning = "A worker runs it again, with the same arguments. If it fails again, it is back here."

    def is_offered(self, obj: DeadLetter) -> bool:
        return obj.status == DeadLetter.Status.WAITING and obj.is_replayable

    def run(self, obj: DeadLetter, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        task_id = dead_letters.replay_letter(
            letter_id=obj.pk,
            reason=cleaned["reason"],
            tenant_id=_tenant_for(request),
            now=timezone.now(),
        )
        return Done(f"A worker runs it again, as {task_id}.")


class Discard(Act[DeadLetter]):
    name, label, permission = "discard", "Discard", Permission.MANAGE_JOBS
    is_dangerous = True
    warning = "It is given up for good: what it should have done is not done."

    def is_offered(self, obj: DeadLetter) -> bool:
        return obj.status == DeadLetter.Status.WAITING

    def run(self, obj: DeadLetter, request: HttpRequest, cleaned: dict[str, Any]) -> Done:
        dead_letters.discard_letter(
            letter_id=obj.pk,
            reason=cleaned["reason"][:REASON_LENGTH_MAX],
            tenant_id=_tenant_for(request),
            now=timezone.now(),
        )
        return Done("Discarded.")


class LetterFilter(StandingFilter):
    title, parameter_name, standing_label = "status", "status", "Waiting"

    def lookups(
        self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]
    ) -> list[tuple[str, str]]:
        return [("decided", "Decided"), ("all", "All")]

    def standing(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(status=DeadLetter.Status.WAITING)

    def others(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.exclude(status=DeadLetter.Status.WAITING)


@admin.register(DeadLetter)
class DeadLetterAdmin(BackOfficeAdmin[DeadLetter]):
    view_permission = Permission.VIEW_JOBS
    list_display = ("letter", "status_badge", "error", "failed", "last_failed")
    list_filter = (LetterFilter,)
    search_fields = ("pk",)
    search_help_text = "A whole id, or a whole task name."
    acts = (Replay(), Discard())

    def get_queryset(self, request: HttpRequest) -> QuerySet[DeadLetter]:
        return super().get_queryset(request).defer("traceback")

    def search(
        self, queryset: QuerySet[DeadLetter], text: str, found_id: UUID | None
    ) -> QuerySet[DeadLetter]:
        return queryset.filter(pk=found_id) if found_id else queryset.filter(task=text)

    @admin.display(description="Dead letter")
    def letter(self, obj: DeadLetter) -> SafeString:
        return format_html("{}<small>{}</small>", obj.task[:TASK_SHOWN_MAX], obj.pk)

    @admin.display(description="Status")
    def status_badge(self, obj: DeadLetter) -> SafeString:
        return badge(obj.status)

    @admin.display(description="Error")
    def error(self, obj: DeadLetter) -> SafeString:
        shown = obj.error_message[:TASK_SHOWN_MAX]
        return format_html("{}<small>{}</small>", obj.error_class, shown)

    @admin.display(description="Failures")
    def failed(self, obj: DeadLetter) -> int:
        return obj.failures

    @admin.display(description="Last")
    def last_failed(self, obj: DeadLetter) -> str:
        return minute(obj.last_failed_at)

    def heading(self, obj: DeadLetter) -> str:
        return obj.task

    def status(self, obj: DeadLetter) -> SafeString:
        return badge(obj.status)

    def figures(self, obj: DeadLetter) -> list[tuple[str, str]]:
        return [
            ("Failures", f"{obj.failures:,}"),
            ("First", minute(obj.first_failed_at)),
            ("Last", minute(obj.last_failed_at)),
        ]

    def facts(self, obj: DeadLetter) -> list[tuple[str, Any]]:
        return [
            ("Error", f"{obj.error_class}: {obj.error_message}"),
            ("Arguments", obj.arguments),
            (
                "Replay",
                "" if obj.is_replayable else "Not possible: a secret in them was not kept.",
            ),
            ("Kind", "tick" if obj.is_tick else "job"),
            ("Decided by", obj.decided_by),
            ("Decided", obj.decided_at),
            ("Reason", obj.reason),
            ("Run", _run_link(obj.task_id)),
            ("Replayed as", _run_link(obj.replay_task_id)),
            ("Id", obj.pk),
            ("Tenant", obj.tenant_id),
        ]


def _run_link(task_id: str) -> SafeString | str:
    run = JobRun.objects.filter(task_id=task_id).only("pk").first() if task_id else None
    return link_to(JobRun, run.pk, task_id) if run else task_id


@panel_on(DeadLetter)
def traceback_panel(request: HttpRequest, letter: DeadLetter) -> str:
    context = {"traceback": redacted_text(letter.traceback)}
    return render_to_string("admin/traceback_panel.html", context)


# --- Notices -----------------------------------------------------------------------------------
@admin.register(FailureNotice)
class FailureNoticeAdmin(BackOfficeAdmin[FailureNotice]):
    """For those who see every tenant: notices go to those who run Florin."""

    view_permission = Permission.VIEW_JOBS
    list_display = ("about", "status_badge", "failed", "written", "sent")
    list_filter = ("status",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[FailureNotice]:
        rows = FailureNotice.objects.all()
        return rows if sees_every_tenant(request) else rows.none()

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return sees_every_tenant(request) and super().has_view_permission(request, obj)

    @admin.display(description="Failure notice")
    def about(self, obj: FailureNotice) -> SafeString:
        return format_html("{}<small>{}</small>", obj.task, obj.words[:TASK_SHOWN_MAX])

    @admin.display(description="Status")
    def status_badge(self, obj: FailureNotice) -> SafeString:
        return badge(obj.status)

    @admin.display(description="Failures")
    def failed(self, obj: FailureNotice) -> int:
        return obj.failures

    @admin.display(description="Written")
    def written(self, obj: FailureNotice) -> str:
        return minute(obj.created_at)

    @admin.display(description="Sent")
    def sent(self, obj: FailureNotice) -> str:
        return minute(obj.sent_at)

    def heading(self, obj: FailureNotice) -> str:
        return obj.task

    def status(self, obj: FailureNotice) -> SafeString:
        return badge(obj.status)

    def facts(self, obj: FailureNotice) -> list[tuple[str, Any]]:
        return [
            ("Words", obj.words),
            ("Failures", obj.failures),
            ("Written", obj.created_at),
            ("Attempts", obj.attempts),
            ("Next attempt", obj.next_attempt_at),
            ("Sent", obj.sent_at),
            ("Last error", obj.last_error),
        ]
