"""Words that may leave a header: tracers, makers, models, series names. Other text may identify someone.

A name, an address or a record number can stand in any text element of a DICOM file. Instead of a list of
elements to remove, this module lists the words that may pass: what is no known technical word is dropped.
"""

from __future__ import annotations

import re
from itertools import pairwise

TRACERS: dict[str, tuple[str, ...]] = {
    "AV1451": ("av1451", "avid1451", "t807", "flortaucipir", "ftp", "tauvid", "18fav1451"),
    "MK6240": ("mk6240", "florquinitau"),
    "PI2620": ("pi2620",),
    "RO948": ("ro948",),
    "PM-PBB3": ("pmpbb3", "apn1607", "florzolotau"),
    "THK5351": ("thk5351", "thk5317", "thk5117"),
    "PBB3": ("pbb3",),
    "FBB": ("florbetaben", "fbb", "neuraceq", "bay949172"),
    "AV45": ("av45", "florbetapir", "amyvid", "fbp"),
    "Flutemetamol": ("flutemetamol", "vizamyl", "ge067"),
    "NAV4694": ("nav4694", "flutafuranol", "azd4694"),
    "PIB": ("pib", "pittsburghcompoundb", "pittsburghcompound"),
    "FDG": ("fdg", "fluorodeoxyglucose", "fludeoxyglucose", "deoxyglucose", "18ffdg"),
    "FLT": ("flt", "fluorothymidine", "fluorothymidin"),
    "FET": ("fet", "fluoroethyltyrosine"),
    "FDOPA": ("fdopa", "fluorodopa"),
    "FMISO": ("fmiso", "fluoromisonidazole"),
    "NaF": ("naf", "sodiumfluoride"),
    "PSMA": ("psma", "psma11", "psma1007", "dcfpyl"),
    "DOTATATE": ("dotatate", "dotatoc", "dotanoc"),
    "Choline": ("choline", "fluorocholine"),
    "Methionine": ("methionine",),
    "UCB-J": ("ucbj", "synvest1"),
    "Raclopride": ("raclopride",),
    "CIMBI-36": ("cimbi36",),
    "DASB": ("dasb",),
    "Water": ("water", "h2o", "15ow"),
    "Ammonia": ("ammonia", "nh3"),
    "Rubidium": ("rubidium", "rb82"),
}
"""Canonical name -> spellings, in lower case without punctuation and isotope."""

UNRECOGNISED = "unrecognised"

_CODES = {"C-B1031": "FDG", "35321007": "FDG", "Y-X1743": "FDG", "879808000": "AV1451"}

_MAKERS: dict[str, tuple[str, ...]] = {
    "Siemens": ("siemens",),
    "GE": ("ge", "general electric"),
    "Philips": ("philips", "adac"),
    "CPS": ("cps", "cti"),
    "Canon": ("canon", "toshiba"),
    "United Imaging": ("uih", "united imaging"),
    "Hitachi": ("hitachi",),
    "Shimadzu": ("shimadzu",),
    "Mediso": ("mediso",),
    "taucal": ("taucal",),
}

_MODELS: list[str] = re.findall(
    r"\S+",
    """
    Biograph mCT Vision Horizon TruePoint HiRez mMR Quadra HRRT ECAT EXACT HR HR+ Accel Flow Edge Emotion
    Sensation Discovery Advance NXi Signa PET/MR PET/CT PET CT MR MI IQ ST STE VCT LS RX Omni Legend Gemini TF
    GXL TOF Ingenuity Vereos Allegro Guardian Body uMI uPMR uEXPLORER Panorama Celesteion PCA-9000A Aquiduo
    Cartesion Prime Phantom
    synthetic Digital Research Tomograph C-PET PLUS
    """,
)

