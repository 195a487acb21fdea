"""All that belongs to one m: codes, wire, decoder and what is divided out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from gcmpi import seeds
from gcmpi.arrays import AnyArray, Array, IntArray
from gcmpi.cluster.wire import Wire
from gcmpi.codes.code import message_length
from gcmpi.codes.decoders import always, decoder, decoder_of, ridge_of
from gcmpi.codes.decoders.least_squares import Decoder
from gcmpi.codes.ensemble import Ensemble
from gcmpi.codes.errors import alpha, decoder_alpha, unbiased
from gcmpi.codes.in_turn import InTurn
from gcmpi.codes.placement import consecutive, place
from gcmpi.codes.relabelling import ByOriginal
from gcmpi.experiments.experiment import Experiment
from gcmpi.importing import blame
from gcmpi.registry import (
    COMPRESSORS,
    DECODERS,
    ENCODINGS,
    SWITCHES,
)
from gcmpi.training import (
    Scheme,
)


def _every_m(e: Experiment) -> range:
    """Return every m that the run may use."""
    return range(1 if switches(e) else e.m, e.m + 1)


def switches(e: Experiment) -> bool:
    """Say whether m may change from iteration to iteration."""
    return SWITCHES[e.specs["switch"].name].promises.changes


def placement(
    e: Experiment, A: AnyArray, odds: Array | None, hosts: Sequence[str]
) -> IntArray | None:
    """Return the column of A that each worker holds, or None where it is its own.

    Raises
    ------
    ValueError
        If there is no such placement.
    """
    n = A.shape[1]
    if e.hosts == "off":
        return None
    if "+" in e.hosts:
        return np.array(e.hosts.split("+"), dtype=np.intp)
    if e.hosts == "odds":
        if odds is None:
            raise ValueError(
                "--hosts odds needs a straggler model that knows each worker's probability to "
                f"straggle, which {e.stragglers} does not: give one with odds, or --hosts auto"
            )
        return place(A, e.m, odds=odds)
    if e.hosts == "auto":
        names = list(hosts) or ["here"] * n
        on = np.array([names.index(name) for name in names])
    else:
        on = consecutive(n, int(e.hosts))
    return place(A, e.m, hosts=on, odds=odds)


def every_ensemble(
    e: Experiment, A: AnyArray, odds: Array | None, columns: IntArray | None
) -> dict[int, Ensemble]:
    """Return the codes of every m that the run may use, placed by `columns`.

    Raises
    ------
    ValueError
        If there is none for some m, the decoder does not serve the codes, or they do not go
        together with --switch or --late.
    """
    ensembles = {m: _codes(e, A, m, odds, columns) for m in _every_m(e)}
    if len(ensembles) > 1 and ensembles[e.m].partial:
        raise ValueError(
            f"--switch {e.switch} is for codes that are fixed before an iteration: {e.encoding} is "
            "made of what workers have finished, with the m of --m"
        )
    if e.late == "remember" and ensembles[e.m].partial:
        raise ValueError(
            f"--late remember is for whole answers: of {e.encoding} the server asks for messages "
            "only while it waits for them; give --late drop"
        )
    return ensembles


def every_scheme(e: Experiment, ensembles: Mapping[int, Ensemble], d: int) -> dict[int, Scheme]:
    """Return what belongs to every m, for gradients of d numbers.

    Raises
    ------
    ValueError
        If m is above d, or the compression does not go together with the codes.
    """
    if e.m > d:
        raise ValueError(f"--m {e.m} is more than the d={d} parameters: choose m <= {d}")
    compression, supplied = e.specs["compression"], {"dtype": e.wire, "seed": e.seed}
    wires: dict[int, Wire] = {
        m: COMPRESSORS.build(compression, length=message_length(d, m), **supplied)
        for m in ensembles
    }
    if wires[e.m].remembers and (changes := _what_changes(e, ensembles)):
        raise ValueError(
            f"--compression {e.compression} adds what it left out to the next message, which means "
            f"nothing when the code changes in every iteration, as with {changes}: give "
            "feedback=false, or a code that stays the same"
        )
    return {
        m: _scheme(e, codes, wires[m], switched=len(ensembles) > 1)
        for m, codes in ensembles.items()
    }


def _codes(
    e: Experiment,
    A: AnyArray,
    m: int,
    odds: Array | None,
    columns: IntArray | None,
) -> Ensemble:
    """Return the codes of one m, if there are any and the decoder serves them."""
    try:
        codes = (InTurn if e.parts == "in-turn" else Ensemble)(
            A,
            m,
            e.specs["encoding"],
            odds,
            e.seed,
            relabel=e.relabel,
            assignment=e.specs["assignment"],
            placement=columns,
        )
        everybody = np.ones(A.shape[1], dtype=np.bool_)
        if DECODERS[e.specs["decoder"].name].own:
            with blame(f"decoder {e.decoder}"):
                _decoder(e, codes)(codes.at(0), everybody)
                _decoder(e, codes)(codes.at(0), ~everybody)
        else:
            _decoder(e, codes)(codes.at(0), everybody)
    except ValueError as error:
        if m == e.m:
            raise
        raise ValueError(f"--switch {e.switch} needs a code for m={m} too: {error}") from error
    return codes


def _what_changes(e: Experiment, ensembles: Mapping[int, Ensemble]) -> str:
    """Return the setting that gives every iteration another code; empty if none does."""
    if len(ensembles) > 1:
        return f"--switch {e.switch}"
    if e.parts != "all":
        return f"--parts {e.parts}"
    if ensembles[e.m].changes:
        return f"--encoding {e.encoding}"
    return "--relabel" if e.relabel else ""


def _decoder(e: Experiment, codes: Ensemble) -> Decoder:
    """Return what decodes: made once for a code that stays the same, or for any."""
    spec = e.specs["decoder"]
    if codes.original is None:
        return decoder(spec, codes.n, e.wire)
    decode = decoder_of(codes.original, spec, e.wire)
    return ByOriginal(decode) if codes.relabel else always(decode)


def _scheme(e: Experiment, codes: Ensemble, wire: Wire, *, switched: bool) -> Scheme:
    """Return what belongs to one m; its mean loss only if m may change."""
    plain = _shrinkage(codes, 0.0) if switched else None
    loss = None if plain is None else 1 - plain
    return Scheme(codes, wire, _decoder(e, codes), _alpha(e, codes, plain), loss)


def _shrinkage(codes: Ensemble, eps: float) -> Array:
    """Return alpha, (n + 1,): without a ridge it is 1 - E Err_S / (m k)."""
    rng = seeds.generator(codes.seed, seeds.MONTE_CARLO)
    fixed = codes.fixed
    return alpha(codes.draw if fixed is None else lambda _: fixed, codes.m, rng, eps=eps)


def _alpha(e: Experiment, codes: Ensemble, plain: Array | None) -> Array:
    """Measure alpha for every number of stragglers: E[B_S R] = alpha_s F (paper, section 5).

    `plain` is alpha of plain least squares, where it is known.
    """
    eps = ridge_of(e.specs["decoder"], e.wire)
    own = DECODERS[e.specs["decoder"].name]
    promise = own if eps is None else ENCODINGS[codes.encoding.name]
    promised = promise.promises.unbiased or codes.relabel
    if eps is not None and codes.fixed is not None:
        promised = promised or unbiased(codes.at(0))  # a symmetry of A and B together
    if e.rescale == "none" or e.remembers or not promised:
        return np.ones(codes.A.shape[1] + 1)
    if eps is not None:
        values = plain if plain is not None and not eps else _shrinkage(codes, eps)
    else:
        rng, code = seeds.generator(e.seed, seeds.MONTE_CARLO), codes.at(0)
        decode = _decoder(e, codes)
        if codes.changes:
            decode = always(decoder_of(code, e.specs["decoder"], e.wire))
        values = decoder_alpha(code, decode, rng, sets=50)
    # with everybody late the decoded gradient is zero, whatever it is divided by
    return np.where(values > 1e-9, values, 1.0)
