"""A hundred headers that wish a report harm: what they hold shows as text, or not at all."""

import html as html_module
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from pipeline.errors import RefusedScan
from pipeline.imaging.quality import Finding
from pipeline.reporting.page.facts import clean
from pipeline.reporting.page.words import ACQUISITION
from pipeline.reporting.scan.scan_build import build_scan_report
from pipeline.reporting.scan.scan_numbers import Visit
from pipeline.reporting.scan.scan_page import scan_page, write_scan_report

_MARKUP = [
    "<script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "</title><img src=x onerror=alert(1)>",
    "<img src=http://evil.example/x.png>",
    "<svg onload=alert(1)>",
    '"><script>alert(1)</script>',
    "' onmouseover='alert(1)",
    '" style="background:url(http://evil.example)"',
    "<iframe src=javascript:alert(1)>",
    "<a href='javascript:alert(1)'>here</a>",
    "<base href=http://evil.example>",
    "<meta http-equiv=refresh content='0;url=http://evil.example'>",
    "<link rel=stylesheet href=http://evil.example/a.css>",
    "<!-- --><b>bold</b>",
    "--><script>alert(1)</script><!--",
    "<![CDATA[<script>alert(1)</script>]]>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;alert(1)&#60;/script&#62;",
    "<scr\x00ipt>alert(1)</scr\x00ipt>",
    "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
    "\ufeff<script>alert(1)</script>",
    "\uff1cscript\uff1ealert(1)\uff1c/script\uff1e",
    "<details open ontoggle=alert(1)>",
    "<body onload=alert(1)>",
    "<style>*{display:none}</style>",
    "]]></style><svg onload=alert(1)>",
    "<math><mi xlink:href='javascript:alert(1)'>x</mi></math>",
    "<object data=http://evil.example></object>",
    "<form action=http://evil.example><input></form>",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
]
_TEMPLATES = [
    "{{ 7 * 7 }}",
    "{% include '/etc/passwd' %}",
    "{{ config }}",
    "{# comment #}",
    "${7*7}",
    "%s%s%s%n",
    "{0.__class__}",
    "$(reboot)",
    "`reboot`",
    "; rm -rf /",
    "../../etc/passwd",
    "..\\..\\windows\\system32",
    "=cmd|'/c calc'!A1",
    "' OR 1=1; --",
    "\\x3cscript\\x3e",
]
_LETTERS = [
    "\u202egnp.exe",
    "abc\u2066def\u2069",
    "שלום עולם",
    "مرحبا بالعالم",
    "日本語の系列",
    "e\u0301\u0301\u0301\u0301" * 50,
    "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘",
    "\u200b\u200c\u200d\u2060zero width",
    "\ud800 lone surrogate",
    "\U000e0041\U000e0042 tags",
    "👩‍⚕️🧠",
    "\x1b[31mred\x1b[0m",
    "\x07\x08\x0c\x7f bell",
    "null\x00byte",
    "tab\tand\r\nlines\u2028more\u2029",
    "\u00a0\u3000 wide spaces \u00a0",
    "ﷺ﷽",
    "ℝ𝕖𝕒𝕝",
    "\ufffe\uffff",
    "İıſK",
]
_LONG = [
    "x" * 10_000,
    "<b>" * 4_000,
    "wordword " * 2_000,
    "W" * 400,
    "&" * 5_000,
    "\n" * 10_000,
    "\u0301" * 3_000,
]
_ODD = [
    "",
    " ",
    "-",
    "None",
    "nan",
    "NULL",
    "0",
    "-1",
    "1e308",
    "1e999",
    "True",
    "[]",
    "{}",
    "n/a",
    "\\N",
    "~",
    "?",
]
_TYPED = [float("nan"), float("inf"), -1, 10**30, True, None, b"bytes", [1, 2], {"a": 1}, object, 3 + 4j]
HEADERS = [*_MARKUP, *_TEMPLATES, *_LETTERS, *_LONG, *_ODD, *_TYPED]
HARMFUL = {"script", "iframe", "base", "link", "object", "embed", "form", "details", "b", "a"}


