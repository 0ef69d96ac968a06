"""What every fusion of the table must keep: shapes, gradients, independence, declarations."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from operator import itemgetter

import pytest
import torch
from torch import Tensor

from study.config import INPUTS, LATE_RR_WIDTH, TrialConfig
from study.keys import CLASSES
from study.models.classifier import Classifier, RunBackbone, build_model
from study.models.cpu_backbone import FusedBackbone
from study.models.declared import names_of
from study.models.fusion import FUSIONS
from study.models.pack_backbone import OneOfAPack
from study.models.rules import inputs_for, rr_routes
from tests.models.reference_kernels import PLAIN

OPTIONS: dict[str, tuple[object, object]] = {
    "embed_dim": (16, 32),
    "heads": (1, 4),
    "ffn_expansion": (2, 4),
    "gate": ("learned", "frozen"),
    "gate_init": (-2.0, -1.0),
    "dropout": (0.1, 0.5),
    "rr_loss": (0.0, 0.5),
}
"""Every option that a fusion may declare, and two values of it."""

EXPECTED = {
    "none": (False, False, 90_532),
    "concat": (True, True, 139_840),
    "concat_proj": (True, True, 140_772),
    "mhca": (False, True, 157_156),
    "mhca_residual": (True, True, 157_156),
    "mhca_time_plain": (True, True, 157_156),
    "mhca_time": (True, True, 161_252),
    "attention_pool": (False, False, 160_868),
    "film": (True, True, 115_172),
    "expert_sum": (True, True, 95_592),
    "rr_only": (True, True, 5_060),
}
"""Fusion: uses_rr, takes_late_rr, parameters of its network with one channel, D 64 and R 7."""

PAIRS = [(input_, fusion) for fusion in FUSIONS for input_ in inputs_for(fusion)]
BEATS = 6

Sample = tuple[Tensor, Tensor | None, Tensor | None]


def config(
    input_: str, fusion: str, late_rr: str = "published7", **options: object
) -> TrialConfig:
    # Beat windows: the rhythm can then enter by the inputs alone.
    names = {"input": input_, "segmentation": "beat", "fusion": fusion, "late_rr": late_rr}
    return TrialConfig.from_flat({**names, **options})


def build(trial: TrialConfig) -> Classifier:
    return build_model(trial.signal, trial.model, seed=(7, 0, 0))


def sample(trial: TrialConfig, *, seed: int = 1) -> Sample:
    random = torch.Generator().manual_seed(seed)
    option, width = trial.signal.option, LATE_RR_WIDTH[trial.signal.late_rr]
    return (
        torch.randn(BEATS, 128, generator=random),
        0.5 + torch.rand(BEATS, 2, generator=random) if option.early_rr else None,
        torch.randn(BEATS, width, generator=random) if option.late_rr else None,
    )


def each(inputs: Sample, change: Callable[[Tensor], Tensor]) -> Sample:
    ecg, early, late = inputs
    return (
        change(ecg),
        None if early is None else change(early),
        None if late is None else change(late),
    )


@pytest.fixture(params=PAIRS, ids=[f"{i}-{f}" for i, f in PAIRS])
def trial(request: pytest.FixtureRequest) -> TrialConfig:
    """Every legal pair of input and fusion."""
    return config(*request.param)


def test_table_is_complete() -> None:
    assert list(FUSIONS) == list(EXPECTED)
    assert {input_ for input_, _ in PAIRS} == set(INPUTS)
    assert set().union(*map(names_of, FUSIONS.values())) == set(OPTIONS)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_declarations_and_size(fusion: str) -> None:
    class_ = FUSIONS[fusion]
    input_ = next(i for i in inputs_for(fusion) if INPUTS[i].channels == 1)
    size = sum(p.numel() for p in build(config(input_, fusion)).parameters())
    assert (class_.uses_rr, class_.takes_late_rr, size) == EXPECTED[fusion]
    # A parameter with a default is the class's own affair (attention_pool's constant).
    given = {
        name
        for name, p in inspect.signature(class_).parameters.items()
        if p.default is inspect.Parameter.empty
    }
    assert given - {"n_rr"} == names_of(class_)


@pytest.mark.parametrize("late_rr", sorted(LATE_RR_WIDTH))
def test_every_late_set_fits_beside_a_narrow_backbone(late_rr: str) -> None:
    for fusion, class_ in FUSIONS.items():
        if class_.takes_late_rr:
            trial = config("opt1", fusion, late_rr, backbone_width=128)
            assert build(trial)(*sample(trial)).shape == (BEATS, len(CLASSES))


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_gradients_reach_what_is_declared(trial: TrialConfig, training: bool) -> None:
    ecg, early, late = sample(trial)
    model = build(trial).train(training)
    for part in (ecg, early, late):
        if part is not None:
            part.requires_grad_()
    output = model(ecg, early, late)
    assert output.shape == (BEATS, len(CLASSES)) and output.dtype == torch.float32
    assert torch.isfinite(output).all()
    output.log_softmax(dim=1)[:, 0].sum().backward()
    routes, fusion = rr_routes(trial), FUSIONS[trial.model.fusion]
    assert (ecg.grad is not None and bool((ecg.grad != 0).any())) is fusion.uses_ecg
    if early is not None:
        assert early.grad is not None
        assert bool((early.grad != 0).any()) is routes.early
    if late is not None:
        assert late.grad is not None
        assert bool((late.grad != 0).any()) is routes.late


def test_logits_change_with_rr_only_where_declared(trial: TrialConfig) -> None:
    ecg, early, late = sample(trial)
    model = build(trial).eval()
    before = model(ecg, early, late)
    routes = rr_routes(trial)
    if early is not None:
        assert torch.equal(model(ecg, early.flip(0), late), before) is not routes.early
    if late is not None:
        for other in (late.flip(0), torch.zeros_like(late), 1e4 * late):
            assert torch.equal(model(ecg, early, other), before) is not routes.late


@pytest.mark.parametrize("fusion", ["mhca", "attention_pool"])
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_blind_fusions_are_bit_identical_under_any_rr(fusion: str, training: bool) -> None:
    """Also where RR is handed to them directly, and under the dropout of training."""
    trial = config("opt1" if fusion == "mhca" else "ecg", fusion, heads=4)
    model = build(trial).fusion.train(training)
    feature_map = torch.randn(BEATS, 256, 64)
    rr = torch.randn(BEATS, 7, requires_grad=True)

    def logits(values: Tensor) -> Tensor:
        torch.manual_seed(3)
        output: Tensor = model(feature_map, values)
        return output

    before = logits(rr)
    for values in (rr.flip(0), torch.zeros(BEATS, 7), 1e4 * rr, -rr):
        assert torch.equal(logits(values), before)
    before.square().sum().backward()
    assert rr.grad is None or torch.count_nonzero(rr.grad) == 0


def test_independent_of_batch_order_and_mates(trial: TrialConfig) -> None:
    model = build(trial).eval()
    inputs = sample(trial)
    together = model(*inputs)
    order = [3, 0, 5, 1, 4, 2]
    # A kernel may sum in another order for another batch size: equal up to rounding.
    close = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-6)
    close(model(*each(inputs, itemgetter(order))), together[order])
    for beat in range(BEATS):
        close(model(*each(inputs, itemgetter(slice(beat, beat + 1)))), together[beat : beat + 1])


def test_state_dict_round_trip(trial: TrialConfig) -> None:
    inputs, trained = sample(trial), build(trial)
    if inputs[2] is not None:
        trained.set_rr_statistics(inputs[2].mean(0), inputs[2].std(0))
    trained(*inputs)  # moves the batch-norm statistics
    fresh = build_model(trial.signal, trial.model, seed=(8, 0, 0)).eval()
    assert not torch.equal(fresh(*inputs), trained.eval()(*inputs))
    fresh.load_state_dict(trained.state_dict())
    assert torch.equal(fresh(*inputs), trained(*inputs))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_attention_is_over_time_and_sums_to_one(fusion: str) -> None:
    trial = config(inputs_for(fusion)[0], fusion, heads=4, backbone_width=128)
    model = build(trial)
    weights = model.fusion.attention(*model.encode(*sample(trial), None))
    if fusion in ("mhca_time_plain", "mhca_time", "attention_pool"):
        assert weights is not None and weights.shape == (BEATS, 4, 64)
        torch.testing.assert_close(weights.sum(2), torch.ones(BEATS, 4))
    else:
        assert weights is None


@pytest.mark.parametrize(("input_", "fusion"), PAIRS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "other", [FusedBackbone(torch.float64, PLAIN), OneOfAPack()], ids=["fused", "packed"]
)
def test_runs_fused_and_packed_as_it_is_written(
    other: RunBackbone, input_: str, fusion: str, training: bool
) -> None:
    """In float64, with what the fusion says of `over_time`: outputs and gradients to rounding."""
    trial = config(input_, fusion, dropout=0.0)
    inputs = each(sample(trial), Tensor.double)
    runs = []
    for run_backbone in (None, other):
        model = build(trial).double().train(training)
        model.run_backbone = run_backbone
        output = model(*inputs)
        if training:
            output.square().sum().backward()
        runs.append((output, {n: p.grad for n, p in model.named_parameters()}))
    (written, gradients), (otherwise, other_gradients) = runs
    torch.testing.assert_close(otherwise, written, rtol=1e-9, atol=1e-10)
    for name, gradient in other_gradients.items():
        if gradient is not None:
            torch.testing.assert_close(gradient, gradients[name], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("input_", "fusion"), PAIRS)
@pytest.mark.parametrize("training", [True, False])
def test_runs_with_a_backbone_in_bfloat16(input_: str, fusion: str, training: bool) -> None:
    """Weights, their gradients and scores stay float32; bfloat16 has 8 bits, .004 an operation."""
    trial = config(input_, fusion, dropout=0.0)
    model = build(trial).train(training)
    written = model(*sample(trial))
    model.run_backbone = FusedBackbone(torch.bfloat16, PLAIN, exact=False)
    output = model(*sample(trial))
    assert output.dtype is torch.float32
    torch.testing.assert_close(output, written, rtol=0.1, atol=0.1)
    output.square().sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    for gradient in gradients:
        assert gradient.dtype is torch.float32
        assert gradient.isfinite().all()


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_declared_options_are_those_that_change_the_network(fusion: str, option: str) -> None:
    def built(value: object) -> tuple[dict[str, Tensor], set[str], Tensor]:
        names = {"input": inputs_for(fusion)[0], "fusion": fusion, "embed_dim": 16}
        trial = TrialConfig.from_flat({**names, option: value})
        model = build(trial)
        torch.manual_seed(0)
        # In training mode: over one token, heads differ by dropout alone.
        output = model(*sample(trial))
        return model.state_dict(), {n for n, _ in model.named_parameters()}, output

    (state, trained, output), (state_2, trained_2, output_2) = map(built, OPTIONS[option])
    alike = (
        trained == trained_2
        and state.keys() == state_2.keys()
        and all(torch.equal(state[name], state_2[name]) for name in state)
        and torch.equal(output, output_2)
    )
    assert alike is (option not in names_of(FUSIONS[fusion]))
