"""Coded gradient descent: the server's loop, the worker's loop, and what passes between them.

`loop` is the page to read. This package knows neither MPI nor HDF5: the server talks to an
`Exchange`, a worker to a `Mailbox`; `gcmpi.cluster` has both over MPI, and the exchange in one
process with a virtual clock.
"""

from gcmpi.cluster.messages import Done, Exchange, Message, Replies, Spent, all_or_none
from gcmpi.training.iteration import FIELDS, Audit, Decoding, Field, Iteration, Outcome
from gcmpi.training.loop import Auditor, GradientAudit, Recorder, Stopwatch, train
from gcmpi.training.scheme import Recipe, Scheme, Shared
from gcmpi.training.state import Moving, State
from gcmpi.training.worker import Shard, Worker, shard, work

__all__ = [
    "FIELDS",
    "Audit",
    "Auditor",
    "Decoding",
    "Done",
    "Exchange",
    "Field",
    "GradientAudit",
    "Iteration",
    "Message",
    "Moving",
    "Outcome",
    "Recipe",
    "Recorder",
    "Replies",
    "Scheme",
    "Shard",
    "Shared",
    "Spent",
    "State",
    "Stopwatch",
    "Worker",
    "all_or_none",
    "shard",
    "train",
    "work",
]  # fmt: skip
