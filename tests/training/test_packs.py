"""Members in lockstep are what they are alone."""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar, cast

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._dynamo.backends.common import aot_autograd
from torch.utils._python_dispatch import TorchDispatchMode

from study.data.beat_set import BeatSet
from study.data.folds import Folds
from study.models.fusion import FUSIONS
from study.models.pack_backbone import PackedBackbone
from study.models.rules import inputs_for
from study.training.device import DeviceBeats, on_cpu
from study.training.engine import Engine
from study.training.lockstep import PackedStep
from study.training.member import Member, build_members
from study.training.packs import Packed
from study.training.results import TrialResult
from study.training.serial import Serial, Trainer
from tests.builders import small_config, small_training
from tests.training.conftest import TEMPLATED, beside_template

CPU = torch.device("cpu")
EXACT = Engine(precision="fp64", packed=True)

Members = Callable[..., list[Member]]


@pytest.fixture
def members(few_beats: BeatSet, few_folds: Folds) -> Members:
    """A factory of the members of a small trial: three a seed, without dropout."""

    def make(n_seeds: int = 1, engine: Engine = EXACT, **values: Any) -> list[Member]:
        usual = {"fusion": "rr_only", "dropout": 0.0}
        usual |= {"batch_size": 16, "normal_beats_per_epoch": 8}
        return build_members(
            small_config(**{**usual, **values}),
            DeviceBeats(beside_template(few_beats), CPU),
            few_folds.splits(few_beats),
            seeds=range(n_seeds),
            study_seed=3,
            dtype=engine.weights,
            run_backbone=engine.backbone(CPU),
        )

    return make


def epochs(trainer: Trainer, n: int = 2) -> Tensor:
    return torch.stack([trainer.train_epoch(epoch) for epoch in range(n)])


def packed(members: Sequence[Member], largest: int = 99, **options: Any) -> Packed:
    return Packed(members, largest=largest, **options)


def assert_same_members(first: Trainer, second: Trainer) -> None:
    for ours, theirs in zip(first.state_dicts(), second.state_dicts(), strict=True):
        for part in ("model", "average"):
            assert (ours[part] is None) == (theirs[part] is None)
            for name, value in (ours[part] or {}).items():
                torch.testing.assert_close(
                    value, theirs[part][name], rtol=1e-9, atol=1e-11, msg=f"{part} {name}"
                )
    predictions = (first.predict(exact=True), second.predict(exact=True))
    for predicted, others in zip(*predictions, strict=True):
        torch.testing.assert_close(predicted, others, rtol=1e-9, atol=1e-11)


def of_fusion(fusion: str) -> dict[str, Any]:
    late = FUSIONS[fusion].takes_late_rr
    return {"fusion": fusion, "input": inputs_for(fusion)[-1] if late else "opt2"}


_OPTIONS = {"gradient_clip": 0.5, "ema_decay": 0.9, "rr_dropout": 0.3, "augment": 1.0}
CASES: dict[str, dict[str, Any]] = {
    **{fusion: {**of_fusion(fusion), **_OPTIONS} for fusion in FUSIONS},
    # Each seed has its own permutation of RR.
    "placebo": {"rr": "placebo", "n_seeds": 2},
    # Four channels, and scalars of shape that are never hidden.
    "template": {**of_fusion("film"), **_OPTIONS, **TEMPLATED, "rr": "placebo", "n_seeds": 2},
    "narrow": {**of_fusion("expert_sum"), "backbone_width": 128, "rr_loss": 0.5},
    "focal": {"loss": "focal", "label_smoothing": 0.1, "gradient_clip": 0.0},
}


@pytest.mark.parametrize("case", CASES)
def test_packed_members_equal_separate_ones(case: str, members: Members) -> None:
    alone, together = Serial(members(**CASES[case])), packed(members(**CASES[case]))
    torch.testing.assert_close(epochs(together), epochs(alone), rtol=1e-9, atol=1e-11)
    assert_same_members(together, alone)


def test_a_checkpoint_goes_from_pack_to_single_members_and_back(members: Members) -> None:
    through, first = (packed(members(ema_decay=0.9)) for _ in range(2))
    epochs(through, 2)
    first.train_epoch(0)
    alone = Serial(members(ema_decay=0.9))
    alone.load_state_dicts(on_cpu(first.state_dicts()))
    assert alone.last_learning_rate == pytest.approx(first.last_learning_rate)
    again = packed(members(ema_decay=0.9), largest=2)
    again.load_state_dicts(on_cpu(alone.state_dicts()))
    for trainer in (alone, again):
        trainer.train_epoch(1)
        assert_same_members(trainer, through)
        assert trainer.last_learning_rate == pytest.approx(through.last_learning_rate)


