"""Types of the arrays that are passed around; defined with the calibrators, whose folder stands alone."""

from models.calibrators.calibrator import Floats, Ints

__all__ = ["Floats", "Ints"]
