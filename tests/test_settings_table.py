"""The README of `configs` is what the models say, and every setting has a meaning there."""

from __future__ import annotations

import settings_table


def test_every_setting_has_a_meaning():
    assert settings_table.undocumented() == []


def test_the_readme_of_the_settings_is_what_the_models_say():
    stored = settings_table.README.read_text(encoding="utf-8")
    assert stored == settings_table.text(), "run: python tests/helpers/settings_table.py"