_SERIES_WORDS = frozenset(
    re.findall(
        r"\S+",
        """
        pet pt brain tau amyloid scan series ac nac corrected uncorrected attenuation attn static dynamic dyn
        early late frame frames averaged average avg co-registered coregistered coreg co registered
        standardized image images and voxel size std img vox siz uniform resolution res recon reconstruction
        osem psf tof iter iterative iteration iterations subset subsets i s all pass fbp vpfx vpfxs vphd vpff
        sharpir qclear q clear bpl vue point ramla lor 3d 2d dif wb whole head neck body trc summed sum mean
        min mm suv suvr bqml emission ct ctac mac mrac mr mprage flair dti rsfmri pasl localizer 3d-osem
        3d-osem-psf op-osem ultrahd truex zoom gaussian gauss hann none all-pass filter kernel standard adni
        adni1 adni2 adni3 adni4 synthetic phantom original processed blob-os-tf blob os tf f18 18f c11 11c n13
        o15 ga68 lm mlem mle dv dvr 4d to of with no minute minutes post inj injection
        """,
    )
)

_CHEMISTRY = re.compile(r"^(18f|f18|f|11c|c11|fluor|18)(?=[a-z]{2})|(18f|f18|11c|c11)$")
_SHORT_NUMBER = re.compile(r"^\d{1,3}([.-]\d{1,2})?(mm|min|sec|s|i|it|iter|sub)(\d{1,2}s)?$")


def squeeze(text: str) -> str:
    """Lower case without blanks and punctuation.

    Examples
    --------
    >>> squeeze("[18F]AV-1451")
    '18fav1451'
    """
    return re.sub(r"[^a-z0-9]", "", text.lower())


_SPELLINGS = {
    spelling: name for name, spellings in TRACERS.items() for spelling in (*spellings, squeeze(name))
}


def tracer_of(text: str | None) -> str | None:
    """Return the canonical tracer that a text names, or None.

    Parameters
    ----------
    text : str or None
        A radiopharmaceutical, a series description, a file name.

    Examples
    --------
    >>> tracer_of("18F-AV-1451"), tracer_of("FDG -- fluorodeoxyglucose"), tracer_of("Solution")
    ('AV1451', 'FDG', None)
    """
    if not text:
        return None
    whole = squeeze(text)
    for candidate in (whole, _CHEMISTRY.sub("", whole)):
        if candidate in _SPELLINGS:
            return _SPELLINGS[candidate]
    words = [squeeze(word) for word in re.split(r"[\s_,;:/()\[\]^]+", text)]
    parts = [p for word in text.split() for p in re.split(r"[^A-Za-z0-9]+", word)]
    pairs = [squeeze(a + b) for a, b in pairwise(parts)]
    named = [
        _SPELLINGS.get(w) or _SPELLINGS.get(_CHEMISTRY.sub("", w))
        for w in (*words, *pairs, *map(squeeze, parts))
    ]
    return next((name for name in named if name), None)


def names_a_tracer(text: str | None) -> bool:
    """Return whether a text claims to name a tracer, rather than anything that is injected.

    Examples
    --------
    >>> names_a_tracer("Solution"), names_a_tracer("18F TAU"), names_a_tracer("XYZ-17")
    (False, False, True)
    """
    words = {_CHEMISTRY.sub("", squeeze(word)) for word in re.split(r"[\s_,;:/()\[\]^-]+", text or "")}
    return bool({word for word in words if word and not word.isdigit()} - _GENERIC)


def names_early_frames(text: str | None) -> bool:
    """Return whether a series or file is named as of the minutes after injection, which show perfusion.

    Examples
    --------
    >>> [names_early_frames(text) for text in ("AV1451 Early", "early_frames_S01", "early_AD_001")]
    [True, True, False]
    """
    return bool(_EARLY.search(re.sub(r"[\W_]+", " ", text or "").lower()))


_OF_PET = r"(frames?|phase|pet|tau|av ?1451|ftp|flortaucipir|t807|dyn\w*|sum\w*|avg|mean|static|scan|recon)"
_EARLY = re.compile(rf"(?<![a-z])(early {_OF_PET}|{_OF_PET}\w* early)(?![a-z])|^early$")


