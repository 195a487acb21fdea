"""How much of the gradient is lost: Err_S over random, all and worst straggler sets."""

from gcmpi.errors.engine import ErrorEngine
from gcmpi.errors.sampling import Draw, alpha

__all__ = ["Draw", "ErrorEngine", "alpha"]
