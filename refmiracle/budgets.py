"""A divergence divided among elements by a softmax, with its gradient (docs/derivations.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from refmiracle.errors import InputError
from refmiracle.numerics.arrays import read_only
from refmiracle.numerics.real import Array, nats_of, one_of, own, real_numbers, representable
from refmiracle.numerics.whole import as_array


@dataclass(frozen=True, eq=False)
class Groups:
    """Which elements are a group.

    Attributes
    ----------
    order : ndarray of int, shape (elements,)
        Brings the elements of each group together.
    starts : ndarray of int, shape (groups,)
        Where each group begins in that order.
    number : ndarray of int, the elements' shape
        Of each element's group.
    """

    order: NDArray[np.intp]
    starts: NDArray[np.intp]
    number: NDArray[np.intp]

    @classmethod
    def of(cls, labels: ArrayLike | None, shape: tuple[int, ...]) -> Groups:
        """Return the groups that labels name; None: all elements are one.

        Raises
        ------
        InputError
            If labels are no whole numbers, or do not go with the elements' shape.
        """
        given = as_array("groups", 0 if labels is None else labels)
        if given.dtype.kind not in "iu":
            raise InputError(f"groups of {given.dtype}; expected whole numbers")
        try:
            whole = np.broadcast_to(given, shape)
        except ValueError:
            raise InputError(
                f"groups of shape {given.shape}; expected that of phi, {shape}, or one that can be"
                " broadcast to it"
            ) from None
        _, number = np.unique(whole, return_inverse=True)
        number = number.reshape(-1)
        order = np.argsort(number, kind="stable")
        starts = np.flatnonzero(np.diff(number[order], prepend=-1))
        return cls(*(read_only(a) for a in (order, starts, number.reshape(shape))))

    def each(self, operation: np.ufunc, x: Array) -> Array:
        """Return the sum, or another reduction, of each group; shape (groups,)."""
        return np.asarray(operation.reduceat(x.ravel()[self.order], self.starts))

    def to_elements(self, values: Array) -> Array:
        """Return for each element its group's value."""
        return values[self.number]

    def backward(self, share: Array, part: Array) -> Array:
        """Return dL/dphi_j = part_j sum_(i != j) p_i - p_j sum_(i != j) part_i.

        Only a share above 1/2, of which a group can have but one, needs sums without the element:
        elsewhere part_j - p_j sum_i part_i loses no more than a digit (section 4 of
        docs/derivations.md).
        """
        large = share > 0.5
        rest = self.to_elements(self.each(np.add, np.where(large, 0.0, share)))
        behind = self.to_elements(self.each(np.add, np.where(large, 0.0, part)))
        whole = self.to_elements(self.each(np.add, part))
        return np.where(large, part * rest - share * behind, part - share * whole)


@dataclass(frozen=True, eq=False, repr=False)
class Budget:
    """A divergence divided among elements; `budget` makes it.

    Attributes
    ----------
    share : ndarray of float64, shape of phi
        The softmax of each group; sums to 1 there.
    kappa : ndarray of float64, same shape
        The KL of each element in nats; sums to the budget of the group.
    reach : ndarray of float64, same shape
        sqrt(2 kappa), also where kappa underflows: what `mean_kl` takes as `reach`.

    Examples
    --------
    >>> import refmiracle
    >>> shares = refmiracle.budget([0.0, -705.0], nats=1e-20)
    >>> float(shares.kappa[1]), bool(shares.reach[1] > 0)
    (0.0, True)
    """

    share: Array
    kappa: Array
    reach: Array
    _groups: Groups

    def __repr__(self) -> str:
        count, bits = len(self._groups.starts), float(self.kappa.sum()) / math.log(2.0)
        return f"<Budget of {bits:.6g} bits for shape {self.share.shape}, groups: {count}>"

    @representable("a gradient")
    def vjp(self, dkappa: ArrayLike | None = None, *, dreach: ArrayLike | None = None) -> Array:
        """Return dL/dphi from the gradient of a loss by kappa or by reach.

        The sums over a group leave out the element's own term, which stands in both parts and
        would swallow the rest where one share is nearly 1: equation (21a) of docs/derivations.md.

        Parameters
        ----------
        dkappa : array_like of float, optional
            dL/dkappa for each element, as `MeanKLGradient.kappa`; what it is where kappa is 0
            does not matter.
        dreach : array_like of float, optional
            dL/dr, as `MeanKLGradient.reach`; keeps its digits where kappa underflows.

        Returns
        -------
        ndarray of float64, shape of phi
            Sums to 0 over each group.

        Raises
        ------
        InputError
            Unless one of the two is given, of the shape of phi.

        Examples
        --------
        With one share of nearly all, what is left of the other's is not lost:

        >>> import refmiracle
        >>> refmiracle.budget([60.0, 0.0], nats=1.0).vjp(dkappa=[1.0, 2.0])
        array([-8.75651076e-27,  8.75651076e-27])
        """
        name, value = one_of(dkappa=dkappa, dreach=dreach)
        gradient = real_numbers(name, value)
        if gradient.shape != self.share.shape:
            raise InputError(f"{name} of shape {gradient.shape}; expected {self.share.shape}")
        with np.errstate(under="ignore", invalid="ignore"):
            # kappa dL/dkappa = (r / 2) dL/dr
            spent = self.kappa if name == "dkappa" else 0.5 * self.reach
            part = np.where(spent > 0.0, spent * gradient, 0.0)
            return self._groups.backward(self.share, part)


