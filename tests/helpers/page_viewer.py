"""What the page of a viewer holds for its script."""

import json
import re
from html import unescape


def held_by(html: str) -> dict:
    return json.loads(unescape(re.search(r"data-held='([^']*)'", html)[1]))
