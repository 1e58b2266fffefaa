"""Sample predictions on a page: image, labels, and what each network made of it."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dashboards import source
from results import sinks
from results.pictures import Picture, pictures, side_by_side

WIDTH = 480
WHY = {"fixed": "kept in every run", "worst": "among this run's worst"}


def draw(keys: Sequence[str], most: int = 6) -> bool:
    """The sample predictions of the first of some runs that has any; whether there were some."""
    for key in keys:
        found = pictures(source.workspace(), key)
        older = side_by_side(source.workspace(), key, most)
        if not found and not older:
            continue
        st.subheader("Sample predictions")
        for folder, one in list(found.values())[:most]:
            st.caption(_said(one))
            files = {"image": one.image, "labels": one.label, "prediction": one.prediction}
            for column, (what, name) in zip(st.columns(3), files.items(), strict=True):
                column.image(str(folder / name), caption=what, width="stretch")
        for path in older:
            st.image(str(path), caption=f"{sinks.markdown(path.stem)}: image, labels, prediction", width=WIDTH)
        return True
    return False


def _said(one: Picture) -> str:
    score = "" if one.miou is None else f" · mIoU of this image {100 * one.miou:.1f} %"
    return f"{sinks.markdown(one.name)} · {WHY[one.why]}{score}"
