"""Imports without a search for garbage."""

from __future__ import annotations

import gc

import pytest

from harness.system.importing import garbage_ignored


def test_garbage_is_collected_again_afterwards_and_after_an_error() -> None:
    with garbage_ignored():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ImportError), garbage_ignored():
        raise ImportError
    assert gc.isenabled()


def test_who_does_without_collecting_still_does() -> None:
    gc.disable()
    try:
        with garbage_ignored():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
