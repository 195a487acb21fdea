"""How much of the gradient is lost: Err_S over random, all and worst straggler sets."""

from gcmpi.codes.errors.curve import Curve, EachSetBound, LeastSquaresBound, Point, curve
from gcmpi.codes.errors.engine import ErrorEngine, target
from gcmpi.codes.errors.renewal import renewal
from gcmpi.codes.errors.rounding import WIRES, Rounding, condition_number, rounding
from gcmpi.codes.errors.sampling import (
    Draw,
    Source,
    Summary,
    alpha,
    exhaustive,
    orders,
    sample,
    sample_bernoulli,
    sample_from,
    sample_given,
    summarise,
)
from gcmpi.codes.errors.shrinkage import decoder_alpha
from gcmpi.codes.errors.symmetry import unbiased
from gcmpi.codes.errors.worst import worst_set

__all__ = [
    "WIRES",
    "Curve",
    "Draw",
    "EachSetBound",
    "ErrorEngine",
    "LeastSquaresBound",
    "Point",
    "Rounding",
    "Source",
    "Summary",
    "alpha",
    "condition_number",
    "curve",
    "decoder_alpha",
    "exhaustive",
    "orders",
    "renewal",
    "rounding",
    "sample",
    "sample_bernoulli",
    "sample_from",
    "sample_given",
    "summarise",
    "target",
    "unbiased",
    "worst_set",
]