@representable("budget")
def budget(
    phi: ArrayLike,
    nats: ArrayLike | None = None,
    *,
    bits: ArrayLike | None = None,
    groups: ArrayLike | None = None,
) -> Budget:
    """Divide a divergence among elements by a softmax: kappa = C softmax(phi) within each group.

    Equation (4) of docs/derivations.md; our construction.  With `mean_kl`, each group of weights
    has the divergence C whatever the parameters are, so that one number of C bits can send it.

    Parameters
    ----------
    phi : array_like of float
        Any shape.  -inf: no share; each group has an element with one.
    nats, bits : array_like of float, optional
        C in nats, or in bits: one number for all groups, or one for each, in the order of their
        labels; 0 to 1e300 nats.
    groups : array_like of int, optional
        The label of each element's group, in the shape of phi or one that can be broadcast to it.
        By default all elements are one group; ``groups=np.arange(n)[:, None]`` makes each row of
        n one.

    Returns
    -------
    Budget

    Raises
    ------
    InputError
        Unless one of nats and bits is given; if a number is out of range, shapes do not go
        together, or a group has no element with a share.

    Examples
    --------
    >>> import numpy as np
    >>> import refmiracle
    >>> phi = np.array([[0.0, 0.0, 0.0], [2.0, 1.0, -np.inf]])
    >>> shares = refmiracle.budget(phi, bits=10, groups=[[0], [1]])
    >>> shares
    <Budget of 20 bits for shape (2, 3), groups: 2>
    >>> (shares.kappa / np.log(2)).round(3)
    array([[3.333, 3.333, 3.333],
           [7.311, 2.689, 0.   ]])

    The gradient of a loss goes from a sample to phi:

    >>> q = refmiracle.mean_kl(0.5, reach=shares.reach)
    >>> grad = q.vjp(dw=np.ones((2, 3)), eps=np.zeros((2, 3)))
    >>> shares.vjp(dreach=grad.reach).round(3)
    array([[ 0.   ,  0.   ,  0.   ],
           [-0.128,  0.128,  0.   ]])
    """
    logits = real_numbers("phi", phi)
    if not logits.size:
        raise InputError(f"phi of shape {logits.shape}; expected at least one element")
    if np.any(np.isnan(logits) | (logits == np.inf)):
        raise InputError("phi has NaN or inf; expected numbers, or -inf for no share")
    found = Groups.of(groups, logits.shape)
    name, value = one_of(nats=nats, bits=bits)
    total = nats_of(name, real_numbers(name, value))
    count = len(found.starts)
    if total.ndim and total.shape != (count,):
        raise InputError(f"{name} of shape {total.shape}; expected one number, or ({count},)")
    largest = found.to_elements(found.each(np.maximum, logits))
    if np.any(np.isneginf(largest)):
        raise InputError("phi is -inf in all of a group; expected one element with a share")
    with np.errstate(under="ignore"):
        with np.errstate(over="ignore"):  # of a difference beyond float64 no share is left
            e = np.exp(logits - largest)
        share = e / found.to_elements(found.each(np.add, e))
        each = total if not total.ndim else found.to_elements(total)
        reach = np.sqrt(2.0 * each) * np.sqrt(share)  # each by itself: kappa may underflow
        return Budget(own(share), own(each * share), own(reach), found)
