"""Filters go around those of a user, however these call what comes in and what goes out."""

from __future__ import annotations

import pytest

from deblur_cli.media.filter_graphs import surrounded


@pytest.mark.parametrize(
    ("graph", "whole"),
    [
        (None, "one,two"),
        (" ", "one,two"),
        ("hflip;", "one,hflip,two"),
        ("sws_flags=lanczos;scale=48:32", "sws_flags=lanczos;one,scale=48:32,two"),
        ("hflip", "one,hflip,two"),
        ("hflip,vflip", "one,hflip,vflip,two"),
        ("[in]hflip[out]", "one[in];[in]hflip[out];[out]two"),
        ("[x] hflip", "one[x];[x] hflip,two"),
        ("split[a][b];[a]hflip[c];[b][c]hstack", "one,split[a][b];[a]hflip[c];[b][c]hstack,two"),
        ("movie=l.png[l];[in][l]overlay[o]", "one[in];movie=l.png[l];[in][l]overlay[o];[o]two"),
        ("drawtext=text='[a]',hflip", "one,drawtext=text='[a]',hflip,two"),
        ("drawtext=text=\\[a\\]", "one,drawtext=text=\\[a\\],two"),
    ],
)
def test_what_is_open_of_a_graph_is_linked(graph: str | None, whole: str) -> None:
    assert surrounded("one", graph, "two") == whole
