"""What the extension says by NOTICE and WARNING: what there is, and no word for what there is not."""

from __future__ import annotations

from heliosdb.extension.door import _saying


def test_a_detail_or_hint_that_is_not_there_is_not_said() -> None:
    heard: list[tuple[str, dict[str, str]]] = []
    say = _saying(lambda message, **further: heard.append((message, further)))

    say("few", detail=None, hint="more")
    say("none", detail=None, hint=None)

    assert heard == [("few", {"hint": "more"}), ("none", {})]
