"""What is wrong with a pipeline, and the message that says so. A message holds no secret and no value of a row."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

#: Characters of a message's text. The limits of the services that receive it are above this.
TEXT_LIMIT: Final = 8000


class Severity(StrEnum):
    """How bad a problem is."""

    WARNING = "WARNING"
    ERROR = "ERROR"

    @property
    def rank(self) -> int:
        """The higher, the worse."""
        return list(Severity).index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong now."""

    #: The pipeline, or the job and its run. The problems of one subject share a message.
    subject: str
    #: The check that fails; `run` for a failed run.
    name: str
    severity: Severity
    #: The problem in a sentence, with its remedy.
    text: str
    #: When this changes, the problem is another one. Empty where the text holds figures that always change.
    cause: str = ""
    #: It has happened, and does not end: no recovery is sent, and it is not repeated.
    is_event: bool = False
    #: The names of problems that this one explains. They are not sent beside it, and have not recovered.
    covers: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What one receiver is sent about one subject: everything that is wrong with it, and what has recovered."""

    subject: str
    problems: tuple[Problem, ...] = ()
    #: The names of the problems that were sent before, and are gone.
    recovered: tuple[str, ...] = ()

    @property
    def is_recovery(self) -> bool:
        return not self.problems

    @property
    def severity(self) -> Severity:
        """The worst severity of the problems; WARNING when none is left."""
        return max((problem.severity for problem in self.problems), key=lambda each: each.rank, default=Severity.WARNING)

    @property
    def title(self) -> str:
        """The message in one short line."""
        if self.is_recovery:
            return _line(f"Rosetta: {self.subject} has recovered: {', '.join(self.recovered)}.")
        if len(self.problems) == 1:
            return _line(f"Rosetta: {self.problems[0].text}")
        return _line(f"Rosetta: {self.subject} has {len(self.problems)} problems.")

    @property
    def text(self) -> str:
        """The whole message. Each problem is one line, whatever characters names hold."""
        if self.is_recovery or (len(self.problems) == 1 and not self.recovered):
            return self.title[:TEXT_LIMIT]
        lines = [f"Rosetta: {self.subject} has {len(self.problems)} problem{'s' * (len(self.problems) > 1)}."]
        lines += [f"- {problem.text}" for problem in self.problems]
        lines += [f"- {name} has recovered." for name in self.recovered]
        return "\n".join(map(_line, lines))[:TEXT_LIMIT]


def _line(text: str) -> str:
    """Return the text on one line, so that a name with a line break cannot forge another."""
    return "".join(character if character.isprintable() else " " for character in text)
