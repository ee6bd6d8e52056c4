"""Equal tuning: three values for the main option of every loss that has one, and validation scans choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.config import LossSettings
from pipeline.wording import counted

GRIDS: Mapping[str, tuple[str, tuple[float, float, float]]] = {
    "class_balanced": ("beta", (0.99, 0.999, 0.9999)),
    "logit_adjusted": ("tau", (0.5, 1.0, 1.5)),
    "ldam": ("max_m", (0.2, 0.5, 0.8)),
    "vs": ("gamma", (0.1, 0.2, 0.3)),
    "label_smoothing": ("alpha", (0.02, 0.05, 0.1)),
    "entropy_penalty": ("alpha", (0.03, 0.1, 0.3)),
    "mbls": ("margin", (1.0, 3.0, 10.0)),
    "gamma_ce": ("gamma", (0.03, 0.1, 0.3)),
    "focal": ("gamma", (1.0, 2.0, 3.0)),
    "flsd53": ("gamma", (1.0, 2.0, 3.0)),
    "adafocal": ("lam", (0.3, 1.0, 3.0)),
    "dual_focal": ("gamma", (1.0, 3.0, 5.0)),
    "poly1": ("epsilon", (0.5, 1.0, 2.0)),
    "mmce": ("lam", (1.0, 2.0, 4.0)),
    "mdca": ("beta", (0.3, 1.0, 3.0)),
    "acls": ("margin", (1.0, 3.0, 10.0)),
    "symmetric_ce": ("alpha", (0.1, 0.3, 1.0)),
    "gce": ("weight", (0.25, 0.5, 1.0)),
    "gce_logit_adjusted": ("weight", (0.25, 0.5, 1.0)),
}
"""Loss -> its main option and the values tried, the default among them: a default can be inactive on few
scans (a margin of 10) or too strong. Losses without such an option have no entry."""


@dataclass(frozen=True)
class TriedValue:
    """A loss with the value it is trained with; `text` names the value, empty where it is not tuned."""

    loss: LossSettings
    text: str = ""


def values_to_try(loss: LossSettings, *, tune: bool) -> tuple[TriedValue, ...]:
    """Return the loss with each value of its grid; as it is where its option is stated, or it has none.

    Examples
    --------
    >>> [value.text for value in values_to_try(LossSettings(name="focal"), tune=True)]
    ['gamma=1', 'gamma=2', 'gamma=3']
    >>> values_to_try(LossSettings(name="focal", options={"gamma": 5}), tune=True)[0].text
    ''
    """
    option, values = GRIDS.get(loss.name, ("", ()))
    if not tune or not values or option in loss.options:
        return (TriedValue(loss),)
    return tuple(
        TriedValue(
            loss.model_copy(update={"options": {**loss.options, option: value}, "label": loss.title}),
            f"{option}={value:g}",
        )
        for value in values
    )


@dataclass(frozen=True)
class TunedOption:
    """The value chosen for one loss on one fold at one batch size.

    Parameters
    ----------
    loss : str
        Its title in tables.
    batch_size : int or None
        None where the comparison has one.
    tried : tuple of str
        The values, as ``"gamma=3"``.
    nll : tuple of float or None
        Validation NLL of each after one temperature for the validation scans; None where the training failed.
    """

    loss: str
    fold: int
    batch_size: int | None
    tried: tuple[str, ...]
    nll: tuple[float | None, ...]

    @property
    def chosen(self) -> str | None:
        """The value of least NLL, the first of equals; None where every training failed."""
        known = [(nll, place) for place, nll in enumerate(self.nll) if nll is not None]
        return self.tried[min(known)[1]] if known else None


def tuned_in_words(found: Sequence[TunedOption]) -> tuple[str, ...]:
    """Return what was tried and chosen, a sentence for each loss and batch size.

    Examples
    --------
    >>> tried = ("gamma=1", "gamma=2", "gamma=3")
    >>> tuned_in_words([TunedOption("focal", f, None, tried, (0.6, 0.5, 0.7 - 0.3 * f)) for f in (0, 1)])
    ('focal: gamma=1, 2, 3 tried; chosen gamma=2 in 1 fold, gamma=3 in 1 fold',)
    """
    groups: dict[tuple[str, int | None], list[TunedOption]] = {}
    for one in found:
        groups.setdefault((one.loss, one.batch_size), []).append(one)
    return tuple(map(_in_words, groups.values()))


def _in_words(found: Sequence[TunedOption]) -> str:
    first = found[0]
    option = first.tried[0].partition("=")[0]
    values = ", ".join(text.partition("=")[2] for text in first.tried)
    batch = f", batch {first.batch_size}" if first.batch_size else ""
    opening = f"{first.loss}{batch}: {option}={values} tried; chosen "
    counts = [(text, sum(one.chosen == text for one in found)) for text in first.tried]
    if len(found) == 1:
        return opening + (first.chosen or "none, every training failed")
    words = [f"{text} in {counted(n, 'fold')}" for text, n in counts if n]
    return opening + (", ".join(words) or "none, every training failed")
