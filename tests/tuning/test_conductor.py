"""The heart of a study without an engine: a real ledger, and this file in the place of Ray."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from study.errors import StudyStateError, UsageError
from study.keys import Outcome, Tag
from study.store.history import BEGAN
from study.store.plan import StudyPlan
from study.store.study import Places, Study
from study.tuning.conductor import REPEATS_TO_EXHAUSTION
from study.tuning.earlier import earlier_trials
from tests.builders import RATES, load_text, refused, space_toml, study_plan
from tests.driver import EPOCHS, Driver
from tests.tuning.small_study import change

TWO_CELLS = {"fusion": ["concat_proj", "film"]}
CELLS = {**TWO_CELLS, "embed_dim": [8, 16, 32]}
ARMS: list[dict[str, Any]] = [
    {"name": "film", "fusion": "film", "placebo": True},
    {"name": "concat", "fusion": "concat_proj"},
]


def comparison(params: Mapping[str, Any], draws: int = 2) -> str:
    return space_toml(
        params, fixed={"epochs": EPOCHS}, arms=ARMS, settings={"draws": draws, "reference": "film"}
    )


def search(params: Mapping[str, Any] = CELLS, **settings: Any) -> str:
    usual = {"sampler": "tpe", "trials": 4, "scheduler": "asha"}
    return space_toml(params, fixed={"epochs": EPOCHS}, settings={**usual, **settings})


Starter = Callable[..., Driver]


@pytest.fixture
def start(tmp_path: Path, plan: StudyPlan) -> Starter:
    """A function that starts a driver of a space's text, by default in the test's folder."""
    return lambda text, folder=tmp_path, **options: Driver(
        folder, load_text(folder, text), plan=plan, **options
    )


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "grid"])
def test_a_search_ends_with_its_budget_whatever_the_outcomes(start: Starter, sampler: str) -> None:
    driver = start(search(sampler=sampler))
    driver.train(driver.next_trial(), 0.9)
    keys = [driver.next_trial() for _ in range(3)]
    assert driver.begin() is None, "what runs counts"
    cause = "DivergedError: diverged: training loss not finite in epoch 1"
    driver.fail(keys[0], cause)
    assert driver.begin() is None, "what failed counts too"
    for key in keys[1:]:
        driver.train(key, 0.1)
    best, failed, *others = driver.rows()
    assert (best.outcome, len(others)) == (Outcome.COMPLETE, 2)
    assert (failed.outcome, failed.epochs, failed.cause) == (Outcome.FAILED, 0, cause)
    assert not driver.conductor.exhausted


def test_owed_trials_come_first_at_the_next_start_under_the_same_digest(start: Starter) -> None:
    first = start(search())
    first.train(first.next_trial(), 0.8)
    cut_off, waiting = first.conductor.propose("cut off"), first.conductor.propose("waiting")
    first.conductor.started("cut off")
    first.epoch("cut off", 1, 0.4)
    first.conductor.stop("SIGINT received")

    second = start(search())
    assert second.conductor.owed == 2
    assert [second.conductor.propose(key) for key in ("a", "b")] == [cut_off, waiting]
    second.conductor.started("a")
    assert second.lines[-1].startswith("trial   1 goes on as 4 (attempt 2)  ")
    opened = [trial.user_attrs for trial in second.trials() if "config" in trial.user_attrs]
    assert [attrs[Tag.ATTEMPT] for attrs in opened] == [1, 1, 1, 2, 2]
    assert [attrs[Tag.DIGEST] for attrs in opened[3:]] == [a[Tag.DIGEST] for a in opened[1:3]]
    assert [attrs.get(Tag.CAUSE) for attrs in opened[1:3]] == ["SIGINT received"] * 2

    for key in ("a", "b"):
        second.train(key, 0.9)
    second.run()
    assert len(second.rows()) == 4
    assert start(search()).conductor.owed == 0


def test_an_owed_trial_whose_parameters_were_altered_is_refused_by_name(start: Starter) -> None:
    first = start(search(RATES))
    first.conductor.propose("a")
    digest = first.trials()[0].user_attrs[Tag.DIGEST]
    statement = "update trial_params set param_value = 0.005 where trial_id = 1"
    change(first.folder / "study.db", statement)
    said = f"trial 0 of the Optuna storage: was configuration {digest}, and its parameters are "
    assert refused(StudyStateError, start, search(RATES)).startswith(said)


def test_an_interrupted_first_trial_of_its_arm_stays_protected(start: Starter) -> None:
    first = start(search(trials=2))
    first.conductor.propose("film"), first.conductor.propose("concat")
    first.conductor.stop("SIGINT received")
    second = start(search(trials=2))
    second.train_each(0.9, 0.1)
    assert second.outcomes() == [Outcome.COMPLETE, Outcome.COMPLETE]


def test_a_comparison_that_draws_a_configuration_twice_ends_as_exhausted(start: Starter) -> None:
    driver = start(comparison({"batch_size": [64, 128]}, draws=3))
    driver.run()
    arms, batch_sizes = 3, 2
    assert driver.outcomes() == [Outcome.COMPLETE] * arms * batch_sizes
    assert driver.conductor.exhausted, "or every resume would wait for draws that never come"


def test_a_trial_that_ran_when_the_space_was_exhausted_is_still_owed(start: Starter) -> None:
    text = search(TWO_CELLS)
    first = start(text, trials=3)
    assert None not in (first.begin(), first.begin())
    assert first.begin() is None, "a repeat of a running trial is not run beside it"
    assert first.conductor.exhausted
    assert len(first.trials()) == 2 + REPEATS_TO_EXHAUSTION
    assert first.lines[-1].startswith("the sampler proposed 20 known configurations in a row: ")
    digests = {trial.user_attrs[Tag.DIGEST] for trial in first.trials()[:2]}
    assert {t.user_attrs["duplicate_of"] for t in first.trials()[2:]} <= digests
    first.conductor.stop("SIGINT received")
    second = start(text, trials=3)
    assert second.conductor.owed == 2
    second.run()
    assert second.outcomes() == [Outcome.COMPLETE, Outcome.COMPLETE]
    assert second.conductor.exhausted


def test_rungs_prune_a_worse_trial_but_not_the_first_of_an_arm(start: Starter) -> None:
    driver = start(search(trials=3))
    driver.train_each(0.9, 0.1, 0.05)
    assert driver.outcomes() == [Outcome.COMPLETE, Outcome.COMPLETE, Outcome.PRUNED]
    pruned = driver.rows()[2]
    assert (pruned.epochs, pruned.cause) == (1, "asha stopped it at epoch 1")
    said = f"trial {pruned.number:>3} pruned   AUPRC S+V .050  1 epoch, "
    assert driver.lines[-1].startswith(said)


SCREENED = search(sampler="grid", scheduler="screening")
"""Four of six cells: the defaults of two arms, then their next widths."""


def test_a_screening_ends_with_the_best_of_each_arm_in_full_the_best_first(start: Starter) -> None:
    driver = start(SCREENED)
    driver.train_each(0.2, 0.3, 0.4, 0.1)
    driver.run()
    rows = driver.rows()
    assert [row.outcome for row in rows] == [Outcome.SCREENED] * 4 + [Outcome.COMPLETE] * 2
    assert [row.epochs for row in rows] == [1] * 4 + [EPOCHS] * 2
    ranked = sorted(rows[:4], key=lambda row: -row.metric("objective"))
    best = {row.arm: row for row in reversed(ranked)}
    finals = sorted(best.values(), key=lambda row: -row.metric("objective"))
    assert [row.params for row in rows[4:]] == [row.params for row in finals]
    assert len({row.arm for row in rows[4:]}) == 2
    assert not {row.digest for row in rows[:4]} & {row.digest for row in rows[4:]}
    assert driver.begin() is None
    assert not driver.conductor.exhausted and not driver.conductor.waits
    said = "4 configurations screened; the best of each arm is trained in full: 2 to go"
    assert driver.lines.count(said) == 1
    assert driver.lines.index(said) == 8, "after four that have started and ended"
    assert [trial.state.name for trial in driver.trials()] == ["PRUNED"] * 4 + ["COMPLETE"] * 2


def test_an_arm_s_best_is_chosen_when_all_of_the_arm_was_screened(start: Starter) -> None:
    """No slot waits for another arm, and the choice is what it would be one after the other."""
    driver = start(SCREENED)
    driver.train_each(0.2, 0.3, 0.4)
    last, _ = driver.next_trial(), driver.next_trial()
    arms = [trial.user_attrs[Tag.ARM] for trial in driver.trials()]
    assert arms[4] == arms[1] != arms[3] == arms[0]
    assert driver.begin() is None
    assert driver.conductor.waits, "asked again later, and not told that nothing is left"
    assert not driver.conductor.exhausted
    driver.train(last, 0.9)
    driver.next_trial()
    assert not driver.conductor.waits
    in_full = driver.trials()[5]
    assert in_full.params == driver.trials()[3].params, "the last one was the best"
    assert driver.begin() is None


def test_an_interrupted_screening_goes_on_in_both_of_its_parts(start: Starter) -> None:
    first = start(SCREENED)
    first.train_each(0.2, 0.3)
    assert first.begin() is not None
    first.conductor.stop("SIGINT received")

    second = start(SCREENED)
    assert second.conductor.owed == 1
    second.train_each(0.4, 0.1)
    assert second.begin() is not None
    second.conductor.stop("SIGINT received")

    third = start(SCREENED)
    assert third.conductor.owed == 1
    third.train(third.next_trial(), 0.5)
    third.run()
    assert third.outcomes() == [Outcome.SCREENED] * 4 + [Outcome.COMPLETE] * 2
    uninterrupted = {trial.user_attrs[Tag.DIGEST] for trial in third.trials()}
    assert len(uninterrupted) == 6, "what was owed is what it was, and no other is trained in full"
    assert start(SCREENED).begin() is None


def test_a_screening_that_is_made_longer_trains_a_better_best_in_full(start: Starter) -> None:
    start(SCREENED).run()
    longer = start(search(sampler="grid", scheduler="screening", trials=6))
    longer.train_each(0.9, 0.1)
    assert len(longer.ledger.trials().counted) == 7, "one of the two in full is no best any more"
    final = longer.next_trial()
    assert longer.configs[final].train.epochs == EPOCHS
    longer.train(final, 0.8)
    assert (len(longer.ledger.trials().counted), len(longer.rows())) == (8, 9)
    assert longer.begin() is None and not longer.conductor.exhausted


def test_trials_of_another_study_inform_a_sampler_alone(start: Starter, tmp_path: Path) -> None:
    text = search(RATES, trials=12, scheduler="none")
    (tmp_path / "other").mkdir()
    other = start(text, tmp_path / "other")
    for key in iter(other.begin, None):
        other.train(key, 1 - abs(math.log10(other.configs[key].train.learning_rate) + 3))
    (tmp_path / "other" / "space.toml").write_text(text)
    other_plan = study_plan(trials=12, epochs=EPOCHS)
    study = Study(
        places=Places(folder=other.folder), plan=other_plan, trials=other.ledger.trials()
    )
    driver = start(text)
    earlier = earlier_trials(study, driver.space)
    assert len(earlier) == 12
    for _ in range(2):
        driver.ledger.inform(earlier)
    assert len(driver.trials()) == 12, "once"
    driver.run(0.5)
    assert len(driver.rows()) == 12 and len(driver.trials()) == 24
    with pytest.raises(UsageError, match="learns from trials; this is by random"):
        earlier_trials(study, load_text(tmp_path, search(RATES, sampler="random")))
    with pytest.raises(UsageError, match="none of its 12 settled trials has a score and param"):
        earlier_trials(study, load_text(tmp_path, search(CELLS)))


def test_an_arm_of_which_nothing_could_be_screened_has_nothing_in_full(start: Starter) -> None:
    driver = start(search(sampler="grid", trials=2, scheduler="screening"))
    driver.fail(driver.next_trial(), "DivergedError: diverged")
    driver.train_each(0.3)
    driver.run()
    assert driver.outcomes() == [Outcome.FAILED, Outcome.SCREENED, Outcome.COMPLETE]
    assert driver.conductor.exhausted, "or every resume would wait for a trial that never comes"


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
def test_a_screening_of_a_small_space_ends_in_full(start: Starter, sampler: str) -> None:
    driver = start(search(sampler=sampler, trials=9, scheduler="screening"))
    driver.run()
    assert driver.outcomes() == [Outcome.SCREENED] * 6 + [Outcome.COMPLETE] * 2
    for trial in driver.trials():
        if "duplicate_of" in trial.user_attrs:
            known = driver.trials()[trial.user_attrs["duplicate_of"]]
            assert trial.intermediate_values == known.intermediate_values


def test_a_trial_in_whose_epoch_the_whole_limit_passes_hangs_once_a_try(start: Starter) -> None:
    limit_s = 0.2
    driver = start(search(), trial_limit_s=limit_s)
    key = driver.next_trial()
    conductor = driver.conductor
    driver.epoch(key, 1, 0.5)
    assert conductor.hung() == set(), "an epoch in time is no hang"
    for times in ("", " (2 times)", " (3 times)"):
        time.sleep(2 * limit_s)
        assert conductor.hung() == {key}
        assert conductor.hung() == set(), "its worker is being ended"
        why = f"an epoch took longer than the whole --trial-time-limit{times}"
        if times != " (3 times)":
            conductor.lost(key, "its worker was lost: ActorDiedError: killed")
            conductor.started(key)
            assert driver.lines[-1] == f"trial   0 retried  {why}"
    conductor.propose("never had a worker")
    for lost in (key, "never had a worker"):
        conductor.failed(lost, "its worker was lost 3 times: killed")
    failed = [(row.outcome, row.cause) for row in driver.rows()]
    assert failed == [
        (Outcome.FAILED, said) for said in (why, "its worker was lost 3 times: killed")
    ]
    assert all(BEGAN in trial.user_attrs for trial in driver.trials())


def test_a_fault_of_the_machine_leaves_its_trial_owed(start: Starter) -> None:
    driver = start(search())
    key = driver.next_trial()
    cause = "/store/x: cannot be written (No space left on device); it takes 1.0 MB"
    driver.conductor.failed(key, cause, faulty=True)
    assert driver.conductor.fault == cause
    assert driver.rows() == []
    assert driver.trials()[0].user_attrs[Tag.CAUSE] == cause
    assert start(search()).conductor.owed == 1


@pytest.mark.parametrize("scheduler", ["asha", "screening"])
def test_a_trial_without_a_finite_objective_is_failed(start: Starter, scheduler: str) -> None:
    driver = start(search(scheduler=scheduler))
    driver.train_each(math.nan, math.inf)
    failed = (Outcome.FAILED, "val_auprc_sv is undefined after the last epoch")
    assert [(row.outcome, row.cause) for row in driver.rows()] == [failed] * 2
    assert {trial.state.name for trial in driver.trials()} == {"FAIL"}


def test_a_trial_over_its_time_limit_is_failed_where_epochs_are_left(start: Starter) -> None:
    driver = start(search(), trial_limit_s=1e-9)
    for epoch in (1, EPOCHS):
        assert driver.epoch(driver.next_trial(), epoch, 0.5)
    failed = (Outcome.FAILED, "exceeded --trial-time-limit at epoch 1")
    ended = [(row.outcome, row.cause) for row in driver.rows()]
    assert ended == [failed, (Outcome.COMPLETE, "")]


def test_a_trial_costs_the_storage_the_same_however_many_went_before(
    start: Starter, request: pytest.FixtureRequest
) -> None:
    driver = start(search(RATES, sampler="random", trials=30))
    counts = [0] * 30

    def count(*_: Any) -> None:
        counts[trial] += 1

    event.listen(Engine, "after_cursor_execute", count)
    request.addfinalizer(lambda: event.remove(Engine, "after_cursor_execute", count))
    for trial in range(30):
        driver.train(driver.next_trial(), trial)  # better and better: none is pruned
    assert statistics.median(counts[2:10]) == statistics.median(counts[22:]) > 0


@pytest.mark.parametrize("sampler", ["grid", "random", "qmc"])
def test_enumerated_proposals_do_not_change(start: Starter, tmp_path: Path, sampler: str) -> None:
    text = search(sampler=sampler, trials=6)
    (tmp_path / "through").mkdir()
    straight = start(text, tmp_path / "through")
    straight.run(0.5)

    first = start(text)
    first.train(first.next_trial(), 0.1)
    assert first.begin(), first.begin()
    first.conductor.stop("SIGINT received")
    second = start(text)
    second.train_each(0.9, 0.2)
    second.fail(second.next_trial(), "ValueError: bad")
    del second
    third = start(text)
    third.run(0.3)

    assert third.proposed() == straight.proposed()
    assert len(third.rows()) == 6


def test_a_comparison_runs_each_arm_at_the_same_draws_and_prunes_nothing(start: Starter) -> None:
    first = start(comparison(RATES))
    first.train_each(0.9, 0.1, 0.05, 0.04)
    first.conductor.propose("cut off")
    first.conductor.stop("SIGINT received")

    second = start(comparison(RATES))
    assert second.conductor.owed == 1
    second.run(0.01)
    rows = second.rows()
    arms = ("film", "film_placebo", "concat")
    assert [(row.arm, row.draw) for row in rows] == [(arm, d) for d in range(2) for arm in arms]
    assert {row.outcome for row in rows} == {Outcome.COMPLETE}
    for draw in range(2):
        rates = {row.params["learning_rate"] for row in rows if row.draw == draw}
        assert len(rates) == 1
    assert second.begin() is None
    assert not second.conductor.exhausted


def test_a_trial_that_was_complete_is_run_to_its_end_when_it_is_owed_again(start: Starter) -> None:
    first = start(search(sampler="grid"))
    first.train_each(0.5, 0.5, 0.6, 0.9)
    assert first.outcomes() == [Outcome.COMPLETE] * 4
    first.ledger.withdraw(2, "weights.pt is missing")

    second = start(search(sampler="grid"))
    assert second.conductor.owed == 1
    second.train(second.next_trial(), 0.6)
    assert second.outcomes() == [Outcome.COMPLETE] * 4, "0.6 is below the rung that 0.9 has raised"
    assert [row.number for row in second.rows()] == [0, 1, 3, 4]
    assert second.begin() is None
