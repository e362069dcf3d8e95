"""A classifier for scikit-learn: fit, predict, and a network of some hundred bytes.

Needs the extra ``sklearn``.  It is in no other name of the package: ``import refmiracle`` and all
of its face do without scikit-learn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refmiracle.errors import InputError
from refmiracle.extras import import_extra
from refmiracle.fitting import fit
from refmiracle.given import Channels, Given, as_network
from refmiracle.model import Model
from refmiracle.nn.layers import Dense, Flatten, Relu
from refmiracle.numerics.whole import as_array, described
from refmiracle.training.choosing import GivenSettings, check_choice
from refmiracle.training.settings import PRESETS

if TYPE_CHECKING:
    from typing import Self

    class BaseEstimator:
        """What scikit-learn's class gives, for type checkers: it has no types of its own."""

        def get_params(self, deep: bool = True) -> dict[str, Any]:
            """Return the parameters by name."""

        def set_params(self, **params: Any) -> Self:
            """Change parameters."""

        def __sklearn_tags__(self) -> Any:
            """Return what it can do."""

    class ClassifierMixin:
        """The same."""

        def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
            """Return the share of samples that it labels right."""

else:
    _base = import_extra("sklearn.base", "sklearn", ("BaseEstimator", "ClassifierMixin"))
    BaseEstimator, ClassifierMixin = _base.BaseEstimator, _base.ClassifierMixin

_validation = import_extra("sklearn.utils.validation", "sklearn", ("validate_data",))
_targets = import_extra("sklearn.utils.multiclass", "sklearn", ("check_classification_targets",))
_utils = import_extra("sklearn.utils", "sklearn", ("check_random_state",))

HIDDEN = 32
SEEDS = 2**32
_NONE = object()  # no labels are asked for; None is none where they are
# Settings of a run that are parameters of the classifier.
_OWN = (
    *("steps", "groups", "group_steps", "bits_per_block", "block_size", "batch_size", "rate"),
    "engine",
)


