"""Whether a champion's luck on the scans that chose it keeps good challengers out, and rules against that.

    python tests/benchmarks/gate_luck.py                                # three tables, five minutes
    python tests/benchmarks/gate_luck.py --parts years --first-seed 0   # seeds that the rule was chosen on

No network is needed: see `monthly_gate.py`. The first table has single decisions: a champion that passed the
gate on a test part meets a challenger on it, beside a champion of the same quality that was not chosen. The
second has the goals of the gate at 120 subjects, with its guards and three monthly looks, where the champion
was chosen on the same test part. The third has years. Rules were chosen on seeds below 2,000; the default
seeds are others.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from scipy.special import log_softmax

from models.arrays import Floats
from pipeline.evaluation.metrics import catalogue
from pipeline.evaluation.monitoring.champions_luck import ChampionsLead
from pipeline.evaluation.monitoring.gate import Judged, Look, judge, spent_after
from tests.benchmarks import gate
from tests.benchmarks.finished_year import markdown
from tests.benchmarks.gate import TRUTH, Drawn, Reading, draw
from tests.benchmarks.monthly_gate import (
    EQUAL,
    SETTINGS,
    WAIT_MONTHS,
    Loop,
    Rule,
    Scenario,
    Year,
    judged,
    losses_of,
    luck_of,
    noise_of,
)

WORSE = 0.04
EXCESS = 0.1
"""NLL above the posterior's, of the champion and of an equal challenger in the first table."""
FIRST_LOOK = ((1, 1 - SETTINGS.level),)
"""The limit of a first look depends on no number of subjects."""
OUTCOMES = ("promote", "reject", "wait")
UNRULED, SHIPPED = "none", "**shipped**"
NOT_CHOSEN = "not chosen"
CHOSEN = {
    "chosen, no rule": Rule(),
    "**chosen, shipped**": Rule("waits"),
    "chosen, luck may promote": Rule("promotes"),
}
RULES = {
    UNRULED: Rule(),
    "**likeliest lead, waits**": Rule("waits"),
    "likeliest lead, may promote": Rule("promotes"),
    "expected lead": Rule("bayes"),
    "expected lead, rejections counted": Rule("rejections"),
    "later scans instead": Rule(again="instead"),
    "later scans beside": Rule(again="beside"),
    "margin .04": Rule(margin=0.04),
    "margin .05": Rule(margin=0.05),
}
SCENARIOS = {
    "better each month": Scenario(),
    "the same, no noise in common": Scenario(shared=0.0),
    "no better": Scenario(first=0.1, level=0.1, falls=0.0),
    "worse by .05 on average": Scenario(first=0.1, level=0.15, falls=0.0, failed=0.0),
    "better, 120 tested at first": Scenario(tested=120),
    "better by .1 once": Scenario(first=0.2, level=0.1, falls=0.0),
}
GOAL_SUBJECTS = 120
GOALS = (
    ("worse by .05, 1.25 z + .55 noise", Reading(1.25, 0.55), TRUTH),
    ("equally noisy, z + .5 noise", Reading(1.0, 0.5), Reading(1.0, 0.5)),
)
BEFORE = {"z + .5 noise": Reading(1.0, 0.5), "1.4 z + .9 noise": Reading(1.4, 0.9)}


def chosen(
    n: int, later: int, reads: Callable[[Drawn], tuple[Floats, Floats]], rng: np.random.Generator
) -> tuple[Drawn, Floats, ChampionsLead]:
    """Return n test scans and later ones, the logits of a champion that passed on the first n, and its lead.

    `reads` returns the logits of the champion before, and of the one that passes.
    """
    while True:
        scans = draw(n + later, rng)
        before, now = reads(scans)
        worse = (_losses(now, scans) - _losses(before, scans))[:n]
        found, spare = judged(worse, Rule(), FIRST_LOOK, 0.0)
        if found == "promote":
            return scans, now, ChampionsLead(-float(worse.mean()), spare, n, 1.0)


