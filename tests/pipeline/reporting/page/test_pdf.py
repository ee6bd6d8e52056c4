import shutil
import subprocess

import pytest

from pipeline.reporting.page.pdf import pdf_bytes, why_no_pdf

PAGE = "<!DOCTYPE html><html lang='en'><head><title>x</title></head><body><p>text</p>{}</body></html>"

pytestmark = pytest.mark.skipif(why_no_pdf() is not None, reason="needs pango")


def test_the_same_page_gives_the_same_bytes():
    first, second = (pdf_bytes(PAGE.format(""), "@page { size: A4 }") for _ in range(2))
    assert first == second
    assert first.startswith(b"%PDF-")


def test_nothing_outside_the_page_is_read(tmp_path):
    secret = tmp_path / "secret.svg"
    secret.write_text("<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><text>x</text></svg>")
    with_image = pdf_bytes(PAGE.format(f"<img alt='a' src='{secret.as_uri()}'>"), "")
    assert b"secret" not in with_image


def test_the_pages_of_one_process_do_not_get_each_other_s_style():
    plain, red = PAGE.format(""), PAGE.format("").replace("</title>", "</title><style>p{color:red}</style>")
    alone = pdf_bytes(plain, "@page { size: A5 }")
    assert pdf_bytes(red, "@page { size: A5 }") != alone
    assert pdf_bytes(plain, "@page { size: A6 }") != alone
    assert pdf_bytes(plain, "@page { size: A5 }") == alone


@pytest.mark.skipif(not shutil.which("pdftotext"), reason="needs pdftotext (Debian: poppler-utils)")
def test_the_style_of_the_page_holds_beside_that_for_paper(tmp_path):
    page = PAGE.format("<p>more</p>").replace("</title>", "</title><style>p{break-after:page}</style>")
    (tmp_path / "page.pdf").write_bytes(pdf_bytes(page, "p { text-transform: uppercase }"))
    text = subprocess.run(
        ["pdftotext", tmp_path / "page.pdf", "-"], capture_output=True, text=True, check=True
    )
    assert [sheet.strip() for sheet in text.stdout.split("\f")][:2] == ["TEXT", "MORE"]
