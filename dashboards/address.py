"""The state of a page is in its address: a copied link opens the same page, and back and forward go through its states.

Every widget here is drawn from the address and writes what was chosen into it; nothing else remembers it. A value at
its default is not in the address. An address may come from anywhere: words in it that fit nothing are left out, and the
page says so beside the widget.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import streamlit as st
from pandas.io.formats.style import Styler
from streamlit.errors import StreamlitPageNotFoundError

from results import sinks

T = TypeVar("T")
PAGES = Path(__file__).parent / "pages"


def get(name: str, default: str = "") -> str:
    """What the address says of a name."""
    return str(st.query_params.get(name, default))


def get_all(name: str) -> list[str]:
    """All that the address says of a name, in order."""
    return list(dict.fromkeys(text for text in st.query_params.get_all(name) if text))


def put(**values: Any) -> None:
    """Change the address: names to texts or lists of texts; None takes a name out of it.

    Nothing is written that stands there already: every change is a step that the browser's back button takes back.
    """
    for name, value in values.items():
        texts = None if value is None else [str(v) for v in (value if isinstance(value, list | tuple) else [value])]
        if texts is None:
            st.query_params.pop(name, None)
        elif st.query_params.get_all(name) != texts:
            st.query_params[name] = texts


def choice(
    label: str,
    name: str,
    options: Sequence[T],
    default: T | None = None,
    draw: Callable[..., Any] = st.selectbox,
    **look: Any,
) -> T:
    """One of several options.

    Args:
        default: what an address that says nothing means; None: the first option.
        draw: `st.selectbox`, `st.radio`, `st.segmented_control` or `st.pills`, of whatever container.
        look: what else the widget takes.
    """
    usual = options[0] if default is None else default
    there = {str(option): option for option in options}
    now = there.get(get(name), usual)
    value: T = _drawn(name, now, usual, lambda key, **more: draw(label, options, key=key, **more, **look))
    unknown(label, [word for word in get_all(name) if word not in there])
    return value


def choices(
    label: str,
    name: str,
    options: Sequence[T],
    default: Sequence[T] = (),
    draw: Callable[..., Any] = st.multiselect,
    **look: Any,
) -> list[T]:
    """Any number of options, in the order in which they were chosen."""
    there = {str(option): option for option in options}
    said = [there[text] for text in get_all(name) if text in there]
    now = said if said or name in st.query_params else list(default)
    drawn: list[T] = _drawn(name, now, list(default), lambda key, **more: draw(label, options, key=key, **more, **look))
    unknown(label, [word for word in get_all(name) if word not in there])
    return drawn


def text(label: str, name: str, draw: Callable[..., Any] = st.text_input, **look: Any) -> str:
    """A text."""
    return _drawn(name, get(name), "", lambda key, **more: draw(label, key=key, **more, **look))


def switch(label: str, name: str, default: bool = False, draw: Callable[..., Any] = st.toggle, **look: Any) -> bool:
    """On or off."""
    now = {"yes": True, "no": False}.get(get(name), default)
    return _drawn(name, now, default, lambda key, **more: draw(label, key=key, **more, **look))


def number(
    label: str,
    name: str,
    low: float,
    high: float,
    default: float,
    draw: Callable[..., Any] = st.slider,
    **look: Any,
) -> float:
    """A number between two others, all of them integers or none."""
    try:
        said = type(default)(get(name))
    except ValueError:
        said = default
    fits = low <= said <= high and str(said) == get(name, str(default))
    now = said if fits else default
    value: float = _drawn(name, now, default, lambda key, **more: draw(label, low, high, key=key, **more, **look))
    unknown(label, [] if fits else [get(name)])
    return value


def unknown(label: str, words: Sequence[str]) -> None:
    """Say what the address asks for that is not here.

    Args:
        label: of the widget that would show it.
    """
    if words:
        said = ", ".join(f"“{sinks.markdown(word[:60])}”" for word in words)
        st.caption(f":material/link_off: {label}: the link asks for {said}, which is not here.")


def link(page: str, label: str, icon: str | None = None, **values: Any) -> None:
    """A link to another page of the board with what its address is to say.

    Args:
        page: the name of its file; where no such page is part of the board, there is no link.
        values: as for `put`.
    """
    texts = {
        name: [str(one) for one in many] if isinstance(many, list | tuple) else str(many)
        for name, many in values.items()
    }
    with contextlib.suppress(StreamlitPageNotFoundError):
        st.page_link(PAGES / f"{page}.py", label=label, icon=icon, query_params=texts)


def step(label: str, icon: str, **values: Any) -> None:
    """What looks like a link, and changes some of the page's own address: a link to the page itself would not be seen
    there.

    Args:
        values: as for `put`.
    """
    st.button(label, key=f"step {values}", icon=icon, type="tertiary", on_click=put, kwargs=values)


def page(rows: int, size: int) -> int:
    """Which page of a long table is wanted, from 1; asked only where there are several."""
    pages = -(-rows // size)
    if pages < 2:
        return 1
    return int(number(f"Page, of {pages}", "page", 1, pages, 1, draw=st.number_input))


def table(
    name: str,
    data: pd.DataFrame | Styler,
    keys: Sequence[str],
    several: bool = False,
    **look: Any,
) -> list[str]:
    """A table whose chosen rows are in the address, by their keys; a click on a cell chooses its row alone.

    A click says a position. So with other rows, or in another order, it is another table: no position outlives the
    rows that it was said of.

    Args:
        keys: one a row.
        several: more than one row can be ticked.
        look: what else `st.dataframe` takes.

    Returns:
        The keys in the address, those included that are not among the rows.
    """
    chosen = get_all(name) if several else get_all(name)[:1]
    place = {key: position for position, key in enumerate(keys)}
    key = f"{name}-{digest(keys)}"
    rows = sorted(place[one] for one in chosen if one in place)
    st.session_state[key] = {"selection": {"rows": rows, "columns": [], "cells": []}}
    st.dataframe(
        data,
        key=key,
        on_select=lambda: put(**{name: _picked(key, keys, chosen, several) or None}),
        selection_mode=["multi-row" if several else "single-row", "single-cell"],
        **look,
    )
    return chosen


def digest(keys: Iterable[str]) -> str:
    """A short name of rows in their order."""
    return hashlib.sha256(",".join(keys).encode()).hexdigest()[:12]


def _picked(key: str, keys: Sequence[str], before: Sequence[str], several: bool) -> list[str]:
    """The keys of the rows that are chosen after a click: those of before first, in their order.

    Where several can be ticked, those of other pages of the table stay ticked.
    """
    selection = st.session_state[key]["selection"]
    if selection["cells"]:
        return [keys[selection["cells"][0][0]]]
    now = [keys[position] for position in selection["rows"]]
    elsewhere = set(before) - set(keys) if several else set()
    return [one for one in before if one in now or one in elsewhere] + [one for one in now if one not in before]


def _drawn(name: str, now: Any, default: Any, draw: Callable[..., Any]) -> Any:
    """A widget that shows what the address says, and says there what is chosen."""
    key = f"address {name}"
    if st.session_state.get(key) != now:
        st.session_state[key] = now

    def changed() -> None:
        value = st.session_state[key]
        put(**{name: None if value is None or value == default else _said(value)})

    value = draw(key=key, on_change=changed)
    return default if value is None else value


def _said(value: Any) -> Any:
    """A value as an address has it; a choice of nothing is said by an empty text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return [str(one) for one in value] or "" if isinstance(value, list | tuple) else str(value)
