"""What a panel's JSON says of one of its fields: its defaults, and the overrides that match."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


def of_field(panel: Mapping[str, Any], name: str, *also: str) -> dict[str, Any]:
    """Property -> value, such as "unit" and "custom.hidden". `also`: further names that overrides may match."""
    config = panel["fieldConfig"]
    found: dict[str, Any] = {"unit": config["defaults"].get("unit", "short")}
    found |= {f"custom.{key}": value for key, value in config["defaults"].get("custom", {}).items()}
    for override in config.get("overrides", ()):
        if any(_matches(override["matcher"], one) for one in (name, *also)):
            found |= {change["id"]: change["value"] for change in override["properties"]}
    return found


def _matches(matcher: Mapping[str, Any], name: str) -> bool:
    if matcher["id"] == "byName":
        return bool(matcher["options"] == name)
    assert matcher["id"] == "byRegexp", matcher
    return re.search(matcher["options"].strip("/"), name) is not None