def test_a_pack_that_does_not_fit_is_halved(
    members: Members, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    step, taken = PackedStep._step, []
    fitting = 2

    def out_of_memory(pack: PackedStep) -> None:
        # Not in the first step: what it has changed by then must be undone.
        taken.append(len(pack.members))
        if len(pack.members) > fitting and len(taken) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        step(pack)

    monkeypatch.setattr(PackedStep, "_step", out_of_memory)
    trainer = packed(members(n_seeds=2, ema_decay=0.9))
    with caplog.at_level(logging.WARNING):
        losses = epochs(trainer)
    assert taken[:2] == [6, 6]
    assert trainer.note == "out of memory with 3 members in a pack; now packs of 1, 2, 1, 2"
    assert "out of memory with 6 members in a pack; now packs of 3, 3" in caplog.text
    alone = Serial(members(n_seeds=2, ema_decay=0.9))
    torch.testing.assert_close(losses, epochs(alone), rtol=1e-9, atol=1e-11)
    assert_same_members(trainer, alone)
    fitting = 0
    with pytest.raises(torch.OutOfMemoryError):
        packed(members()).train_epoch(0)


def test_dropout_differs_between_members_and_is_distributed_as_alone(members: Members) -> None:
    """The loss of one batch under 200 masks: one member 200 times, and 200 copies of it."""
    values: dict[str, Any] = {
        "dropout": 0.5,
        "embed_dim": 16,
        "batch_size": 200,
        "normal_beats_per_epoch": 160,
    }
    member = members(**values)[0]
    index = torch.from_numpy(member.batches(0)[0])
    batch = member.inputs.take(index)
    member.model.train()
    torch.manual_seed(0)
    with torch.no_grad():
        alone = torch.stack(
            [
                member.loss(member.model(batch.ecg, None, batch.late_rr), member.label[index])
                for _ in range(200)
            ]
        )
    pack = PackedStep([members(**values)[0] for _ in range(200)])
    pack._index.copy_(index.expand(200, -1))
    pack._step()
    together = pack._losses
    assert together.unique().numel() == 200
    # Means within four standard errors, spreads within a quarter: 5 standard errors of each.
    error = (alone.var() / 200 + together.var() / 200).sqrt()
    assert abs(alone.mean() - together.mean()) < 4 * error
    assert 0.75 < together.std() / alone.std() < 1.33


def test_a_packed_trial_repeats_itself(tiny_beats: BeatSet, tiny_folds: Folds) -> None:
    def result(engine: Engine) -> TrialResult:
        values: dict[str, Any] = {**of_fusion("mhca_time"), "dropout": 0.0, "rr_dropout": 0.2}
        trial = small_training(tiny_beats, tiny_folds, engine=engine, epochs=1, **values)
        trial.run_epoch()
        return trial.finish()

    first, second, serial = map(result, (Engine(packed=True), Engine(packed=True), Engine()))
    assert np.array_equal(first.log_probs, second.log_probs)
    np.testing.assert_allclose(first.log_probs, serial.log_probs, atol=0.02)
    assert [len(state) for state in first.weights] == [len(state) for state in serial.weights]


def test_lower_precision_trains_a_pack(members: Members) -> None:
    lower, full = (
        epochs(engine.trainer(members(engine=engine, fusion="film")))
        for engine in (Engine("bf16", packed=True), Engine(packed=True))
    )
    assert not torch.equal(lower, full)
    torch.testing.assert_close(lower, full, rtol=0.1, atol=0.05)


def test_compiled_backbone_is_one_graph(members: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced forwards and backwards; what Triton makes of the graph is seen on a GPU only.

    That of a mean over time is traced below, where the compiler refuses it.
    """
    traced = functools.partial(torch.compile, backend="aot_eager")
    monkeypatch.setattr(torch, "compile", traced)
    values = of_fusion("mhca_time")
    plain, compiled = (packed(members(**values), compiled=on) for on in (False, True))
    torch.testing.assert_close(epochs(compiled, 1), epochs(plain, 1), rtol=1e-9, atol=1e-11)
    assert_same_members(compiled, plain)
    assert compiled.note == ""


def refuse(*_: Any, **__: Any) -> Any:
    raise RuntimeError("Python.h: no such file\nand more")


def leave(graph: Any, _: Any) -> Any:
    return graph


@pytest.mark.parametrize("backwards", [False, True])
def test_a_pack_whose_kernels_cannot_be_compiled_trains_without(
    backwards: bool,
    members: Members,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The compiler refuses the whole graph, or what it traced of the way back alone."""
    backend = aot_autograd(fw_compiler=leave, bw_compiler=refuse) if backwards else refuse
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    monkeypatch.setattr(PackedBackbone, "refused", "")
    # Otherwise what another test has compiled is taken.
    torch.compiler.reset()
    plain, refused = (packed(members(**of_fusion("none")), compiled=on) for on in (False, True))
    torch.testing.assert_close(epochs(refused, 1), epochs(plain, 1), rtol=0, atol=0)
    assert re.match(
        r"kernels cannot be compiled: trains about half as fast \(.*Python.h: no such file",
        refused.note,
    )
    # Said of every trial of this process, and not tried again.
    again = packed(members(**of_fusion("none")), compiled=True)
    again.train_epoch(0)
    assert again.note == refused.note
    warned = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.getMessage() for record in warned] == [refused.note]


class _NoWaiting(TorchDispatchMode):
    """Refuses what copies a value from a device to the host: it would end a graph's capture."""

    waits: ClassVar = "_local_scalar_dense nonzero masked_select equal is_nonzero unique".split()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        assert func.overloadpacket.__name__ not in self.waits, f"{func} waits for the device"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_steps_never_wait(fusion: str, members: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    def printed(tensor: Tensor) -> str:
        raise AssertionError("a tensor is printed, which reads its values")

    # Printing sets the mode below aside.
    monkeypatch.setattr(Tensor, "__repr__", printed)
    pack = PackedStep(members(**of_fusion(fusion), **_OPTIONS))
    with cast(AbstractContextManager[None], cast(Any, _NoWaiting)()):
        pack._step()
    assert bool(pack._losses.isfinite().all())


def test_only_training_rounds_products(members: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.backends.cuda.matmul
    precisions: list[tuple[bool, str]] = []
    outputs_of = PackedStep._outputs_of

    def seen(pack: PackedStep, *arguments: Any) -> Tensor:
        precisions.append((pack._skeleton.training, cuda.fp32_precision))
        return outputs_of(pack, *arguments)

    monkeypatch.setattr(PackedStep, "_outputs_of", seen)
    before = cuda.fp32_precision
    trainer = packed(members(), tf32=True)
    trainer.train_epoch(0)
    trainer.predict(exact=True)
    assert set(precisions) == {(True, "tf32"), (False, before)}
    assert before != "tf32"