class MiracleClassifier(ClassifierMixin, BaseEstimator):
    """A Bayesian network, trained and compressed by MIRACLE with Mean-KL.

    It learns from images, or from any table of numbers: networks take bytes, so each feature is
    one of 256 levels.  Labels may be any values.  It pickles as its parameters and the bytes of its
    .rmc file, ``model_.data``.

    Parameters
    ----------
    network : str, Network, bytes or sequence of layers, optional
        As `refmiracle.fit` takes it.  By default ``Dense(32), Relu(), Dense(classes)``.  One that
        tells more classes apart than there are labels is asked about those alone.
    preset : str
        How long, and how many bits: ``smoke``, which a cross-validation can wait for, ``default``
        or ``paper``.
    scale : str, optional
        None: X is bytes, or floats in [0, 1].  ``minmax``: X is any numbers; each feature is
        scaled to [0, 1] by the least and the largest that `fit` has seen, and cut off there.
        These are kept beside the file: two floats for each feature.
    channels : str
        Of images with an axis for them: ``last`` or ``first``.
    random_state : int, RandomState or None
        A whole number is the seed: the same one gives the same bytes.
    engine : str
        ``numba`` or ``numpy``.
    steps, groups, group_steps, bits_per_block, block_size, batch_size : int, optional
        Of `refmiracle.training.settings.Settings`; by default the preset's, but for a batch of at
        most all samples.
    rate : float, optional
    settings : mapping, optional
        Other settings of it, by name; the seed is `random_state`.
    progress : bool
        Whether to show how far the training is.

    Attributes
    ----------
    classes_ : ndarray, shape (classes,)
        The labels, sorted.
    model_ : refmiracle.model.Model
        The compressed network; its classes are places in `classes_`.
    n_features_in_ : int
        Numbers of a sample: of an image height * width * channels.
    low_, range_ : ndarray of float64, shape (features,)
        Of ``scale="minmax"``.
    channels_ : str
        Where those of the samples were.

    Examples
    --------
    >>> import numpy as np
    >>> from refmiracle.sklearn import MiracleClassifier
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> y = np.where(X[:, 0] > X[:, 1], "above", "below")
    >>> classifier = MiracleClassifier(scale="minmax", preset="smoke", steps=200).fit(X, y)
    >>> classifier.score(X, y) > 0.9, classifier.model_.nbytes < 200
    (True, True)
    >>> classifier.predict([[2.0, 0.0], [0.0, 2.0]])
    array(['above', 'below'], dtype='<U5')
    """

    classes_: NDArray[Any]
    model_: Model
    n_features_in_: int
    channels_: Channels
    low_: NDArray[np.float64]
    range_: NDArray[np.float64]

    def __init__(
        self,
        network: Given | None = None,
        *,
        preset: str = "smoke",
        scale: Literal["minmax"] | None = None,
        channels: Channels = "last",
        random_state: Any = 0,
        engine: str = "numba",
        steps: int | None = None,
        groups: int | None = None,
        group_steps: int | None = None,
        bits_per_block: int | None = None,
        block_size: int | None = None,
        batch_size: int | None = None,
        rate: float | None = None,
        settings: Mapping[str, Any] | None = None,
        progress: bool = False,
    ) -> None:
        self.network = network
        self.preset = preset
        self.scale = scale
        self.channels = channels
        self.random_state = random_state
        self.engine = engine
        self.steps = steps
        self.groups = groups
        self.group_steps = group_steps
        self.bits_per_block = bits_per_block
        self.block_size = block_size
        self.batch_size = batch_size
        self.rate = rate
        self.settings = settings
        self.progress = progress

    def fit(self, X: ArrayLike, y: ArrayLike) -> MiracleClassifier:
        """Train a network, and compress it.

        Parameters
        ----------
        X : array_like, shape (samples, features), or of images as `refmiracle.fit` takes them
        y : array_like, shape (samples,)
            Labels of at least two values.

        Returns
        -------
        MiracleClassifier
            Itself.

        Raises
        ------
        InputError
            A `ValueError`: if images, labels or a parameter are not as said.
        ValueError
            If scikit-learn refuses the samples or the labels.
        CheckError
            If the training diverges.
        KeyboardInterrupt
            If it was stopped by Ctrl-C.
        """
        before = dict(vars(self))
        try:
            return self._fit(X, y)
        except BaseException:  # an earlier fit stands, with what scikit-learn keeps of it
            vars(self).clear()
            vars(self).update(before)
            raise

    def _fit(self, X: Any, y: Any) -> MiracleClassifier:
        if not (self.scale is None or (isinstance(self.scale, str) and self.scale == "minmax")):
            raise InputError(f"scale is {described(self.scale)}; expected None or 'minmax'")
        flat, shape, labels = self._rows(X, y)
        _targets.check_classification_targets(labels)
        classes, numbers = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise InputError("the labels are of one class; expected at least two classes")
        for name in ("low_", "range_"):  # of an earlier fit
            vars(self).pop(name, None)
        if self.scale == "minmax":
            with np.errstate(over="ignore"):
                self.low_ = flat.min(axis=0).astype(np.float64)
                self.range_ = flat.max(axis=0).astype(np.float64) - self.low_
            if not np.all(np.isfinite(self.range_)):
                raise InputError("the range of a feature is beyond float64")
        samples = self._scaled(flat).reshape(len(flat), *shape)
        default = (Flatten(), Dense(HIDDEN), Relu(), Dense(len(classes)))
        given = default if self.network is None else self.network
        network = as_network(given, samples, self.channels)
        if network.classes < len(classes):
            raise InputError(
                f"the network tells {network.classes} classes apart; the labels are of"
                f" {len(classes)}"
            )
        run = fit(
            samples,
            numbers,
            network=network,
            preset=self.preset,
            validation=0,
            channels=self.channels,
            progress=self.progress,
            **self._settings(),
        )
        if not run.finished:
            raise KeyboardInterrupt
        self.classes_, self.model_, self.channels_ = classes, run.model, self.channels
        return self

    def _settings(self) -> Any:
        """Return the settings of a run."""
        given = {name: getattr(self, name) for name in _OWN}
        given |= self._other_settings()
        check_choice("preset", self.preset, tuple(PRESETS))
        given["seed"] = self._seed()
        return {name: value for name, value in given.items() if value is not None}

    def _other_settings(self) -> dict[str, Any]:
        """Return what `settings` holds.

        Raises
        ------
        InputError
            If that is no mapping, or has what a parameter of the classifier says.
        """
        if self.settings is None:
            return {}
        if not isinstance(self.settings, Mapping):
            raise InputError(f"settings is {described(self.settings)}; expected a mapping")
        others = dict(self.settings)
        said = {name: f"the parameter {name}" for name in _OWN} | {"seed": "random_state"}
        known = [name for name in GivenSettings.__annotations__ if name not in said]
        for name in others:
            if name not in known:
                why = f"is said by {said[name]}" if name in said else "is no setting of a run"
                raise InputError(f"settings: {name} {why}; expected some of {', '.join(known)}")
        return others

    def _seed(self) -> Any:
        """Return the seed: a whole number as it is, else one that is drawn."""
        if isinstance(self.random_state, (int, np.integer)):
            return self.random_state
        return int(_utils.check_random_state(self.random_state).randint(SEEDS, dtype=np.int64))

    def _rows(self, X: Any, y: Any = _NONE) -> tuple[NDArray[Any], tuple[int, ...], Any]:
        """Return samples as rows, the shape of one as it came, and the labels, all checked.

        Without labels the samples must be such as `fit` has seen.
        """
        shape: tuple[int, ...] = ()
        if isinstance(X, np.ma.MaskedArray) or not hasattr(X, "ndim"):
            X = as_array("X", X)
        if isinstance(y, np.ma.MaskedArray):
            y = as_array("y", y) if np.ma.is_masked(y) else y.data
        if X.ndim > 2:
            X = as_array("X", X)
            shape = X.shape[1:]
            X = X.reshape(len(X), math.prod(shape))
        if y is _NONE:
            flat, labels = _validation.validate_data(self, X, reset=False), None
        else:
            flat, labels = _validation.validate_data(self, X, y)
        if flat.dtype.kind in "mM":
            raise InputError(f"X is of {flat.dtype}; expected numbers")
        return flat, shape or flat.shape[1:], labels

    def _scaled(self, flat: NDArray[Any]) -> NDArray[Any]:
        """Return rows as networks take them, by what `fit` has seen: bytes, or floats in [0, 1]."""
        if not hasattr(self, "range_"):
            return flat
        width = np.where(self.range_ > 0.0, self.range_, 1.0)
        with np.errstate(over="ignore"):
            return np.asarray(np.clip((flat - self.low_) / width, 0.0, 1.0))

    def _logits(self, X: Any) -> NDArray[np.float64]:
        """Return the logits of the labels that there are, shape (samples, classes)."""
        _validation.check_is_fitted(self, "model_")
        flat, shape, _ = self._rows(X)
        samples = self._scaled(flat).reshape(len(flat), *shape)
        scores = self.model_.logits(samples, channels=self.channels_)
        if scores.ndim < 2:  # what was taken for one sample is a row of its axes
            raise InputError(f"samples of shape {shape}; expected an axis for samples, too")
        return np.asarray(scores[:, : len(self.classes_)], np.float64)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the label of each sample: that of the largest logit.

        Parameters
        ----------
        X : array_like
            As in `fit`; images may be flat.

        Returns
        -------
        ndarray, shape (samples,)

        Raises
        ------
        InputError
            A `ValueError`: if images are not as in `fit`.
        ValueError
            If scikit-learn refuses the samples.
        NotFittedError
            A `ValueError`: before `fit`.
        """
        scores = self._logits(X)
        return np.asarray(self.classes_[scores.argmax(axis=1)])

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return how probable the network holds each label to be: the softmax of the logits.

        Parameters
        ----------
        X : array_like
            As in `fit`.

        Returns
        -------
        ndarray of float64, shape (samples, classes)
            In the order of `classes_`; each row sums to 1.

        Raises
        ------
        InputError
            A `ValueError`: if images are not as in `fit`.
        ValueError
            If scikit-learn refuses the samples.
        NotFittedError
            A `ValueError`: before `fit`.
        """
        scores = self._logits(X)
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags
