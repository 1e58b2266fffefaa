"""A page of the board is one file in the folder of pages, and nothing else."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboards import discovery, source

HERE = Path(source.__file__).parent

PAGE = """
import streamlit as st
from dashboards import source

TITLE = "How many"
ICON = ":material/tag:"
ORDER = 0

st.title("How many there are")
st.write(f"{source.count_runs([], '')} runs")
"""


def test_the_pages_there_are() -> None:
    found = discovery.pages(HERE / "pages")
    assert [page.title for page in found] == [
        "Leaderboard", "Trade-off", "Strides", "Classes", "Lengths", "Ablation", "Reported", "Runs", "Run",
        "Sweeps", "Compare",
    ]  # fmt: skip
    assert all(page.icon for page in found)


def test_a_file_put_there_is_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_DB", str(tmp_path / "none.db"))
    board = shutil.copytree(HERE, tmp_path / "board")
    (board / "pages" / "how_many.py").write_text(PAGE.replace("source.count_runs([], '')", "3"))
    (board / "pages" / "_helper.py").write_text("raise RuntimeError('no page')")
    assert discovery.pages(board / "pages")[0].title == "How many"
    app = AppTest.from_file(str(board / "entrance" / "app.py"), default_timeout=120).run()
    assert not app.exception and app.title[0].value == "How many there are"
    assert "3 runs" in app.markdown[-1].value


def test_a_page_need_say_nothing_of_itself(tmp_path: Path) -> None:
    (tmp_path / "per_class.py").write_text("import streamlit as st\nst.title('x')\n")
    assert discovery.pages(tmp_path) == [discovery.PageFile(tmp_path / "per_class.py", "Per class")]


@pytest.mark.parametrize("page", discovery.pages(HERE / "pages"), ids=lambda page: page.title)
def test_no_page_has_a_string_of_its_own(page: discovery.PageFile) -> None:
    """Streamlit shows every string that stands alone in a page, but the file's own docstring."""
    body = ast.parse(page.file.read_text(encoding="utf-8")).body
    alone = [n for n in body[1:] if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)]
    assert alone == []
