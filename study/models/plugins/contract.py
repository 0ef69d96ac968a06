"""What every fusion and every backbone must keep, as checks that name what is broken.

The tests run them on the package's own classes, `python -m study.check_plugin` on a plug-in's.

Shapes: B beats, C classes, H heads, K channels and L time steps of the feature map, R RR features.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor

from study.config import CHOICES, INPUTS, LATE_RR_WIDTH, LIMITS, N_SAMPLES, TrialConfig
from study.keys import CLASSES
from study.models.backbone import BACKBONES, STEPS, Backbone
from study.models.classifier import Classifier, build_model
from study.models.declared import names_of
from study.models.fusion import FUSIONS
from study.models.fusion_base import Fusion
from study.models.pack_backbone import OneOfAPack
from study.models.rules import inputs_for, rr_routes

BEATS = 6

Sample = tuple[Tensor, Tensor | None, Tensor | None]
"""Windows [B, T], early ratios [B, 2], late RR vectors [B, R]."""

_GIVEN = {"n_rr", "features", "channels"}
"""What constructors are given beside options."""

_SMALL = {"embed_dim": 16, "heads": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A network that is checked: an input, a backbone and a fusion."""

    input: str
    fusion: str
    backbone: str = "macnn_se"
    of_backbone: bool = False  # whether the backbone is what is checked; else the fusion is

    @property
    def checked(self) -> type[Fusion] | type[Backbone]:
        """The class that is checked."""
        return BACKBONES[self.backbone] if self.of_backbone else FUSIONS[self.fusion]

    @property
    def text(self) -> str:
        """What it combines with the class that is checked, for a message."""
        return f"{self.input} with {self.backbone} and {self.fusion}"

    def config(self, **values: Any) -> TrialConfig:
        """Return its configuration, on windows that hide RR."""
        parts = {"input": self.input, "fusion": self.fusion, "backbone": self.backbone}
        return TrialConfig.from_flat({**parts, "segmentation": "beat", **_SMALL, **values})

    def model(self, *, seed: int = 7, **values: Any) -> Classifier:
        """Build its network."""
        config = self.config(**values)
        return build_model(config.signal, config.model, seed=(seed, 0, 0))

    def sample(self, *, width: int = LATE_RR_WIDTH["published7"]) -> Sample:
        """Return made-up beats for it."""
        random = torch.Generator().manual_seed(1)
        option = INPUTS[self.input]
        return (
            torch.randn(BEATS, N_SAMPLES, generator=random),
            0.5 + torch.rand(BEATS, 2, generator=random) if option.early_rr else None,
            torch.randn(BEATS, width, generator=random) if option.late_rr else None,
        )


def cases_of_fusion(fusion: str) -> list[Case]:
    """Return a fusion with every input that it goes with."""
    return [Case(input=input_, fusion=fusion) for input_ in inputs_for(fusion)]


def cases_of_backbone(backbone: str) -> list[Case]:
    """Return a backbone with every input, before a fusion of its mean and one over time."""
    pairs = [("ecg", "none"), ("opt1", "mhca_time"), ("opt2", "attention_pool"), ("opt3", "film")]
    return [
        Case(input=input_, fusion=fusion, backbone=backbone, of_backbone=True)
        for input_, fusion in pairs
    ]


def each(inputs: Sample, change: Callable[[Tensor], Tensor]) -> Sample:
    """Apply a function to each input that is there."""
    ecg, early, late = inputs
    return (
        change(ecg),
        None if early is None else change(early),
        None if late is None else change(late),
    )