def _losses(logits: Floats, scans: Drawn) -> Floats:
    return -log_softmax(logits, axis=1)[np.arange(len(scans.labels)), scans.labels]


def answers(n: int, worse: float, before: float, seeds: range) -> dict[str, list[str]]:
    """Return the answers about a challenger worse by so much, to a champion better by so much than before."""
    found: dict[str, list[str]] = {NOT_CHOSEN: [], **{name: [] for name in CHOSEN}}
    for seed in seeds:
        rng = np.random.default_rng([2028, n, seed])
        read = partial(_reading, rng=rng)
        scans, champion, lead = chosen(n, 0, lambda s, r=read: (r(s, EXCESS + before), r(s, EXCESS)), rng)
        mine, twin = (losses_of(scans, EXCESS + more, _noise(scans, rng)) for more in (worse, 0.0))
        found[NOT_CHOSEN].append(judged(mine - twin, Rule(), FIRST_LOOK, 0.0)[0])
        difference = mine - _losses(champion, scans)
        for name, rule in CHOSEN.items():
            luck = luck_of(lead, rule, difference)
            found[name].append(judged(difference, rule, FIRST_LOOK, luck)[0])
    return found


def _noise(scans: Drawn, rng: np.random.Generator) -> Floats:
    return rng.standard_normal(scans.z.shape)


def _reading(scans: Drawn, excess: float, *, rng: np.random.Generator) -> Floats:
    return scans.z + noise_of(excess) * _noise(scans, rng)


def show_chosen(trials: int, first: int) -> None:
    """Print single decisions against a champion that was chosen on the same scans, and one that was not.

    Each cell has what was promoted, rejected and waits, in per cent.
    """
    header = ["challenger worse by", "true lead", "test subjects", NOT_CHOSEN, *CHOSEN]
    rows = []
    for worse in (0.0, 0.05):
        for before in (0.0, 0.03, 0.1):
            for n in (50, 120):
                found = answers(n, worse, before, range(first, first + trials))
                cells = [" / ".join(_shares(of)) for of in found.values()]
                rows.append([f"{worse:.2f}", f"{before:.2f}", str(n), *cells])
    print(markdown(header, rows), flush=True)


def _shares(outcomes: Sequence[str]) -> list[str]:
    return [f"{100 * outcomes.count(o) / len(outcomes):.1f}" for o in OUTCOMES]


def goal_answers(
    pair: tuple[Reading, Reading], before: Reading, n: int, seeds: range
) -> Iterator[tuple[str, str]]:
    """Yield the whole gate's last answers after three monthly looks, without the rule and with it."""
    challenger, champion = pair
    for seed in seeds:
        rng = np.random.default_rng([2029, n, seed])
        scans, logits, lead = chosen(
            n,
            WAIT_MONTHS * gate.MONTHLY_SCANS,
            lambda s, r=rng: (before.logits(s.z, r), champion.logits(s.z, r)),
            rng,
        )
        stated = np.exp(log_softmax(logits, axis=1))
        case = replace(gate.judged(scans, (challenger, champion), rng), champion=stated, lead=lead)
        yield last_answer(case, n, 0.0, seed), last_answer(case, n, 1.0, seed)


def last_answer(case: Judged, n: int, luck: float, seed: int) -> str:
    """Return what the gate decides in the end, of a challenger that is first judged on n scans."""
    settings = SETTINGS.model_copy(update={"draws": 200, "champions_luck": luck})
    looks: list[Look] = []
    assert case.champion is not None
    assert case.baseline is not None
    for month in range(WAIT_MONTHS + 1):
        seen = n + month * gate.MONTHLY_SCANS
        part = replace(
            case, labels=case.labels[:seen], subjects=case.subjects[:seen], challenger=case.challenger[:seen],
            sets=case.sets[:seen], champion=case.champion[:seen], baseline=case.baseline[:seen],
            lead=None if case.lead is None else replace(case.lead, shared=n / seen),
        )  # fmt: skip
        looks.append(Look(seen, spent_after(settings, month, WAIT_MONTHS)))
        found = judge(part, settings, seed, looks).outcome
        if found != "wait":
            break
    return found


