import base64
import hashlib
import json
import logging
import re

import pytest
from jinja2 import UndefinedError

from pipeline.reporting.page import pdf
from pipeline.reporting.page.facts import Facts, Named, Text
from pipeline.reporting.page.html import POLICIES, Page, content_security_policy


class Small(Facts):
    """The least a page needs."""

    report_date: Text = "2026-11-21"
    run_id: Text = "4f1c09e2"
    synthetic: bool = False


def test_the_policy_admits_exactly_the_style_of_the_page():
    style = "p { color: red }"
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = content_security_policy(style)
    assert f"style-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "script-src" not in policy


def test_an_unknown_name_in_a_template_is_an_error():
    with pytest.raises(UndefinedError, match="has no attribute 'report_date'"):
        Page("base.html.j2", Named(label="x", value="y"), "x").html()


def test_the_style_holds_its_fonts_and_fetches_nothing():
    from pipeline.reporting.page.html import _style

    addresses = re.findall(r"url\(\"?([^)\"]{1,12})", _style())
    assert len(addresses) == 2
    assert set(addresses) == {"data:font/wo"}
    assert "@import" not in _style()


def test_every_policy_forbids_requests_and_all_but_the_viewers_forbid_scripts():
    for name, policy in POLICIES.items():
        assert policy.startswith("default-src 'none'")
        assert ("script-src" in policy) == (name == "viewer")
        assert "unsafe" not in policy


def test_the_policy_of_the_viewer_admits_exactly_the_script_of_the_page():
    script = "let x = 1 < 2;"
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = content_security_policy("p { color: red }", "viewer", script)
    assert f"script-src 'sha256-{digest}';" in policy


def test_a_page_is_written_with_its_facts(tmp_path):
    written = Page("base.html.j2", Small(), "sub-<A>").write(tmp_path, "small")
    assert set(written) == {"html", "json"}
    assert json.loads(written["json"].read_text()) == Small().model_dump()
    html = written["html"].read_text()
    assert "sub-&lt;A&gt;" in html
    assert "Research use only" in html
    assert "run 4f1c09e2" in html


def test_where_the_pdf_fails_nothing_is_written(tmp_path, monkeypatch):
    def fail(*_):
        raise MemoryError("too large")

    monkeypatch.setattr(pdf, "why_no_pdf", lambda: None)
    monkeypatch.setattr(pdf, "pdf_bytes", fail)
    with pytest.raises(MemoryError, match="too large"):
        Page("base.html.j2", Small(), "x").write(tmp_path, "small", pdf=True)
    assert not list(tmp_path.iterdir())


def test_a_machine_without_pango_gets_a_warning_and_the_rest(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(pdf, "why_no_pdf", lambda: "PDF needs the pango libraries")
    with caplog.at_level(logging.WARNING):
        written = Page("base.html.j2", Small(), "x").write(tmp_path, "small", pdf=True)
    assert set(written) == {"html", "json"}
    assert "No PDF of small: PDF needs the pango libraries" in caplog.text
