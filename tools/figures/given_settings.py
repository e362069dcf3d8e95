"""Settings of a run as the makers of figures take them: FIELD=VALUE."""

from __future__ import annotations

from refmiracle.commands.networks import given_network
from refmiracle.errors import InputError
from refmiracle.training.settings import PRESETS


def parse_setting(text):
    """Return name and value of a field from the text name=value."""
    name, _, value = text.partition("=")
    known = PRESETS["paper"].by_name()
    if name not in known:
        raise InputError(f"{text}: expected FIELD=VALUE with a field of Settings")
    default = known[name]
    if name == "network":
        return name, given_network(value)
    if name == "base":
        raise InputError(f"{text}: updates are not tried here")
    try:
        if isinstance(default, tuple):
            return name, tuple(int(part) for part in value.split(","))
        return name, type(default)(value)
    except ValueError:
        raise InputError(f"{text}: expected a value like {default}") from None