def show_goals(trials: int, first: int) -> None:
    """Print the goals of the gate where the champion was chosen on the same test part."""
    # A tenth of the label draws of a noise floor, as in `gate.py`.
    catalogue._floor_of = lambda sample, name: catalogue.noise_floor(name, sample.probabilities, draws=100)
    header = ["challenger", "champion chosen over", "rule", "promoted %", "rejected %", "undecided %"]
    rows = []
    for title, challenger, champion in GOALS:
        for name, before in BEFORE.items():
            found = goal_answers((challenger, champion), before, GOAL_SUBJECTS, range(first, first + trials))
            plain, ruled = zip(*found, strict=True)
            rows += [[title, name, UNRULED, *_shares(plain)], [title, name, SHIPPED, *_shares(ruled)]]
    print(markdown(header, rows), flush=True)


def share(hits: Sequence[int], of: Sequence[int]) -> str:
    """Return a share in percent with its standard error over years, and of how many."""
    a, b = np.array(hits, float), np.array(of, float)
    if not b.sum():
        return "–"
    p = a.sum() / b.sum()
    return f"{100 * p:.1f} ± {100 * np.sqrt(((a - p * b) ** 2).sum()) / b.sum():.1f} ({b.sum():.0f})"


def mean(values: Floats) -> str:
    """Return a mean with its standard error, in thousandths of a nat."""
    error = 1000 * values.std(ddof=1) / np.sqrt(len(values))
    return f"{1000 * values.mean():+.2f} ± {error:.2f}"


def _counts(loops: Sequence[Loop], asked: str, over: float, until: float, chosen: bool | None = None) -> str:
    kept = [
        [o for d, o, c in loop.decided.values() if over < d <= until and chosen in (None, c > 0)]
        for loop in loops
    ]
    return share([of.count(asked) for of in kept], [len(of) for of in kept])


def year_row(name: str, loops: Sequence[Loop], without: Floats) -> list[str]:
    """Return what a rule did in the years of a scenario, `without` being the true NLL in use without one."""
    used = np.array([loop.in_use for loop in loops])
    runs = share([loop.longest_run() >= 3 for loop in loops], [1] * len(loops)).partition(" (")[0]
    nll = (
        [f"{1000 * used.mean():.1f}", f"{1000 * used[:, -1].mean():.1f}"]
        if name == UNRULED
        else [mean((used - without).mean(axis=1)), mean((used - without)[:, -1])]
    )
    good = _counts(loops, "reject", -np.inf, EQUAL, True)
    return [name, good, runs, _counts(loops, "promote", WORSE, np.inf), *nll]


def show_years(years: int, first: int) -> None:
    """Print what each rule does in each scenario."""
    header = [
        "challengers",
        "rule",
        "as good, rejected by a chosen champion, %",
        "three such in a row, % of years",
        "worse by more than .04, promoted, %",
        "true NLL in use x 1000",
        "in month 12",
    ]
    rows = []
    for title, scenario in SCENARIOS.items():
        drawn = [Year.of(scenario, seed) for seed in range(first, first + years)]
        lived = {name: [Loop(year, rule).run() for year in drawn] for name, rule in RULES.items()}
        without = np.array([loop.in_use for loop in lived[UNRULED]])
        rows += [[title, *year_row(name, loops, without)] for name, loops in lived.items()]
    print(markdown(header, rows), flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--parts", nargs="+", choices=("chosen", "goals", "years"), default=("chosen", "goals", "years")
    )
    parser.add_argument("--trials", type=int, default=500, help="of each row of the first two tables")
    parser.add_argument("--years", type=int, default=400, help="of each scenario")
    parser.add_argument("--first-seed", type=int, default=10_000)
    asked = parser.parse_args()
    parts = {"chosen": show_chosen, "goals": show_goals, "years": show_years}
    for part in asked.parts:
        parts[part](asked.years if part == "years" else asked.trials, asked.first_seed)


if __name__ == "__main__":
    main()
