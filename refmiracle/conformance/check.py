"""A backend held against the golden vectors from Python, with results to look into."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from refmiracle.conformance.backends import PythonBackend, load_python_backend, made
from refmiracle.conformance.order import ORDER
from refmiracle.conformance.patience import DEADLINE, Patience
from refmiracle.conformance.report import summary_line, to_json, to_text
from refmiracle.conformance.runner import KNOWN, PASSED, RED, SKIPPED, Report, Result, run_suite
from refmiracle.conformance.vectors import check_wanted, default_golden, load_golden
from refmiracle.errors import CheckError, InputError
from refmiracle.files import as_path
from refmiracle.numerics.whole import described, whole_number


class BackendError(CheckError):
    """A backend does not conform.

    Attributes
    ----------
    check : BackendCheck
        All results.
    """

    def __init__(self, check: BackendCheck) -> None:
        super().__init__(check.complaint())
        self.check = check


@dataclass(frozen=True, repr=False)
class BackendCheck:
    """What `check_backend` found.

    Attributes
    ----------
    report : refmiracle.conformance.runner.Report
        Everything, in the order in which it was found.
    target : str
        The backend as the command ``python -m refmiracle.conformance`` is told it.

    Examples
    --------
    >>> from refmiracle import check_backend
    >>> from refmiracle.conformance.engine_backend import numpy_backend
    >>> check = check_backend(numpy_backend, cases="numerics/gaussian_kl")
    >>> check.ok, len(check.passed) > 10, check.failures
    (True, True, ())
    """

    report: Report
    target: str

    def __bool__(self) -> bool:
        return self.ok

    def __repr__(self) -> str:
        return f"<BackendCheck: {summary_line(self.report)}>"

    @property
    def ok(self) -> bool:
        """Whether nothing failed, passed unexpectedly or was declared in vain.

        What was skipped does not count: see `passed` and `skipped` for what was looked at.
        """
        return self.report.ok()

    @property
    def passed(self) -> tuple[Result, ...]:
        """The right answers: one result for each case and working precision."""
        return self._of(PASSED)

    @property
    def failures(self) -> tuple[Result, ...]:
        """The wrong answers, and known failures that are right; those of the first stage first."""
        return self._of(*RED)

    @property
    def skipped(self) -> tuple[Result, ...]:
        """The cases of operations and precisions that the backend does not declare."""
        return self._of(SKIPPED)

    @property
    def known_failures(self) -> tuple[Result, ...]:
        """The wrong answers that the backend declares as such."""
        return self._of(KNOWN)

    @property
    def unmatched(self) -> dict[str, str]:
        """Known failures and bounds that are declared for ids that are no case."""
        return dict(self.report.unmatched)

    def table(self) -> str:
        """Return what the command prints: a line for each operation, and what is wrong.

        Examples
        --------
        >>> from refmiracle import check_backend
        >>> from refmiracle.conformance.engine_backend import numpy_backend
        >>> check = check_backend(numpy_backend, cases="numerics/gaussian_kl")
        >>> print(check.table().splitlines()[0])
        stage     operation    passed  failed  skipped  known  worst error / bound
        """
        return to_text(self.report, self.target)

    def to_json(self) -> dict[str, Any]:
        """Return what the command writes with ``--json``: all results as plain values.

        Examples
        --------
        >>> from refmiracle import check_backend
        >>> from refmiracle.conformance.engine_backend import numpy_backend
        >>> check = check_backend(numpy_backend, cases="numerics/gaussian_kl")
        >>> check.to_json()["counts"]["failed"]
        0
        """
        return to_json(self.report, self.target)

    def complaint(self) -> str:
        """Return in one line what is wrong; empty if nothing is.

        Examples
        --------
        >>> from refmiracle import check_backend
        >>> from refmiracle.conformance.engine_backend import numpy_backend
        >>> check = check_backend(numpy_backend, cases="numerics/gaussian_kl")
        >>> check.complaint()
        ''
        """
        parts = [
            f"{name}: a {what} is declared for no case" for name, what in self.unmatched.items()
        ]
        if self.failures:
            first = self.failures[0]
            precision = f" ({first.dtype})" if first.dtype else ""
            parts.insert(
                0,
                f"{len(self.failures)} of {len(self.report.results)} results failed, the first"
                f" {first.id}{precision}: {first.message}",
            )
        return f"{self.report.backend} {self.report.version}: {'; '.join(parts)}" if parts else ""

    def raise_if_failed(self) -> None:
        """Do nothing if all is right.

        Raises
        ------
        BackendError
            Else; its one line names the first failure, its attribute `check` is this object.

        Examples
        --------
        >>> from refmiracle import check_backend
        >>> from refmiracle.conformance.engine_backend import numpy_backend
        >>> check = check_backend(numpy_backend, cases="numerics/gaussian_kl")
        >>> check.raise_if_failed()
        """
        if not self.ok:
            raise BackendError(self)

    def _of(self, *statuses: str) -> tuple[Result, ...]:
        return tuple(r for r in self.report.results if r.status in statuses)


def check_backend(
    backend: Any,
    raise_on_failure: bool = False,
    *,
    cases: str | Iterable[str] = (),
    deadline: float = DEADLINE,
    order: int | None = ORDER,
    golden: str | os.PathLike[str] | None = None,
) -> BackendCheck:
    """Hold a backend against the golden vectors of MIRACLE and Mean-KL.

    The same as ``python -m refmiracle.conformance --backend MODULE:OBJECT``, whose table is
    ``check_backend(...).table()``.  docs/CONFORMANCE.md lists all operations.

    Parameters
    ----------
    backend : object or str
        Has `name`, `version`, `dtypes` and one callable for each operation that it has; or a
        class or function that is called for such an object; or its place, ``"module:name"``.
    raise_on_failure : bool
        Whether to raise instead of returning results that hold a failure.
    cases : str or iterable of str
        Only these, each an id or what it begins with: ``"numerics"``, ``"posterior/mean_kl"``.
    deadline : float
        Seconds for each answer; ``math.inf``: any number, and on the thread that calls.
    order : int, optional
        The seed of the order in which right answers are asked for again; None: not again.
    golden : path, optional
        A folder with other vectors of the same format.

    Returns
    -------
    BackendCheck

    Raises
    ------
    InputError
        If this is no backend, it cannot be loaded, or an argument is not possible.
    BackendError
        A `CheckError`: if `raise_on_failure` and it does not conform.

    Examples
    --------
    A backend of one operation, whose terms cancel where s is near 1:

    >>> import numpy as np
    >>> import refmiracle
    >>> class Mine:
    ...     name, version, dtypes = "mine", "0.1", ("float64",)
    ...
    ...     def gaussian_kl(self, delta, log_s):
    ...         return 0.5 * (delta**2 + np.exp(log_s) - 1.0 - log_s)
    >>> check = refmiracle.check_backend(Mine, cases="numerics/gaussian_kl")
    >>> check  # doctest: +ELLIPSIS
    <BackendCheck: 15 passed, 5 failed, 19 skipped; mine 0.1; ...>
    >>> check.failures[1].id
    'numerics/gaussian_kl/near-s-1'
    """
    only = (cases,) if isinstance(cases, str) or not isinstance(cases, Iterable) else tuple(cases)
    if not all(isinstance(c, str) for c in only):
        raise InputError(
            f"cases are {described(cases)}; expected their ids, or what ids begin with"
        )
    only = tuple(c.rstrip("/") for c in only)
    if isinstance(deadline, bool) or not isinstance(deadline, (int, float)):
        raise InputError(f"deadline is {described(deadline)}; expected seconds")
    files = load_golden(default_golden() if golden is None else as_path("golden", golden))
    check_wanted(files, only, "cases:")
    order = None if order is None else whole_number("order", order)
    held, target = _open(backend, Patience(float(deadline)))
    try:
        report = run_suite(held, files, only, order=order)
    finally:
        held.close()
    check = BackendCheck(report, target)
    if raise_on_failure:
        check.raise_if_failed()
    return check


def _open(backend: Any, patience: Patience) -> tuple[PythonBackend, str]:
    """Return the backend, and what the command would be told."""
    if isinstance(backend, str):
        return load_python_backend(backend, patience, "backend"), f"--backend {backend}"
    kind = backend if isinstance(backend, type) else type(backend)
    target = f"--backend {kind.__module__}:{kind.__qualname__}"
    try:
        return PythonBackend(made(backend), patience), target
    except InputError:
        raise
    except Exception as e:  # whatever a class or function does when it is called
        raise InputError(f"backend {described(backend)}: {type(e).__name__}: {e}") from e
