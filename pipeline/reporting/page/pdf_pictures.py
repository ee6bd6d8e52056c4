"""Pictures of a page as a PDF holds them: a PNG is packed as PDF packs, so nothing is packed again.

WeasyPrint alone would unpack and pack every picture, for a quarter of the time that the PDF of a scan takes.
It has no public way to hand it a packed picture, so this takes the place of its class of pictures
(WeasyPrint 70); `test_pdf_pictures.py` fails where a later version expects something else.
"""

from __future__ import annotations

import base64
import re
import struct
from typing import Any, NamedTuple

import pydyf
from weasyprint.images import RasterImage

_ADDRESS = re.compile(r'(?<=src=")data:image/png;base64,([A-Za-z0-9+/=]+)(?=")')
_SIGNATURE_BYTES, _FRAME_BYTES = 8, 12
_GREY, _TRUE_COLOUR, _PALETTE = 0, 2, 3
_PLAIN = {b"IHDR", b"PLTE", b"IDAT", b"IEND"}


class Png(NamedTuple):
    """A PNG without transparency, of eight bits a sample, its rows in order.

    Parameters
    ----------
    width, height : int
        In pixels.
    colour_type : int
        0 for grey, 2 for red, green and blue, 3 for a palette.
    palette : bytes
        Three for each colour; empty without a palette.
    packed : bytes
        The compressed rows.
    """

    width: int
    height: int
    colour_type: int
    palette: bytes
    packed: bytes

    @classmethod
    def of(cls, content: bytes) -> Png | None:
        """Return what a PNG holds; None where it is of another kind."""
        parts: dict[bytes, bytes] = {}
        place = _SIGNATURE_BYTES
        while place < len(content):
            length, kind = struct.unpack_from(">I4s", content, place)
            parts[kind] = parts.get(kind, b"") + content[place + 8 : place + 8 + length]
            place += length + _FRAME_BYTES
        width, height, depth, colour_type, *_, interlaced = struct.unpack(">IIBBBBB", parts[b"IHDR"])
        known = colour_type in (_GREY, _TRUE_COLOUR, _PALETTE) and parts.keys() <= _PLAIN
        if not known or depth != 8 or interlaced:
            return None
        return cls(width, height, colour_type, parts.get(b"PLTE", b""), parts[b"IDAT"])

    @property
    def colour_space(self) -> str:
        """How PDF names what a sample stands for."""
        if self.colour_type == _PALETTE:
            return f"[/Indexed /DeviceRGB {len(self.palette) // 3 - 1} <{self.palette.hex()}>]"
        return "/DeviceGray" if self.colour_type == _GREY else "/DeviceRGB"


class PackedPicture(RasterImage):  # type: ignore[misc]
    """A picture for WeasyPrint that is never unpacked.

    Parameters
    ----------
    png : Png
    name : str
        Differs from those of the document's other pictures.
    """

    def __init__(self, png: Png, name: str) -> None:
        # Not the base's: it would make another PNG of a palette's picture.
        self.id, self._png, self._dpi = name, png, None
        self.width, self.height, self.ratio = png.width, png.height, png.width / png.height

    def get_x_object(self, interpolate: bool, _dpi_ratio: float) -> pydyf.Stream:  # noqa: FBT001
        """Return the picture as an object of a PDF."""
        png = self._png
        rows = {"Predictor": 15, "Columns": png.width, "Colors": 3 if png.colour_type == _TRUE_COLOUR else 1}
        extra = {
            "Type": "/XObject", "Subtype": "/Image", "Width": png.width, "Height": png.height,
            "ColorSpace": png.colour_space, "BitsPerComponent": 8,
            "Interpolate": "true" if interpolate else "false",
            "Filter": "/FlateDecode", "DecodeParms": pydyf.Dictionary(rows),
        }  # fmt: skip
        return pydyf.Stream([png.packed], extra)


def pictures_apart(html: str) -> tuple[str, dict[str, Any]]:
    """Return a page with short addresses in place of its pictures, and the pictures by address.

    Pictures of a kind that must be unpacked stay in the page.
    """
    pictures: dict[str, Any] = {}
    addresses: dict[str, str] = {}

    def shortened(found: re.Match[str]) -> str:
        if found[0] not in addresses:
            png, name = Png.of(base64.b64decode(found[1])), f"picture{len(pictures)}"
            addresses[found[0]] = found[0] if png is None else f"embedded:{name}"
            if png is not None:
                pictures[addresses[found[0]]] = PackedPicture(png, name)
        return addresses[found[0]]

    return _ADDRESS.sub(shortened, html), pictures
