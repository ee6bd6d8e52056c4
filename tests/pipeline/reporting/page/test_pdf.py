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
