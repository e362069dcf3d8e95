"""The classifier of scikit-learn: its own checks, kinds of samples and labels, and its company."""

from __future__ import annotations

import doctest
import io
import pickle
import sys

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks

import refmiracle
from refmiracle.layers import Dense, Flatten, Relu
from refmiracle.sklearn import MiracleClassifier

# A moment's training in plain NumPy.
QUICK = {
    "preset": "smoke",
    "steps": 150,
    "groups": 4,
    "group_steps": 10,
    "bits_per_block": 8,
    "block_size": 12,
    "settings": {"selection": "best"},
    "engine": "numpy",
}
SHORT = {**QUICK, "steps": 5, "group_steps": 1}


def quick(**changed):
    return MiracleClassifier(**{**QUICK, **changed})


def short(**changed):
    return MiracleClassifier(**{**SHORT, **changed})


def pictures(count=120, size=6, channels=0, seed=0):
    """Pictures that are bright at the left or at the right, and which of the two."""
    rng = np.random.default_rng(seed)
    shape = (count, size, size, *([channels] if channels else []))
    X, y = rng.integers(0, 120, size=shape), rng.integers(0, 2, size=count)
    X[y == 1, :, : size // 2] += 120
    X[y == 0, :, size // 2 :] += 120
    return X.astype(np.uint8), np.where(y == 1, "left", "right")


# Numbers of any size need a scale; images, bytes or floats in [0, 1], do not.
@pytest.mark.slow
@parametrize_with_checks([quick(scale="minmax")])
def test_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


# What fits numbers beyond [0, 1], or whole numbers that are no bytes: no images.
NO_IMAGES = "its numbers are no bytes and not in [0, 1]; it passes with scale='minmax'"
EXPECTED = dict.fromkeys(
    [
        "check_classifier_data_not_an_array",
        "check_classifiers_classes",
        "check_classifiers_train",
        "check_dict_unchanged",
        "check_dont_overwrite_parameters",
        "check_estimators_dtypes",
        "check_estimators_fit_returns_self",
        "check_estimators_overwrite_params",
        "check_estimators_pickle",
        "check_f_contiguous_array_estimator",
        "check_fit2d_1feature",
        "check_fit2d_predict1d",
        "check_fit_check_is_fitted",
        "check_fit_idempotent",
        "check_methods_sample_order_invariance",
        "check_methods_subset_invariance",
        "check_n_features_in",
        "check_n_features_in_after_fitting",
        "check_pipeline_consistency",
        "check_positive_only_tag_during_fit",
        "check_readonly_memmap_input",
    ],
    NO_IMAGES,
)


def test_the_checks_of_scikit_learn_for_images():
    """Those that fail are declared, and fail for the reason that is declared."""
    results = check_estimator(short(), expected_failed_checks=EXPECTED, on_fail=None, on_skip=None)
    assert len(results) > 40
    for result in results:
        assert result["status"] != "failed", (result["check_name"], result["exception"])
        if result["status"] == "xfail":
            said = str(result["exception"])
            told = "expected floats in [0, 1], or uint8" in said or "expected uint8, or" in said
            assert told or "raised InputError unexpectedly" in said, result["check_name"]


def test_the_examples():
    failed, tried = doctest.testmod(refmiracle.sklearn)
    assert tried
    assert not failed


@pytest.mark.parametrize("kind", ["bytes", "floats", "flat", "flat floats"])
def test_kinds_of_images(kind):
    """However images come, they are learned: in one shape to the same file."""
    X, y = pictures()
    want = quick().fit(X.reshape(len(X), -1), y)
    given = X if "bytes" in kind or kind == "flat" else X / 255
    given = given.reshape(len(X), -1) if "flat" in kind else given
    found = quick().fit(given, y)
    assert found.n_features_in_ == 36
    assert found.classes_.tolist() == ["left", "right"]
    assert found.score(given, y) > 0.95
    # A flat image is a row to the network that is made for it.
    same = found.model_.data == want.model_.data
    assert same == ("flat" in kind)
    assert np.array_equal(found.predict(given), found.predict(X.reshape(len(X), -1)))


def test_channels():
    X, y = pictures(channels=3)
    last = short().fit(X, y)
    first = short(channels="first").fit(np.moveaxis(X, -1, 1), y)
    assert last.model_ == first.model_
    assert np.array_equal(last.predict_proba(X), first.predict_proba(np.moveaxis(X, -1, 1)))


@pytest.mark.parametrize("labels", [[-1, 1], [1.0, 2.0], ["a", "b"], [True, False], [10**12, 3]])
def test_labels_are_any_values(labels):
    X, y = pictures(40)
    given = np.where(y == "left", labels[0], labels[1])
    found = short().fit(X, given)
    assert found.classes_.tolist() == sorted(labels)
    assert found.predict(X).dtype == given.dtype
    assert set(found.predict(X)) <= set(given)
    assert np.allclose(found.predict_proba(X).sum(axis=1), 1.0)
    best = found.classes_[found.predict_proba(X).argmax(axis=1)]
    assert np.array_equal(best, found.predict(X))


def test_a_network_that_knows_more_classes():
    X, y = pictures(60)
    layers = [Flatten(), Dense(8), Relu(), Dense(5)]
    found = short(network=layers).fit(X, y)
    assert found.model_.classes == 5
    assert set(found.predict(X)) <= {"left", "right"}
    assert found.predict_proba(X).shape == (60, 2)
    with pytest.raises(refmiracle.InputError, match="tells 2 classes apart; the labels are of 3"):
        short(network=[Flatten(), Dense(2)]).fit(X, np.arange(60) % 3)


def test_a_network_by_name():
    X = np.random.default_rng(0).integers(0, 256, size=(40, 784), dtype=np.uint8)
    y = np.arange(40) % 3
    found = short(network="lenet-300-100", block_size=2000, bits_per_block=4).fit(X, y)
    assert found.model_.network.name == "lenet-300-100"
    assert np.array_equal(found.predict(X), found.predict(X.reshape(40, 28, 28)))


def test_the_bytes_are_those_of_fit():
    X, y = pictures()
    found = short(random_state=7).fit(X, y)
    settings = {n: SHORT[n] for n in ("preset", "steps", "groups", "group_steps", "engine")}
    run = refmiracle.fit(
        X,
        (y == "right").astype(int),
        network=[Flatten(), Dense(32), Relu(), Dense(2)],
        validation=0,
        seed=7,
        bits_per_block=8,
        block_size=12,
        batch_size=64,
        selection="best",
        progress=False,
        **settings,
    )
    assert found.model_.data == run.model.data


def test_random_states():
    X, y = pictures(40)

    def bytes_of(state):
        return short(random_state=state).fit(X, y).model_.data

    assert bytes_of(3) == bytes_of(np.int64(3)) != bytes_of(4)
    rng = np.random.RandomState(0)
    assert bytes_of(rng) != bytes_of(rng)
    assert bytes_of(np.random.RandomState(1)) == bytes_of(np.random.RandomState(1))
    np.random.seed(0)  # noqa: NPY002 what None draws from
    assert bytes_of(None) != bytes_of(None)


def test_it_pickles_as_its_bytes():
    X, y = pictures()
    found = short().fit(X, y)
    dumped = pickle.dumps(found)
    assert found.model_.data in dumped
    assert len(dumped) < len(found.model_.data) + 2500  # and what scikit-learn notes of itself
    again = pickle.loads(dumped)
    assert again.model_ == found.model_
    assert np.array_equal(again.predict_proba(X), found.predict_proba(X))
    file = io.BytesIO()
    pickle.dump(clone(found), file)  # not fitted


def test_clone_and_parameters():
    layers = [Flatten(), Dense(2)]
    made = clone(quick(network=layers, scale="minmax"))
    assert made.get_params()["network"] == layers
    assert made.set_params(steps=3).steps == 3
    with pytest.raises(NotFittedError):
        made.predict(pictures()[0])


def test_company():
    X, y = pictures(60)
    flat = X.reshape(60, -1).astype(float) * 1e3
    line = make_pipeline(MinMaxScaler(clip=True), quick(steps=60))
    assert cross_val_score(line, flat, y, cv=2).mean() > 0.8
    search = GridSearchCV(short(scale="minmax"), {"bits_per_block": [2, 6]}, cv=2).fit(flat, y)
    assert search.best_params_["bits_per_block"] in (2, 6)
    assert search.best_estimator_.predict(flat).shape == (60,)


def test_minmax_is_that_of_the_training_samples():
    rng = np.random.default_rng(1)
    X = np.hstack([rng.normal(size=(50, 2)) * [1e6, 1e-6], np.full((50, 1), 7.0)])
    y = X[:, 0] > 0
    found = quick(scale="minmax").fit(X, y)
    assert found.low_.tolist() == X.min(axis=0).tolist()
    assert found.range_[2] == 0.0
    far = [[1e300, 0.0, -1e300], [-1e300, 0.0, 1e300]]
    edge = [[X[:, 0].max(), 0.0, 7.0], [X[:, 0].min(), 0.0, 8.0]]
    # A constant feature has one level, and one beyond it.
    assert found.predict(far).tolist() == found.predict(edge).tolist() == [True, False]


@pytest.mark.parametrize(
    ("parameters", "change", "said"),
    [
        ({}, lambda X, y: (X * 2.0, y), "expected floats in \\[0, 1\\], or uint8"),
        ({}, lambda X, y: (X.astype(int), y), "images of int64"),
        ({"scale": "standard"}, None, "scale is 'standard'; expected None or 'minmax'"),
        ({"preset": "huge"}, None, "preset 'huge' is unknown"),
        ({"steps": 0}, None, "steps 0 is out of range"),
        ({"settings": {"speed": 1}}, None, "speed is no setting of a run"),
        ({"settings": {"steps": 1}}, None, "steps is said by the parameter steps; expected some"),
        ({"settings": {"seed": 1}}, None, "seed is said by random_state; expected some"),
        ({"batch_size": 1000}, None, "1000"),
        ({}, lambda X, y: (X, y[:-1]), "inconsistent numbers of samples"),
        ({}, lambda X, y: (X, np.full(len(X), 3)), "the labels are of one class"),
        ({}, lambda X, y: (X, np.linspace(0, 1, len(X))), "[Uu]nknown label type"),
        (
            {"scale": "minmax"},
            lambda X, y: (np.where(X > 100, 1e308, -1e308), y),
            "the range of a feature is beyond float64",
        ),
        (
            {},
            lambda X, y: (X, np.ma.masked_array(y == "left", y == "right")),
            "y .*mask",
        ),
        ({"scale": "minmax"}, lambda X, y: (X.astype("M8[s]"), y), "X is of datetime64"),
    ],
)
def test_refused(parameters, change, said):
    X, y = pictures(40)
    X, y = change(X, y) if change else (X, y)
    with pytest.raises(ValueError, match=said):
        short(**parameters).fit(X, y)


def test_other_shapes_are_refused():
    found = short().fit(*pictures(40))
    with pytest.raises(
        ValueError, match="X has 25 features, but MiracleClassifier is expecting 36"
    ):
        found.predict(np.zeros((3, 25)))
    with pytest.raises(refmiracle.InputError, match=r"images of shape \(3, 4, 9\); expected"):
        found.predict(np.zeros((3, 4, 9)))


def test_samples_are_scaled_as_they_were_when_it_was_fitted():
    X, y = pictures(40)
    found = short().fit(X, y)
    before = found.predict(X).tolist()
    assert found.set_params(scale="minmax").predict(X).tolist() == before
    found.fit(X * 100.0, y)
    before = found.predict(X * 100.0).tolist()
    assert found.set_params(scale=None).predict(X * 100.0).tolist() == before
    assert not hasattr(found.fit(X, y), "range_")


def test_labels_that_could_be_masked_and_are_not():
    X, y = pictures(40)
    assert short().fit(X, np.ma.masked_array(y)).classes_.tolist() == ["left", "right"]


def test_a_fit_that_is_refused_leaves_the_one_before():
    X, y = pictures(40)
    found = short(scale="minmax").fit(X, y)
    before = found.predict(X).tolist()
    kept = sorted(vars(found))
    found.set_params(network=(Flatten(), Dense(1)))
    for wrong in (X * 100.0, X[:, :5]):
        with pytest.raises(refmiracle.InputError):
            found.fit(wrong, y)
        assert found.predict(X).tolist() == before
        assert sorted(vars(found)) == kept


def test_an_interrupt_is_one(monkeypatch):
    """A run that was stopped has no model: nothing is fitted."""

    class Stopped:
        finished = False

    monkeypatch.setattr("refmiracle.sklearn.fit", lambda *_, **__: Stopped)
    found = short()
    with pytest.raises(KeyboardInterrupt):
        found.fit(*pictures(40))
    assert not hasattr(found, "model_")
    assert not hasattr(found, "classes_")


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    monkeypatch.delitem(sys.modules, "refmiracle.sklearn")
    with pytest.raises(refmiracle.InputError, match="sklearn"):
        __import__("refmiracle.sklearn")


def test_channels_are_where_they_were_when_it_was_fitted():
    X, y = pictures(40, channels=3)
    found = short().fit(X, y)
    before = found.predict_proba(X)
    flat = X.reshape(len(X), -1)
    found.set_params(channels="first")
    assert np.array_equal(found.predict_proba(flat), before)


def test_one_sample_without_the_axis_of_samples():
    X, y = pictures(40)
    network = refmiracle.Network("wide", 0, (3, 1, 12), 2, (Flatten(), Dense(2)))
    wide = short(network=network).fit(X.reshape(40, 1, 12, 3), y)
    for count in (1, 2):
        with pytest.raises(refmiracle.InputError, match=r"of shape \((2, )?12, 3\)"):
            wide.predict(X.reshape(40, 12, 3)[:count])