def names_no_attenuation(text: str | None) -> bool:
    """Return whether a series or file is named as not corrected for attenuation.

    Examples
    --------
    >>> [names_no_attenuation(text) for text in ("PET NAC", "AV1451_noAC", "uncorrected", "PET AC", "NACC")]
    [True, True, True, False, False]
    """
    return bool(_NO_ATTENUATION.search(re.sub(r"[\W_]+", " ", text or "").lower()))


_NO_ATTENUATION = re.compile(
    r"(?<![a-z])(nac|(no|non|without) ?(ac|attn|atten\w*)|uncorrected|unkorrigiert)(?![a-z])"
)

_GENERIC = frozenset(
    {
        "solution",
        "tau",
        "pet",
        "tracer",
        "other",
        "unknown",
        "none",
        "na",
        "n",
        "a",
        "f",
        "f18",
        "18f",
        "fluorine",
    }
    | {"fluor", "radiopharmaceutical", "injection", "iv", "bolus", "brain", "amyloid"}
)


def tracer_of_code(value: str | None) -> str | None:
    """Return the tracer of a SNOMED code, or None."""
    return _CODES.get((value or "").strip())


def canonical_tracer(text: str) -> str:
    """Return the canonical name for what a user typed; an unknown one is returned without its punctuation.

    Examples
    --------
    >>> canonical_tracer("flortaucipir"), canonical_tracer("XY-12")
    ('AV1451', 'XY12')
    """
    return tracer_of(text) or re.sub(r"[^A-Za-z0-9]", "", text)


def maker_of(text: str | None) -> str | None:
    """Return the maker a Manufacturer text names, or None.

    Examples
    --------
    >>> maker_of("GE MEDICAL SYSTEMS"), maker_of("Philips Medical Systems"), maker_of("John Doe")
    ('GE', 'Philips', None)
    """
    padded = f" {' '.join(re.split(r'[^a-z0-9]+', (text or '').lower()))} "
    return next((name for name, words in _MAKERS.items() if any(f" {w} " in padded for w in words)), None)


def model_of(text: str | None) -> str | None:
    """Return the words of a model name that are known as such, or None.

    Examples
    --------
    >>> model_of("Discovery ST"), model_of("Biograph64"), model_of("Dr. Doe's scanner")
    ('Discovery ST', 'Biograph 64', None)
    """
    known = {str(m).lower(): str(m) for m in _MODELS}
    # Siemens writes the rings of the CT without a blank: Biograph64.
    for written in (text or "", re.sub(r"(?i)^biograph(?=\d)", "Biograph ", text or "")):
        words = re.split(r"[\s_,]+", written)
        models = [known.get(w.lower(), w) for w in words if w.lower() in known or re.fullmatch(r"\d{1,4}", w)]
        if any(not w.isdigit() for w in models):
            return " ".join(models)
    return None


def series_words(text: str | None) -> str | None:
    """Return a series or method name without the words that are not known as technical, or None.

    Examples
    --------
    >>> series_words("AV1451 Coreg, Avg, Std Img and Vox Siz, Uniform 6mm Res")
    'AV1451 Coreg, Avg, Std Img and Vox Siz, Uniform 6mm Res'
    >>> series_words("PET Jane Doe 12345678")
    'PET'
    """
    technical = [w for w in re.split(r"[\s_]+", text or "") if _is_technical(w)]
    joined = " ".join(technical).strip(" ,;:-")
    return joined or None


def _is_technical(word: str) -> bool:
    bare = word.strip("[](){},;:.+").lower()
    if bare in _SERIES_WORDS or squeeze(bare) in _SPELLINGS or _SHORT_NUMBER.match(bare):
        return True
    return "+" in bare and all(part in _SERIES_WORDS for part in bare.split("+"))


def known_code(value: object, known: tuple[str, ...]) -> str:
    """Return a code for a message if it is one of those known; other text is not repeated.

    Examples
    --------
    >>> known_code("CNTS", ("BQML", "CNTS")), known_code("Doe^Jane", ("BQML",))
    ('CNTS', 'an unknown value')
    """
    text = str(value or "").strip().upper()
    if not text:
        return "nothing"
    return text if text in known else "an unknown value"
