"""The fingerprint that files of adapters name their backbone by: another algorithm would refuse all that there are."""

import hashlib
import struct

import torch
from sparse_adapter.checkpoint.fingerprint import fingerprint

A, B = torch.arange(6.0).view(2, 3), torch.ones(2)


def test_names_shapes_and_values_in_the_order_of_the_names():
    content = b"a (2, 3)\n" + struct.pack("<6f", *range(6)) + b"b (2,)\n" + struct.pack("<2f", 1, 1)
    expected = hashlib.sha256(content).hexdigest()
    assert fingerprint([("a", A), ("b", B)]) == fingerprint([("b", B), ("a", A)]) == expected
    assert fingerprint([("a", A.half()), ("b", B.double())]) == expected


def test_other_names_shapes_and_values_have_another():
    others = [("x", A), ("b", B)], [("a", A.view(3, 2)), ("b", B)], [("a", A + 1e-6), ("b", B)], [("a", A)]
    assert len({fingerprint(pairs) for pairs in ([("a", A), ("b", B)], *others)}) == 5