def _close(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors are equal up to the rounding of another order of sums."""
    return torch.allclose(first, second, rtol=1e-4, atol=1e-5)


def constructor(case: Case) -> Iterator[str]:
    """The constructor takes exactly the options that the class declares."""
    parameters = inspect.signature(case.checked).parameters.values()
    options = names_of(case.checked)
    taken = {p.name for p in parameters if p.default is inspect.Parameter.empty} - _GIVEN
    for name in sorted(taken - options):
        yield f"takes {name}, which is not among its options"
    for name in sorted(options - {p.name for p in parameters}):
        yield f"declares the option {name}, and does not take it"


def outputs(case: Case) -> Iterator[str]:
    """The output is finite, [B, 4] in float32, in training and in evaluation."""
    for training in (True, False):
        output = case.model().train(training)(*case.sample())
        if (output.shape, output.dtype) != ((BEATS, len(CLASSES)), torch.float32):
            yield f"must be [{BEATS}, {len(CLASSES)}] in float32, got {_told(output)}"
        elif not output.isfinite().all():
            yield "is not finite for finite inputs"


def feature_map(case: Case) -> Iterator[str]:
    """The backbone gives [B, K, 64], where K is what the fusion takes."""
    model = case.model()
    if model.backbone is None:
        return
    ecg, early, _ = case.sample()
    features = model.backbone(model.rows(ecg, early, None)[:, None])
    if features.ndim != 3 or features.shape[::2] != (BEATS, STEPS):
        yield f"must be [{BEATS}, K, {STEPS}], got {_told(features)}"


def late_sets(case: Case) -> Iterator[str]:
    """A fusion with a late RR vector takes one of any width."""
    for name, width in LATE_RR_WIDTH.items() if INPUTS[case.input].late_rr else ():
        output = case.model(late_rr=name)(*case.sample(width=width))
        if output.shape != (BEATS, len(CLASSES)):
            yield f"late_rr {name}: must be [{BEATS}, {len(CLASSES)}], got {_told(output)}"


def gradients(case: Case) -> Iterator[str]:
    """Gradients reach ECG and RR exactly where the class says that they are used."""
    routes, uses_ecg = rr_routes(case.config()), FUSIONS[case.fusion].uses_ecg
    for training in (True, False):
        inputs = each(case.sample(), Tensor.requires_grad_)
        output = case.model().train(training)(*inputs)
        output.log_softmax(dim=1)[:, 0].sum().backward()
        expected = (("ECG", uses_ecg), ("early RR", routes.early), ("late RR", routes.late))
        for part, (name, used) in zip(inputs, expected, strict=True):
            if part is None:
                continue
            reached = part.grad is not None and bool((part.grad != 0).any())
            if reached is not used:
                yield (
                    f"{name}: declared as {'used' if used else 'unused'}, and its gradient is "
                    + ("not zero" if reached else "zero")
                )


def uses_of_rr(case: Case) -> Iterator[str]:
    """Other RR changes the output exactly where the class says that RR is used."""
    model, routes = case.model().eval(), rr_routes(case.config())
    ecg, early, late = case.sample()
    before = model(ecg, early, late)
    if early is not None and torch.equal(model(ecg, early.flip(0), late), before) is routes.early:
        yield f"early RR: other values must {'' if routes.early else 'not '}change the output"
    for other in () if late is None else (late.flip(0), 0 * late, 1e4 * late):
        if torch.equal(model(ecg, early, other), before) is routes.late:
            yield f"late RR: other values must {'' if routes.late else 'not '}change the output"


def independence(case: Case) -> Iterator[str]:
    """In evaluation the output of a beat does not depend on the order or mates of its batch."""
    model, inputs = case.model().eval(), case.sample()
    together = model(*inputs)
    order = [3, 0, 5, 1, 4, 2]
    if not _close(model(*each(inputs, itemgetter(order))), together[order]):
        yield "depends on the order of the beats"
    alone = [model(*each(inputs, itemgetter(slice(b, b + 1)))) for b in range(BEATS)]
    if not _close(torch.cat(alone), together):
        yield "depends on the other beats of its batch"


def start(case: Case) -> Iterator[str]:
    """First weights follow from the seed alone, and every part draws its own."""
    model, again, other = case.model(), case.model(), case.model(seed=8)
    state, same = model.state_dict(), again.state_dict()
    if not all(torch.equal(state[name], same[name]) for name in state):
        yield "the same seed gives other weights"
    for name, part in model.named_modules():
        own = [key for key, p in part.named_parameters(recurse=False)]
        if own and not hasattr(part, "reset_parameters"):
            yield f"{name}: has {', '.join(own)} and no `reset_parameters` that draws them"
    if all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True)):
        yield "another seed gives the same weights"


def state(case: Case) -> Iterator[str]:
    """All that training changes is in the state dict."""
    inputs, trained = case.sample(), case.model()
    trained(*inputs)  # moves the statistics of batch norms
    fresh = case.model(seed=8).eval()
    fresh.load_state_dict(trained.state_dict())
    if not torch.equal(fresh(*inputs), trained.eval()(*inputs)):
        yield "a network with the same state dict gives another output"


def options(case: Case) -> Iterator[str]:
    """Each declared option changes the network or its output."""
    for option in sorted(names_of(case.checked)):
        default = case.config().model.option(option)
        values = [value for value in _values(option) if value != default]
        # In training: over one token, heads differ by their dropout alone.
        if values and all(_alike(case, {}, {option: value}) for value in values):
            yield f"{option}: changes nothing"


def over_time(case: Case) -> Iterator[str]:
    """A fusion that is not `over_time` needs only the mean of the feature map over time."""
    fusion = case.model().double().eval().fusion
    if fusion.over_time or not fusion.uses_ecg or case.backbone != "macnn_se":
        return
    model = case.model().double().eval()
    inputs = each(case.sample(), Tensor.double)
    written = model(*inputs)
    model.run_by(OneOfAPack())
    if not _close(model(*inputs), written):
        yield "gives another output for the mean over time: say over_time = True"


def packs(case: Case) -> Iterator[str]:
    """A fusion that says `packs` gives the same for several members at once."""
    models = [case.model(seed=seed).eval() for seed in (7, 8)]
    if not models[0].packs:
        return
    maps, vectors = [], []
    for model in models:
        features, vector = model.encode(*case.sample(), None)
        maps.append(features)
        vectors.append(vector)
    fusions = [model.fusion for model in models]
    each = torch.stack([f(m, v) for f, m, v in zip(fusions, maps, vectors, strict=True)])
    stacked = torch.func.stack_module_state(list(fusions))
    late = None if vectors[0] is None else torch.stack([v for v in vectors if v is not None])

    def run(state: Sequence[dict[str, Tensor]], m: Tensor, v: Tensor | None) -> Tensor:
        output: Tensor = torch.func.functional_call(fusions[0], tuple(state), (m, v))
        return output

    axes = (0, 0, None if late is None else 0)
    try:
        together = torch.vmap(run, in_dims=axes, randomness="different")(
            stacked, torch.stack(maps), late
        )
    # Whatever PyTorch cannot map: each of its parts raises its own.
    except Exception as error:
        yield f"torch.vmap cannot run it ({str(error).splitlines()[0]}): leave packs = True out"
        return
    if not _close(together, each):
        yield "two members at once give other outputs than one by one: leave packs = True out"


def inspection(case: Case) -> Iterator[str]:
    """Attention [B, H, 64] sums to one over time; gates [D] lie between 0 and 1."""
    model = case.model().eval()
    weights = model.fusion.attention(*model.encode(*case.sample(), None))
    if weights is not None and not (
        weights.ndim == 3
        and weights.shape[::2] == (BEATS, STEPS)
        and _close(weights.sum(2), torch.ones(weights.shape[:2]))
    ):
        yield f"attention: must be [{BEATS}, H, {STEPS}] with sums of 1, got {_told(weights)}"
    gates = model.gate_values()
    if gates is not None and not (gates.ndim == 1 and bool(((gates > 0) & (gates < 1)).all())):
        yield f"gate_values: must be [D] in (0, 1), got {_told(gates)}"


CHECKS: dict[str, Callable[[Case], Iterator[str]]] = {
    check.__name__.replace("_", " "): check
    for check in (
        *(constructor, outputs, feature_map, late_sets, gradients, uses_of_rr, independence),
        *(start, state, options, over_time, packs, inspection),
    )
}
"""Every check by name; its docstring says the rule."""


def faults(check: str, case: Case) -> list[str]:
    """Return what a check finds in a case, which it names; an error counts as a fault."""
    found = []
    try:
        for fault in CHECKS[check](case):
            found.append(f"{case.text}: {fault}")
    # Whatever the class raises: it is another's code.
    except Exception as error:
        found.append(f"{case.text}: {type(error).__name__}: {error}")
    return found


def _told(tensor: Tensor) -> str:
    return f"{list(tensor.shape)} in {str(tensor.dtype).removeprefix('torch.')}"


def _values(option: str) -> tuple[object, ...]:
    """Return values of an option that a network of embedding width 16 can have."""
    if option in CHOICES:
        return CHOICES[option]
    low, high = LIMITS[option]
    few = {"embed_dim": (32,), "heads": (4,), "ffn_expansion": (2,), "gate_init": (-1.0,)}
    return few.get(option, (low, high))


def _alike(case: Case, first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether two values of options give the same network and, in training, the same output."""
    built = []
    for values in (first, second):
        model = case.model(**values)
        torch.manual_seed(0)
        built.append((model, model(*case.sample())))
    (one, output), (two, other) = built
    trained = [{name for name, _ in model.named_parameters()} for model in (one, two)]
    state, state_2 = one.state_dict(), two.state_dict()
    return (
        trained[0] == trained[1]
        and state.keys() == state_2.keys()
        and all(torch.equal(state[name], state_2[name]) for name in state)
        and torch.equal(output, other)
    )
