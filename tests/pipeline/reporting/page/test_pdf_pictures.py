"""A PDF holds the pictures of its page, pixel for pixel."""

import base64
import io
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from pipeline.reporting.page.pdf import pdf_bytes, why_no_pdf

if why_no_pdf() is not None:
    pytest.skip("needs pango", allow_module_level=True)

from pipeline.reporting.page.pdf_pictures import Png, pictures_apart

PAGE = "<!DOCTYPE html><html lang='en'><head><title>x</title></head><body><p>text</p>{}</body></html>"
MODES = ("RGB", "P", "L")


def _png(mode: str, seed: int = 0, **options: object) -> bytes:
    rng = np.random.default_rng(seed)
    bands = len(mode) if mode in ("RGB", "RGBA", "LA") else 1
    shape = (7, 5, bands) if bands > 1 else (7, 5)
    picture = Image.fromarray(rng.integers(0, 256, shape).astype(np.uint8), mode=mode)
    if mode == "P":
        picture.putpalette(rng.integers(0, 256, 768).tolist())
    stream = io.BytesIO()
    picture.save(stream, "PNG", **options)
    return stream.getvalue()


def _shown(*pictures: bytes) -> str:
    addresses = [f"data:image/png;base64,{base64.b64encode(p).decode()}" for p in pictures]
    return PAGE.format("".join(f'<img alt="a" src="{address}">' for address in addresses))


def _pixels(png: bytes) -> list:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).tolist()


@pytest.mark.skipif(not shutil.which("pdfimages"), reason="needs pdfimages (Debian: poppler-utils)")
@pytest.mark.parametrize("mode", [*MODES, "RGBA"])
def test_the_pictures_of_a_pdf_have_the_pixels_of_the_page(mode, tmp_path):
    stored = [_png(mode, seed) for seed in range(3)]
    (tmp_path / "page.pdf").write_bytes(pdf_bytes(_shown(*stored), ""))
    subprocess.run(["pdfimages", "-png", tmp_path / "page.pdf", tmp_path / "found"], check=True)
    found = [_pixels(path.read_bytes()) for path in sorted(tmp_path.glob("found*.png"))]
    assert all(_pixels(picture) in found for picture in stored)


@pytest.mark.parametrize("mode", MODES)
def test_a_plain_picture_is_never_unpacked(mode, monkeypatch):
    page = _shown(_png(mode))
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("unpacked"))
    assert b"/FlateDecode" in pdf_bytes(page, "")


def test_a_picture_that_stands_twice_is_stored_once():
    one, two = _png("RGB", 1), _png("RGB", 2)
    short, pictures = pictures_apart(_shown(one, two, one))
    assert len(pictures) == 2
    assert all(short.count(address) == count for address, count in zip(pictures, (2, 1), strict=True))
    assert pdf_bytes(_shown(one, two, one), "").count(b"/Subtype /Image") == 2


@pytest.mark.parametrize(
    "png",
    [_png("RGBA"), _png("LA"), _png("P", transparency=3), _png("P", bits=4), _png("L", dpi=(72, 72))],
    ids=["alpha", "grey with alpha", "one colour is none", "four bits", "with a size"],
)
def test_a_picture_of_another_kind_stays_in_the_page(png):
    assert Png.of(png) is None
    page = _shown(png)
    assert pictures_apart(page) == (page, {})


def test_text_that_reads_like_an_address_stays_text():
    page = PAGE.format("<p>src=&#34;data:image/png;base64,AAAA&#34;</p>")
    assert pictures_apart(page) == (page, {})
