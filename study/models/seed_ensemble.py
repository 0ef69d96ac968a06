"""The networks of one configuration and several seeds as one model: mean probabilities, one file.

A network is more confident on new patients than it is right. A temperature corrects that (Guo et
al. 2017, https://arxiv.org/abs/1706.04599): probabilities are raised to its inverse and normalised
again. The most probable class stays the same. `study.statistics.calibration` fits it.

Shapes: S seeds, B beats, T samples (128), R late RR features, D scalars of shape, C
classes.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from study.config import OWN_OPTIONS, TrialConfig
from study.errors import CheckpointError, ConfigError, PluginError
from study.files import archive_fault
from study.keys import CLASSES
from study.models.backbone import BACKBONES
from study.models.classifier import Classifier, build_model
from study.models.declared import names_of
from study.models.fusion import FUSIONS
from study.models.plugins.plugin import require, used_by

FORMAT = "2"
"""Format of the file. Change it when a window, an RR feature or a network changes so that stored
weights would give other results: tests/test_demo.py pins what the shipped champion decides."""

_READABLE = (FORMAT, "0.1.0")
"""Files of 0.1.0 have that package's version as their format, and no temperature."""

CHAMPION = "champion.pt"
"""The shipped model; champion.md beside it is its card, `study.champion` makes both."""

SHIPPED = "the shipped champion"
"""Origin of the model that is part of this package."""

_BATCH = 128
"""Beats of a pass: it is quickest where activations fit a core's cache."""


