"""An object with some of its methods replaced."""

from __future__ import annotations

from typing import Any


class StandIn:
    """Passes on everything that is read or set to `real`, but for the `methods` that replace its own."""

    def __init__(self, real: object, **methods: object) -> None:
        vars(self).update(_real=real, _methods=methods)

    def __getattr__(self, name: str) -> Any:
        return self._methods[name] if name in self._methods else getattr(self._real, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._real, name, value)
