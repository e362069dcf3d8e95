"""Objects that never change, for which a dataclass would not do."""

from __future__ import annotations


class Frozen:
    """Refuses to have its attributes set; its `__init__` puts them into ``vars(self)``."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a {type(self).__name__} never changes: its {name} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a {type(self).__name__} never changes: its {name} cannot be deleted")
