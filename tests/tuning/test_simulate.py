"""A plan played on paper takes as long as its parts say, and ASHA stops whom it stops in a run."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.curves import draw_curve
from benchmarks.durations import count_workers, measure_durations, read_run
from benchmarks.playback import Asha, Fleet, Gain, Playback, SimulatedTrial
from benchmarks.simulate import build_parser, build_simulated_plan, check_run, read_gain, simulate
from sweep.config import load_config
from sweep.errors import ConfigError, RunFolderError

NO_STOPS = Asha(max_epochs=3, grace_epochs=3, reduction_factor=3)
GPUS = (1, 2, 4, 8, 16, 32, 64)
GAIN = Gain(((1, 1.0), (4, 2.0)))

CONFIG = """
name: made
data: {source: synthetic}
grid: {models: [{name: q, path: "tiny:qwen2"}], n_labels: [2], n_samples: [100]}
tune: {candidates: 4}
asha: {max_epochs: 2, grace_epochs: 2}
"""


def make_trial(number: int, **changes: Any) -> SimulatedTrial:
    trial = SimulatedTrial(
        trial_id=str(number),
        cell_id="cell",
        model="m",
        epoch_seconds=10.0,
        test_seconds=2.0,
        load_seconds=5.0,
        setup_seconds=1.0,
        accuracies=(0.5, 0.6, 0.7),
    )
    return replace(trial, **changes)


def play(trials: list[SimulatedTrial], fleet: Fleet, asha: Asha = NO_STOPS) -> float:
    return Playback(trials, fleet, asha).run().seconds


def test_one_trial_takes_process_load_epochs_and_test() -> None:
    fleet = Fleet(gpus=1, process_seconds=4.0)
    assert play([make_trial(0)], fleet) == pytest.approx(4 + 5 + 3 * 10 + 2)


def test_one_trial_takes_as_long_packed_as_alone() -> None:
    packed = Fleet(gpus=1, slots=4, packed=True, gain=GAIN, process_seconds=4.0)
    assert play([make_trial(0)], packed) == pytest.approx(4 + 5 + 3 * 10 + 2)


def test_a_worker_loads_a_base_model_only_when_it_changes() -> None:
    models = ["m", "m", "n"]
    trials = [make_trial(i, model=model) for i, model in enumerate(models)]
    assert play(trials, Fleet(gpus=1)) == pytest.approx((5 + 1 + 5) + 3 * 32)


def test_a_full_pack_takes_trials_over_gain() -> None:
    trials = [make_trial(i) for i in range(4)]
    packed = Fleet(gpus=1, slots=4, packed=True, gain=GAIN)
    assert play(trials, packed) == pytest.approx(5 + 4 * 32 / 2.0)


def test_fractional_shares_without_gain_save_nothing_but_starts() -> None:
    trials = [make_trial(i, load_seconds=0.0, setup_seconds=0.0) for i in range(4)]
    assert play(trials, Fleet(1, slots=2)) == pytest.approx(play(trials, Fleet(1)))


@pytest.mark.parametrize("packed", [False, True])
def test_twice_the_gpus_never_take_longer(packed: bool) -> None:
    trials = [make_trial(i, epoch_seconds=3.0 + i % 7) for i in range(60)]
    fleet = Fleet(1, 4, True, GAIN) if packed else Fleet(1)
    seconds = [play(trials, replace(fleet, gpus=gpus)) for gpus in GPUS]
    assert seconds == sorted(seconds, reverse=True)


@pytest.mark.parametrize("fleet", [Fleet(1), Fleet(1, 4, True, GAIN), Fleet(1, 2)])
def test_utilization_is_a_part_of_one(fleet: Fleet) -> None:
    trials = [make_trial(i) for i in range(20)]
    for gpus in GPUS:
        assert 0.0 < Playback(trials, replace(fleet, gpus=gpus), NO_STOPS).run().utilization <= 1.0


def test_utilization_is_full_when_nothing_but_training_takes_time() -> None:
    trials = [make_trial(i, load_seconds=0.0, setup_seconds=0.0) for i in range(4)]
    assert Playback(trials, Fleet(2), NO_STOPS).run().utilization == pytest.approx(1.0)


def test_asha_stops_whoever_is_below_the_top_part_of_those_before() -> None:
    asha = Asha(max_epochs=4, grace_epochs=1, reduction_factor=2)
    # Medians of the first rung when each arrives: none, 0.5, 0.55, 0.5, 0.55.
    finals = (0.5, 0.6, 0.4, 0.7, 0.52)
    playback = Playback(
        [make_trial(i, accuracies=(final,)) for i, final in enumerate(finals)], Fleet(1), asha
    )
    playback.run()
    assert playback.epochs == {"0": 4, "1": 4, "2": 1, "3": 4, "4": 1}


def test_asha_compares_only_trials_of_one_cell() -> None:
    asha = Asha(max_epochs=4, grace_epochs=1, reduction_factor=2)
    trials = [make_trial(0, accuracies=(0.9,)), make_trial(1, accuracies=(0.1,), cell_id="other")]
    playback = Playback(trials, Fleet(1), asha)
    playback.run()
    assert playback.epochs == {"0": 4, "1": 4}


def test_a_stopped_trial_is_not_tested() -> None:
    asha = Asha(max_epochs=2, grace_epochs=1, reduction_factor=2)
    trials = [make_trial(0, accuracies=(0.9,)), make_trial(1, accuracies=(0.1,))]
    assert play(trials, Fleet(1), asha) == pytest.approx((5 + 2 * 10 + 2) + (1 + 10))


def test_patience_ends_a_trial_that_gets_no_better() -> None:
    trial = make_trial(0, accuracies=(0.5, 0.6, 0.6, 0.6, 0.9), patience=2)
    assert trial.last_epoch(8) == 4


def test_gain_is_linear_between_points_and_level_beyond() -> None:
    assert [GAIN.at(n) for n in (1, 2, 4, 9)] == pytest.approx([1.0, 4 / 3, 2.0, 2.0])


@pytest.mark.parametrize("text", ["", "4:2", "1:1,4:0.5", "1:1,x:2", "1:1,4"])
def test_a_gain_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        read_gain(text)


def test_drawn_accuracies_hang_on_trial_and_seed_alone(tmp_path: Path) -> None:
    spec = build_simulated_plan(write_config(tmp_path))[0]
    assert draw_curve(spec, 5, 0) == draw_curve(spec, 5, 0) != draw_curve(spec, 5, 1)
    assert all(0.0 <= value <= 1.0 for value in draw_curve(spec, 50, 0))


def test_a_longer_run_keeps_the_start_of_a_drawn_curve(tmp_path: Path) -> None:
    spec = build_simulated_plan(write_config(tmp_path))[0]
    assert draw_curve(spec, 9, 0)[:4] == draw_curve(spec, 4, 0)


def test_the_check_predicts_a_journal_of_exact_times(tmp_path: Path) -> None:
    folder = write_run(tmp_path, slack=0.0)
    assert "predicted 36.0 s, measured 36.0 s, ratio 1.000" in check_run(folder)


def test_the_check_does_not_see_the_measured_makespan(tmp_path: Path) -> None:
    folder = write_run(tmp_path, slack=36.0)
    assert "predicted 36.0 s, measured 72.0 s, ratio 0.500" in check_run(folder)


def test_a_journal_gives_workers_loads_and_epochs(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path, slack=0.0))
    durations = measure_durations(run.record)
    assert count_workers(run.record) == 2
    assert (durations.load, durations.setup) == ({"q": 3.0}, {"q": 1.0})
    assert durations.cells == {("q", 2, 100): 5.0}
    assert durations.test_share == pytest.approx(0.2)


def test_a_run_without_its_end_is_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path, slack=0.0)
    journal = folder / "journal.jsonl"
    journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(RunFolderError):
        check_run(folder)


def test_an_interrupted_run_is_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path, slack=0.0)
    journal = folder / "journal.jsonl"
    journal.write_text(journal.read_text().replace('"trials_left": 0', '"trials_left": 1'))
    with pytest.raises(RunFolderError):
        check_run(folder)


def test_the_check_adds_up_the_shares_of_a_pack(tmp_path: Path) -> None:
    folder = write_run(tmp_path, slack=0.0)
    (folder / "config.yaml").write_text(CONFIG + "resources: {engine: packed}")
    # Base 2 s, then twice: set-up 1 s and the parts of two trials, 11 s each.
    assert f"predicted {10 + 2 + 2 * (1 + 2 * 11):.1f} s" in check_run(folder)


def test_the_times_of_a_pack_are_not_taken_for_those_of_a_trial_alone(tmp_path: Path) -> None:
    folder = write_run(tmp_path, slack=0.0)
    (folder / "config.yaml").write_text(CONFIG + "resources: {engine: packed}")
    with pytest.raises(RunFolderError):
        simulate(build_parser().parse_args([str(folder)]))


def test_the_table_has_both_engines_on_every_number_of_gpus(tmp_path: Path) -> None:
    write_config(tmp_path)
    words = [str(tmp_path / "config.yaml"), "--price", "2"]
    text = simulate(build_parser().parse_args(words))
    assert text.count("| solo |") == text.count("| packed |") == len(GPUS)
    assert "packed gain (assumed)" in text
    assert "1,000 texts (assumed)" in text


def test_the_times_of_a_run_are_used_and_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path, slack=0.0)
    text = simulate(build_parser().parse_args([str(folder), "--packed-gain", "1:1,8:3"]))
    assert "(measured in the run's journal): q 50" in text
    assert "packed gain (given)" in text


def write_config(folder: Path) -> Any:
    path = folder / "config.yaml"
    path.write_text(CONFIG)
    return load_config(path)


def write_run(folder: Path, slack: float) -> Path:
    """Write the journal of 4 trials on 2 workers: start 10 s, load 3 s or set-up 1 s, two epochs of
    4 + 1 s, test 1 s; then ``slack`` seconds before the run is closed."""
    specs = build_simulated_plan(write_config(folder))
    versions: dict[str, str] = {}
    events: list[dict[str, Any]] = [
        {"event": "opened", "time": 100.0, "host": "h", "pid": 1, "command": "c"}
        | {"versions": versions, "git_commit": None, "predicted": None}
    ]
    events += [{"event": "planned", "time": 100.0, "trial": s.to_dict()} for s in specs]
    for pair, (begin, load) in enumerate([(110.0, 3.0), (124.0, 1.0)]):
        for spec in specs[2 * pair : 2 * pair + 2]:
            events += describe_trial(spec.trial_id, begin, load)
    events.sort(key=lambda event: event["time"])
    events.append({"event": "closed", "time": 136.0 + slack, "trials_left": 0})
    lines = [json.dumps(event) + "\n" for event in events]
    (folder / "journal.jsonl").write_text("".join(lines))
    return folder


def describe_trial(trial_id: str, begin: float, load: float) -> list[dict[str, Any]]:
    parts = {"train_seconds": 4.0, "eval_seconds": 1.0, "val_accuracy": 0.7, "val_loss": 0.5}
    epochs = [
        {"event": "epoch", "time": begin + load + 5.0 * epoch, "trial_id": trial_id}
        | {"epoch": epoch, "decision": decision, "best_val_accuracy": 0.7, **parts}
        for epoch, decision in ((1, "continue"), (2, "done"))
    ]
    ended = {"event": "ended", "time": begin + load + 11.0, "trial_id": trial_id}
    ended |= {"status": "finished", "error": None, "val_accuracy": 0.7, "val_loss": 0.5}
    ended |= {"load_seconds": load, "train_seconds": 8.0, "eval_seconds": 3.0}
    ended |= {"test_accuracy": 0.7, "epochs_run": 2}
    return [{"event": "started", "time": begin, "trial_id": trial_id}, *epochs, ended]
