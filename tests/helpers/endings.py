"""Endings, compared."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import bowout

_VARYING: Final = frozenset(
    {"began", "duration", "at", "until", "peer", "close_notify_sent_at", "close_notify_received_at"}
)


def told(ending: bowout.Ending, *, but_for: frozenset[str] = frozenset()) -> str:
    """All that an ending tells, but for times, addresses and the fields `but_for`."""

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: kept(each) for name, each in value.items() if name not in _VARYING | but_for}
        return [kept(each) for each in value] if isinstance(value, list) else value

    facts = kept(ending.to_dict())
    for event in facts["events"]:
        if event["kind"] == "connected":
            event["detail"] = ""
    return json.dumps(facts, indent=1)
