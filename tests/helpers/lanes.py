"""What must be the same on both lanes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import bowout


def told(ending: bowout.Ending) -> str:
    """All that an ending tells, but for times, addresses and random numbers."""
    facts = ending.to_dict()
    for name in ("began", "duration", "peer"):
        facts.pop(name, None)

    def timeless(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: timeless(each) for name, each in value.items() if name != "until" and not name.endswith("at")}
        return [timeless(each) for each in value] if isinstance(value, list) else value

    kept = timeless(facts)
    for event in kept["events"]:
        if event["kind"] == "connected":
            event["detail"] = ""
    return json.dumps(kept, indent=1)
