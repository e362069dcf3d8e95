from __future__ import annotations

import pytest

from refmiracle.training.data import (
    Split,
    default_folder,
    load_split,
    split_validation,
)


@pytest.fixture(scope="session")
def mnist() -> tuple[Split, Split]:
    """The training and the validation images; few of the latter, for speed."""
    train, validation = split_validation(load_split(default_folder(), "train"))
    return train, Split(validation.images[:100], validation.labels[:100])
