"""What a comparison cannot show: a sentence for each reason why a run is less than a fair comparison."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pipeline.config import Study
from pipeline.evaluation.comparison.cell_result import CellResult
from pipeline.evaluation.comparison.tuning import GRIDS

FEWEST = 3
"""Seeds or folds below which chance in training is hardly known."""
NO_COMPARISON = "This is no comparison"
"""Opens the sentences by which nothing was compared."""


def cautions_of(study: Study, results: Sequence[CellResult]) -> tuple[str, ...]:
    """Return why these results are no comparison, or less than a fair one; nothing where they are."""
    checks = (_losses, _runs, _unequal, _constant, _one_split)
    found = [sentence for check in checks for sentence in check(results)]
    return (*found, *_untuned(study, results))


def _losses(results: Sequence[CellResult]) -> Iterator[str]:
    if len({result.loss for result in results}) < 2:
        yield f"{NO_COMPARISON}: there are results of one loss only."


def _runs(results: Sequence[CellResult]) -> Iterator[str]:
    seeds, folds = ({getattr(result, what) for result in results} for what in ("seed", "fold"))
    if max(len(seeds), len(folds)) < FEWEST:
        runs = len(seeds) * len(folds)
        number = "one run" if runs == 1 else f"{runs} runs"
        yield (
            f"{NO_COMPARISON}: each loss was trained with {number} (seeds x folds), so a difference "
            f"may be chance in training. Use {FEWEST} seeds or folds at least."
        )
    elif len(seeds) == 1:
        yield "Each loss was trained with one seed: chance in training shows only through the folds."


def _unequal(results: Sequence[CellResult]) -> Iterator[str]:
    runs: dict[tuple[str, int | None], set[tuple[int, int]]] = {}
    for result in results:
        runs.setdefault((result.loss, result.batch_size), set()).add((result.seed, result.fold))
    most = max(map(len, runs.values()))
    if fewer := sorted({loss for (loss, _), mine in runs.items() if len(mine) < most}):
        yield (
            f"{', '.join(fewer)}: fewer runs than the other losses, because trainings failed. Each is "
            "compared on the seeds and folds that it shares with the baseline."
        )


def _constant(results: Sequence[CellResult]) -> Iterator[str]:
    alike: dict[str, int] = {}
    for result in results:
        if len(np.unique(result.test.logits.argmax(axis=1))) == 1:
            alike[result.loss] = alike.get(result.loss, 0) + 1
    for loss, count in alike.items():
        networks = f"{count} networks give" if count > 1 else "one network gives"
        yield f"{loss}: {networks} every test scan the same class, so accuracy says nothing about the loss."


def _one_split(results: Sequence[CellResult]) -> Iterator[str]:
    if len({result.fold for result in results}) == 1 and results[0].calibration is not None:
        scans = len(results[0].calibration)
        yield (
            f"There is one split: the {scans} calibration scans are one draw of luck that all losses share, "
            "and the intervals do not show it."
        )


def _untuned(study: Study, results: Sequence[CellResult]) -> Iterator[str]:
    seen = {result.loss for result in results}
    losses = [
        loss.title
        for loss in study.compare.losses
        if loss.name in GRIDS and GRIDS[loss.name][0] not in loss.options and loss.title in seen
    ]
    if losses and not study.compare.tune:
        yield f"The default option was used untuned (compare.tune is false) of {', '.join(losses)}."
