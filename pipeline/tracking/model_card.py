"""The model card of a registered classifier in Markdown: use, data, tests, limits; stored with the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from models.card import Card, MetricInterval
from models.classifier import CalibratedClassifier
from models.names import CALIBRATOR_TITLES
from pipeline.evaluation.metrics import metric_named

RESEARCH_USE = "Research use only - not for diagnostic use."
_FEW_SUBJECTS = 50
_FEW_SCANS = 10
_FIRST = (
    "negative_log_likelihood",
    "classwise_ece",
    "prior_corrected_balanced_accuracy",
    "balanced_accuracy",
)
"""What the first lines state: the first three that are known, calibration errors above noise."""


_NOISE = (
    "Noise is the calibration error that these probabilities would show on as many scans if they were true; "
    "only what lies above it is an error, and a part of that can be chance."
)


def model_card(classifier: CalibratedClassifier, made_from: Mapping[str, str]) -> str:
    """Write the card of a classifier from what is stored in it.

    Parameters
    ----------
    classifier : CalibratedClassifier
        Its `card` holds the facts of training and evaluation.
    made_from : mapping of str to str
        Versions and hashes by name.

    Returns
    -------
    str
        Markdown; what is not known is called unknown.
    """
    sections = {
        "Intended use": _intended(classifier),
        "Trained on": _trained_on(classifier),
        "Tested on": _tested_on(classifier.card),
        "Calibration and abstention": _calibration(classifier),
        "Where it fails": _failures(classifier),
        "Versions and hashes": [f"- {name}: `{value}`" for name, value in made_from.items()],
    }
    text = [f"# Model card: {classifier.card.tracer} PET to {', '.join(classifier.class_names)}", ""]
    text += [_in_short(classifier)]
    for title, lines in sections.items():
        text += ["", f"## {title}", "", *lines]
    return "\n".join(text) + "\n"


def description(card: str) -> str:
    r"""Return the first lines of a card, for the registry's list of versions.

    Examples
    --------
    >>> description("# Model card\n\nWhat it is.\n\n## Intended use\n...")
    'What it is.'
    """
    return card.partition("\n## ")[0].partition("\n")[2].strip()


def _kind(card: Card) -> str:
    return "synthetic scans" if card.synthetic else "scans"


def _parts(card: Card, part: str) -> str:
    scans, subjects = getattr(card.split, part), getattr(card.subjects, part)
    found = f"{scans if scans is not None else 'an unknown number of'} {_kind(card)}"
    return found if subjects is None else f"{found} of {subjects} subjects"


def _in_short(classifier: CalibratedClassifier) -> str:
    card = classifier.card
    scores = [_headline(card, name) for name in _FIRST if name in card.metrics]
    found = f": {'; '.join(scores[:3])}" if scores else ""
    return (
        f"**{RESEARCH_USE}** Calibrated probabilities of {', '.join(classifier.class_names)} from one "
        f"{classifier.card.tracer} PET scan. Trained on {_parts(card, 'train')}, tested on "
        f"{_parts(card, 'test')}{found}."
    )


def _headline(card: Card, name: str) -> str:
    found, floor = card.metrics[name], card.noise.get(name)
    if floor is None:
        return f"{metric_named(name).title} {metric_named(name).text(found)}"
    above = metric_named(f"{name}_above_noise")
    moved = MetricInterval(value=found.value - floor, low=found.low - floor, high=found.high - floor)
    return f"{above.title} {above.text(moved)}"


def _intended(classifier: CalibratedClassifier) -> list[str]:
    return [
        f"Research on {classifier.card.tracer} PET of adults with suspected Alzheimer's disease: "
        "probabilities, a prediction set and reasons to refer, for a reader who also sees the scan. It takes "
        "one scan as DICOM, NIfTI or BIDS-PET; no MRI is needed.",
        "",
        "Not for diagnosis, triage, treatment or follow-up of a person, and not for other tracers.",
    ]


def _trained_on(classifier: CalibratedClassifier) -> list[str]:
    card = classifier.card
    counts = card.class_counts
    use = "for training alone"
    if card.scheme == "cross_fit":
        use = "cross-fitted: each was predicted by networks that never saw its subject, which calibrates"
    lines = [f"- {_parts(card, 'train')}, {use}"]
    lines += [f"- scans by class: {', '.join(f'{n} {name}' for name, n in counts.items())}"] if counts else []
    shares = zip(classifier.class_names, classifier.prevalence, strict=True)
    lines += [f"- class shares that the probabilities assume: {', '.join(f'{n} {p:.2f}' for n, p in shares)}"]
    lines += [f"- network: {classifier.network_title}; loss: {card.loss.name}"]
    return lines


def _tested_on(card: Card) -> list[str]:
    metrics = card.metrics
    if not metrics:
        return ["No test results are recorded."]
    return [
        f"{_parts(card, 'test')}, none of which was used for training or calibration. The intervals are over "
        f"subjects, at {100 * card.level:g} %." + (f" {_NOISE}" if card.noise else ""),
        "",
        *_table(
            ("metric", "value [interval]", *(["noise"] if card.noise else [])),
            [
                (metric_named(name).heading, metric_named(name).text(m), *_floor(card, name))
                for name, m in metrics.items()
            ],
        ),
    ]


def _floor(card: Card, name: str) -> list[str]:
    if not card.noise:
        return []
    return [metric_named(name).number(card.noise[name]) if name in card.noise else ""]


def _calibration(classifier: CalibratedClassifier) -> list[str]:
    card = classifier.card
    title = CALIBRATOR_TITLES.get(card.calibrator.name, card.calibrator.name)
    lines = [
        f"- calibrator: {title}. {card.calibrator.reason}".rstrip(),
        f"- prediction sets hold the true class of {classifier.conformal.coverage:.0%} of the scans of every "
        "class, if new scans resemble the calibration scans",
        *_held(card),
        f"- a scan with a confidence below {classifier.operating_point:.2f} is referred",
    ]
    rows = [
        (f"{low:.0%} - {high:.0%}", str(count), str(right))
        for low, high, count, right in card.likeness
        if count
    ]
    return (
        [*lines, "", *_table(("confidence", "held-out scans", "classified correctly"), rows)]
        if rows
        else lines
    )


def _held(card: Card) -> list[str]:
    counts = ", ".join(f"{held} of {of} {name}" for name, (held, of) in card.coverage.items())
    return [f"- of the test scans the sets contained the true class for {counts}"] if counts else []


def _failures(classifier: CalibratedClassifier) -> list[str]:
    return [
        f"- {line}"
        for line in (
            *_weak_points(classifier),
            "A negative tau PET scan does not exclude Alzheimer's disease.",
            "Off-target binding (choroid plexus, striatum, brainstem, meninges, skull) can look like tau; "
            "other tauopathies bind this tracer weakly or not at all.",
            "Other scanners, reconstructions, time windows and populations than those of training shift the "
            "probabilities; the out-of-distribution checks detect only large shifts.",
            "At class shares other than those of training the probabilities must be adjusted "
            "(`--prevalence`).",
            "The interval of a probability covers the uncertainty of its calibration, not all uncertainty.",
        )
    ]


def _weak_points(classifier: CalibratedClassifier) -> Iterator[str]:
    card = classifier.card
    if card.synthetic:
        yield "It was trained and tested on synthetic scans: the results do not apply to patients."
    subjects = card.subjects.test
    if subjects is not None and subjects < _FEW_SUBJECTS:
        yield f"It was tested on only {subjects} subjects: intervals are wide, small subgroups are untested."
    balanced, chance = card.metrics.get("balanced_accuracy"), 1 / len(classifier.class_names)
    if balanced is not None and balanced.low <= chance:
        found = metric_named("balanced_accuracy").text(balanced)
        yield f"It is not significantly better than chance: balanced accuracy {found}."
    counts = card.class_counts
    for name in (name for name, n in counts.items() if n < _FEW_SUBJECTS):
        yield f"It was trained on few scans of {name} ({counts[name]})."
    for low, high, count, right in card.likeness:
        if count >= _FEW_SCANS and right / count < low:
            yield f"It was overconfident between {low:.0%} and {high:.0%}: {right} of {count} were right."


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]