class _Seen(HTMLParser):
    """Which elements and attributes a browser would find."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs


def harm_in(page: str) -> list[str]:
    """What of a page could run, fetch or restyle."""
    seen = _Seen()
    seen.feed(page)
    told = [tag for tag in seen.tags if tag in HARMFUL]
    told += [tag for tag in ("style", "title", "body", "html") if seen.tags.count(tag) != 1]
    told += [name for name, _ in seen.attributes if name.startswith("on") or name == "style"]
    told += [
        v for n, v in seen.attributes if n in ("src", "href") and not (v or "").startswith("data:image/")
    ]
    told += re.findall(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\u200b\ufeff]", page)
    return told


def test_there_are_a_hundred():
    assert len(HEADERS) >= 100


@pytest.mark.parametrize("number", range(len(HEADERS)))
def test_a_hostile_header_shows_as_text_or_not_at_all(scan, context, doubtful, number):
    header = HEADERS[number]
    told = str(header)
    facts = {name: header for _, name, _ in ACQUISITION} | {
        "window_start_min": header,
        "window_end_min": header,
        told[:50]: told,
    }
    hostile = replace(
        scan,
        subject=told,
        session=told,
        accession_number=told,
        facts=facts,
        regions=None,
        composites={},
        findings=(Finding(told, "warn", 1.0, told, told),),
        visits=(Visit(label=told, months=0, meta_roi=1.2), Visit(label=told, months=9, meta_roi=1.3)),
    )
    refusal = RefusedScan(told, told, hint=told, measured=told)
    for report in (
        build_scan_report(hostile, context, doubtful),
        build_scan_report(hostile, context, None, refusal),
    ):
        page = scan_page(report, None).html()
        assert harm_in(page) == []
        assert json.loads(report.model_dump_json())
        if clean(told):
            assert html_module.escape(clean(told), quote=False)[:40] in page.replace("&#39;", "'").replace(
                "&#34;", '"'
            )


def test_a_script_as_series_description_is_read_as_text(scan, context, prediction):
    hostile = replace(scan, facts={"series_description": "<script>alert(1)</script>"})
    page = scan_page(build_scan_report(hostile, context, prediction), None).html()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script" not in page


@pytest.mark.slow
def test_nothing_runs_or_is_fetched_in_a_real_browser(scan, context, doubtful, browser, tmp_path):
    findings = tuple(Finding("x", "warn", 1.0, "", str(h)) for h in HEADERS)
    report = build_scan_report(replace(scan, findings=findings), context, doubtful)
    path = write_scan_report(report, None, tmp_path, pdf=False)["html"]
    page = browser.new_page(viewport={"width": 400, "height": 900})
    told, asked = [], []
    page.on("console", lambda message: told.append(message.text))
    page.on("dialog", lambda dialog: told.append(dialog.message))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(path.as_uri())
    wide = page.evaluate("document.documentElement.scrollWidth")
    page.close()
    assert told == []
    assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]
    assert wide == 400


PLANTED = {
    "PatientName": "Doe^Jane",
    "PatientID": "023_S_4501",
    "PatientBirthDate": "19410312",
    "PatientAddress": "1 Main Street",
    "AccessionNumber": "ACC0099",
    "InstitutionName": "St Elsewhere",
    "ReferringPhysicianName": "House^Gregory",
    "OperatorsName": "Chase^Robert",
    "StudyInstanceUID": "1.2.840.99999.1",
    "study_uid": "1.2.840.99999.2",
    "path": "/archive/023_S_4501/I1190234",
    "site": "Hospital 023",
    "DeviceSerialNumber": "SN-77123",
    "AcquisitionDate": "20190510",
}


def test_planted_identifiers_are_in_no_file(scan, context, prediction, suvr, tmp_path):
    facts = {**scan.facts, **PLANTED}
    report = build_scan_report(replace(scan, facts=facts), context, prediction)
    written = write_scan_report(report, suvr, tmp_path)
    for path in written.values():
        content = path.read_bytes()
        assert not [value for value in PLANTED.values() if value.encode() in content], path
    if "pdf" in written and shutil.which("pdftotext"):  # its bytes are compressed
        text = subprocess.run(["pdftotext", written["pdf"], "-"], capture_output=True, text=True, check=True)
        assert "A7KD2M" in text.stdout
        assert not [value for value in PLANTED.values() if value in text.stdout]