@dataclass(frozen=True, slots=True, eq=False)
class SeedEnsemble:
    """Trained networks of one configuration."""

    config: TrialConfig
    models: tuple[Classifier, ...]  # one network a seed
    # What a user must know. `trained_on` is a line that is shown with every use, `data_source` the
    # kind of the records trained on (see `study.data.source`).
    about: Mapping[str, str] = field(default_factory=dict)
    temperature: float = 1.0  # of the mean probability; 1 leaves it as it is

    @classmethod
    def shipped(cls) -> SeedEnsemble:
        """Return the champion that is part of this package."""
        return cls.read((files(__package__) / CHAMPION).read_bytes())

    @classmethod
    def of_weights(
        cls,
        config: TrialConfig,
        weights: Sequence[Mapping[str, Tensor]],
        about: Mapping[str, str] | None = None,
        temperature: float = 1.0,
    ) -> SeedEnsemble:
        """Build the networks of a configuration with given weights, a state dict a seed.

        Raises:
            CheckpointError: If there are no weights, or they are those of another configuration.
        """
        if not weights:
            raise CheckpointError("weights: an ensemble needs those of one seed or more, got none")
        models = []
        for state in weights:
            # Any seed serves: the weights are replaced.
            model = build_model(config.signal, config.model, seed=(0,))
            try:
                model.load_state_dict(state)
            except (RuntimeError, TypeError, AttributeError) as error:
                raise CheckpointError(
                    f"weights are not of this configuration: {config.flat()}: {error}"
                ) from error
            models.append(model.eval().requires_grad_(False))
        return cls(config, tuple(models), dict(about or {}), temperature)

    @classmethod
    def at(cls, file: Path, plugins: Iterable[Path] = ()) -> SeedEnsemble:
        """Read a file, as `read` does; its plug-ins may lie beside it too."""
        return cls.read(file.read_bytes(), [*plugins, *sorted(file.parent.glob("*.py"))])

    @classmethod
    def read(cls, content: bytes, plugins: Iterable[Path] = ()) -> SeedEnsemble:
        """Return the ensemble that `content` gave; nothing in it is executed.

        Raises:
            CheckpointError: If it is no ensemble, damaged, or of another version or other classes.
            PluginError: If a plug-in is missing, or cannot be used.
        """
        # Checked first: PyTorch would load altered weights without an error.
        if fault := archive_fault(content):
            raise CheckpointError(f"the ensemble is damaged ({fault})")
        try:
            loaded = torch.load(io.BytesIO(content), weights_only=True)
            if isinstance(loaded, list):
                raise CheckpointError(
                    "is no model: it has the weights of a trial alone, as its weights.pt; "
                    "`python -m study.champion --study NAME --arm ARM` makes a model"
                )
            version, config, weights = loaded["version"], loaded["config"], loaded["weights"]
            classes, about = tuple(map(str, loaded["classes"])), dict(loaded["about"])
            config, weights = dict(config), list(weights)
            temperature = float(loaded.get("temperature", 1.0))
            needed = dict(loaded.get("plugins", {}))
        except CheckpointError:
            raise
        except (
            RuntimeError,
            EOFError,
            LookupError,
            TypeError,
            ValueError,
            pickle.UnpicklingError,
        ) as error:
            raise CheckpointError(f"the ensemble is damaged ({type(error).__name__})") from error
        if version not in _READABLE:
            raise CheckpointError(
                f"the ensemble is of format {version}, this version reads {', '.join(_READABLE)}"
            )
        if classes != CLASSES:
            raise CheckpointError(
                f"the ensemble has classes {', '.join(classes)}, this version {', '.join(CLASSES)}"
            )
        require(needed, plugins)
        try:
            return cls.of_weights(TrialConfig.from_flat(config), weights, about, temperature)
        except ConfigError as error:
            raise CheckpointError(f"the ensemble is damaged ({error})") from error

    def content(self) -> bytes:
        """Return the content of its file."""
        buffer, model = io.BytesIO(), self.config.model
        plugins = {plugin.name: plugin.digest for plugin in used_by(model)}
        # Options of a plug-in that it does not use would be unknown to who reads it.
        others = OWN_OPTIONS.keys() - names_of(FUSIONS[model.fusion])
        others -= names_of(BACKBONES[model.backbone])
        torch.save(
            {
                **({"plugins": plugins} if plugins else {}),
                "version": FORMAT,
                "classes": list(CLASSES),
                "config": {k: v for k, v in self.config.flat().items() if k not in others},
                "about": dict(self.about),
                "temperature": self.temperature,
                "weights": [_halved(model.state_dict()) for model in self.models],
            },
            buffer,
        )
        return buffer.getvalue()

    @torch.inference_mode()
    def log_probs(
        self,
        ecg: Tensor,
        early_rr: Tensor | None,
        late_rr: Tensor | None,
        late_shape: Tensor | None = None,
    ) -> Tensor:
        """Return each network's log-probabilities [S, B, C].

        They are of windows [B, T] ([B, 2, T] under `morphology = both`), with early ratios [B, 2],
        late RR vectors [B, R] and scalars of shape [B, D] where the configuration has them.
        """
        chunks = []
        for start in range(0, len(ecg), _BATCH):
            part = slice(start, start + _BATCH)
            early, late, shape = (
                None if rows is None else rows[part] for rows in (early_rr, late_rr, late_shape)
            )
            scores = [model(ecg[part], early, late, late_shape=shape) for model in self.models]
            chunks.append(torch.stack(scores))
        return F.log_softmax(torch.cat(chunks, dim=1), dim=2)

    def probs(
        self,
        ecg: Tensor,
        early_rr: Tensor | None,
        late_rr: Tensor | None,
        late_shape: Tensor | None = None,
    ) -> Tensor:
        """Return the mean of the networks' probabilities [B, C], not calibrated."""
        return self.log_probs(ecg, early_rr, late_rr, late_shape).exp().mean(dim=0)

    def predict(
        self,
        ecg: NDArray[np.float32],
        early_rr: NDArray[np.float32] | None,
        late_rr: NDArray[np.float32] | None,
        late_shape: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Return calibrated probabilities [B, C]; the arrays given may be read-only."""
        others = (early_rr, late_rr, late_shape)
        given = [None if rows is None else torch.tensor(rows) for rows in others]
        probs = np.asarray(self.probs(torch.tensor(ecg), *given).numpy(), dtype=np.float32)
        return tempered(probs, self.temperature)


def tempered(probs: NDArray[np.float32], temperature: float) -> NDArray[np.float32]:
    """Return probabilities [B, C] at a temperature; 1 changes no bit."""
    if temperature == 1.0:
        return probs
    powers = (probs / probs.max(axis=1, keepdims=True)) ** (1 / temperature)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)


def _halved(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights in half precision where that loses nothing."""
    halves = {name: values.half() for name, values in state.items()}
    return {
        name: halves[name] if torch.equal(halves[name].to(values.dtype), values) else values
        for name, values in state.items()
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """An ensemble, and where it came from."""

    ensemble: SeedEnsemble  # the networks
    origin: str  # one line for titles: the shipped one, a file, or name and version

    @classmethod
    def shipped(cls) -> Loaded:
        """Return the champion that is part of this package."""
        return cls(ensemble=SeedEnsemble.shipped(), origin=SHIPPED)

    @classmethod
    def at(cls, file: Path, origin: str, plugins: Iterable[Path] = ()) -> Loaded:
        """Read a file, as `SeedEnsemble.at` does; errors name the origin."""
        try:
            return cls(ensemble=SeedEnsemble.at(file, plugins), origin=origin)
        except PluginError as error:
            raise PluginError(f"--model {origin}: {error}") from error
        except CheckpointError as error:
            mend = "give another --model, or bring a damaged one back from a copy"
            raise CheckpointError(f"--model {origin}: {error}; {mend}") from error
