"""Filters of ffmpeg's that go around others."""

from __future__ import annotations

import re
from collections import Counter

_LINK = re.compile(r"\[([^\]]*)\]")
# Links ahead of a filter; those behind one follow its name or options.
_AHEAD = re.compile(r"(?:^|[,;])\s*((?:\[[^\]]*\]\s*)+)")


def surrounded(before: str, graph: str | None, after: str) -> str:
    """The filters `before`, those of `graph`, and those `after`, as one graph.

    What comes into `graph` and what comes out of it may have names (`movie=logo.png[logo];[in][logo]overlay[out]`):
    links that are open in it. None, and a graph without a filter: there is nothing between.
    """
    graph = (graph or "").strip().rstrip(",;")
    if scaling := re.match(r"sws_flags=[^;]*;", graph):  # flags of a whole graph stand ahead of all of it
        before, graph = scaling[0] + before, graph[scaling.end() :].lstrip()
    if not graph:
        return f"{before},{after}"
    # What is quoted or escaped is a filter's own.
    plain = re.sub(r"\\.|'[^']*'", "", graph, flags=re.DOTALL)
    ahead = Counter(link for links in _AHEAD.findall(plain) for link in _LINK.findall(links))
    behind = Counter(_LINK.findall(plain)) - ahead
    entry, exit_ = next(iter(ahead - behind), None), next(iter(behind - ahead), None)
    into = "," if entry is None else f"[{entry}];"
    out = "," if exit_ is None else f";[{exit_}]"
    return f"{before}{into}{graph}{out}{after}"
