"""Options of a loss, declared once with default, range and meaning, and checked in one place."""

from __future__ import annotations

import difflib
import inspect
import math
import re
from collections.abc import Iterable
from typing import Any, Generic, Self, TypeVar, overload

T = TypeVar("T")


class Option(Generic[T]):
    """An option of a loss; read from an instance, it is the value given or the default.

    Parameters
    ----------
    default : float, int, bool, str or tuple of two floats
        Also decides the type that values are converted to.
    meaning : str
        One line for the help and for errors, without a full stop.
    at_least, at_most, above, below : float
        Range of a number.
    choices : tuple of str
        Allowed values of a word.
    """

    def __init__(  # noqa: PLR0913 - four of them are limits of one range
        self,
        default: T,
        meaning: str,
        *,
        at_least: float = -math.inf,
        at_most: float = math.inf,
        above: float = -math.inf,
        below: float = math.inf,
        choices: tuple[str, ...] = (),
    ) -> None:
        self.default, self.meaning, self.choices = default, meaning, choices
        self.at_least, self.at_most, self.above, self.below = at_least, at_most, above, below

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, loss: None, owner: type) -> Self: ...
    @overload
    def __get__(self, loss: object, owner: type) -> T: ...
    def __get__(self, loss: object | None, owner: type) -> Self | T:
        return self if loss is None else self.default

    @property
    def expected(self) -> str:
        """The allowed values in words."""
        if self.choices:
            return " or ".join(map(repr, self.choices))
        if isinstance(self.default, bool):
            return "True or False"
        if isinstance(self.default, tuple):
            return "two numbers"
        kind = "a whole number" if isinstance(self.default, int) else "a number"
        high = f"below {self.below:g}" if self.below < math.inf else f"{self.at_most:g}"
        if high != "inf":
            return f"{kind} from {self.at_least:g} to {high}"
        if self.above > -math.inf:
            return f"{kind} above {self.above:g}"
        return f"{kind} of at least {self.at_least:g}" if self.at_least > -math.inf else kind

    def checked(self, value: Any, owner: str) -> T:
        """Return the value in the type of the default.

        Raises
        ------
        ValueError
            If it has another type or is out of range; the message names option, value and range.
        """
        try:
            converted: T = self._converted(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(
                f"{self.name}={value!r} is not valid for {owner}. Expected {self.expected}: {self.meaning}."
            ) from error
        return converted

    def _converted(self, value: Any) -> Any:
        if self.choices or isinstance(self.default, bool):
            if value not in (self.choices or (True, False)):
                raise ValueError
            return value
        if isinstance(self.default, tuple):
            low, high = (self._number(v) for v in value)
            return low, high
        number = self._number(value)
        if isinstance(self.default, int) and number != int(number):
            raise ValueError
        return int(number) if isinstance(self.default, int) else number

    def _number(self, value: Any) -> float:
        if isinstance(value, bool):
            raise TypeError
        number = float(value)
        within = self.at_least <= number <= self.at_most and self.above < number < self.below
        if not (math.isfinite(number) and within):
            raise ValueError
        return number


def described(doc: str, options: Iterable[Option[Any]]) -> str:
    """Return a class's docstring with a section that lists its options, before the other sections."""
    lines = ["Parameters", "----------", "num_classes, class_counts", "    See `Loss`."]
    for option in options:
        lines += [f"{option.name} : {option.expected}, default {option.default!r}"]
        lines += [f"    {option.meaning[0].upper()}{option.meaning[1:]}."]
    doc = inspect.cleandoc(doc)
    section = re.search(r"^(Attributes|Notes|References|Examples)$", doc, re.MULTILINE)
    place = section.start() if section else len(doc)
    return "\n".join([doc[:place].rstrip(), "", *lines, "", doc[place:]])


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a hint for a name that is not known: the nearest known one, or all of them."""
    names = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.5)
    return f"Did you mean {names[near[0]]!r}?" if near else f"Known: {', '.join(names.values()) or 'none'}."
