"""Decides which messages a receiver is due: about new and worse problems, about those that last, and about recoveries."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from rosetta_dagster.alerts.problem import Message, Problem, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A problem that a receiver has been sent."""

    severity: Severity
    cause: str
    #: Seconds since the epoch.
    at: float
    is_event: bool = False


#: The problems that a receiver has been sent, by their names.
SentProblems: TypeAlias = Mapping[str, Sent]


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A message, and what its receiver has been sent once it has accepted it."""

    message: Message
    after: dict[str, Sent]


def due(
    problems: Iterable[Problem],
    sent: Mapping[str, SentProblems],
    *,
    least: Severity,
    repeat_seconds: float,
    now: float,
) -> list[Due]:
    """Return the messages that are due, one a subject. Problems below the severity `least` count as gone."""
    by_subject: dict[str, list[Problem]] = {subject: [] for subject in sent}
    for problem in problems:
        if problem.severity.rank >= least.rank:
            by_subject.setdefault(problem.subject, []).append(problem)
    found = [
        _of_subject(subject, sorted(wrong, key=lambda each: (-each.severity.rank, each.name)), sent.get(subject, {}),
                    repeat_seconds, now)
        for subject, wrong in by_subject.items()
    ]  # fmt: skip
    return [each for each in found if each is not None]


def eased(sent: Mapping[str, SentProblems], problems: Iterable[Problem]) -> dict[str, dict[str, Sent]]:
    """Return what has been sent with the current severities. That one fell is not sent.

    A problem that gets worse again is due again.
    """
    now = {(problem.subject, problem.name): problem.severity for problem in problems}
    return {
        subject: {name: _eased(each, now.get((subject, name))) for name, each in of_subject.items()}
        for subject, of_subject in sent.items()
    }


def _eased(sent: Sent, severity: Severity | None) -> Sent:
    is_lower = severity is not None and severity.rank < sent.severity.rank
    return replace(sent, severity=severity) if is_lower and severity is not None else sent


def _of_subject(
    subject: str, problems: Sequence[Problem], sent: SentProblems, repeat_seconds: float, now: float
) -> Due | None:
    names = {problem.name for problem in problems}
    covered = frozenset[str]().union(*(problem.covers for problem in problems))
    gone = {name: each for name, each in sent.items() if name not in names}
    recovered = tuple(sorted(name for name, each in gone.items() if not each.is_event and name not in covered))
    is_due = any(_is_due(problem, sent.get(problem.name), repeat_seconds, now) for problem in problems)
    if not is_due and not recovered:
        return None
    after = {
        problem.name: Sent(severity=problem.severity, cause=problem.cause, at=now, is_event=problem.is_event)
        for problem in problems
    }
    return Due(message=Message(subject=subject, problems=tuple(problems), recovered=recovered), after=after)


def _is_due(problem: Problem, sent: Sent | None, repeat_seconds: float, now: float) -> bool:
    if sent is None:
        return True
    is_repeated = repeat_seconds > 0 and now - sent.at >= repeat_seconds and not problem.is_event
    return problem.severity.rank > sent.severity.rank or problem.cause != sent.cause or is_repeated
