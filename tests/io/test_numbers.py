"""Parsing and printing of numbers against Python's own."""

import numpy as np
import pytest

from dcharge import _io


def parse(text, n):
    out = np.empty(n)
    return _io.parse(text.encode(), 0, 1, out), out


@pytest.mark.parametrize(
    "form, low, high",
    [("%.10E", -30, 5), ("%.16E", -5, 2), ("%.17g", -320, 300), ("%.5f", -2, 6), ("%.25e", -40, 10), ("%d", 0, 9)],
)
def test_parse_rounds_correctly(form, low, high):
    rng = np.random.default_rng(1)
    words = [form % x for x in rng.standard_normal(20_000) * 10.0 ** rng.uniform(low, high, 20_000)]
    expected = np.array([float(w) for w in words])
    _, found = parse(" ".join(words), len(words))
    # beyond 19 digits a text is cut, which can move the last bit
    assert np.array_equal(found, expected) if form != "%.25e" else np.allclose(found, expected, rtol=3e-16, atol=0)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("0.1E+01-0.2E+01", [1, -2]),
        ("-.373E-01-.5E+00", [-0.0373, -0.5]),
        ("0.123-102 0.5+101", [0.123e-102, 0.5e101]),
        ("0.12E+000.13E+00", [0.12, 0.13]),
        ("1.5D-3 2d0 +3.5", [1.5e-3, 2, 3.5]),
        ("1.0-2.0", [1, -2]),
        ("0.5-.25", [0.5, -0.25]),
        ("5. .5 -7 0 -0.0", [5, 0.5, -7, 0, 0]),
        ("1e400 1e-400 4.9e-324", [np.inf, 0, 4.9e-324]),
        ("0.00000000000000000000000000012345E+30", [123.45]),
    ],
)
def test_forms(text, expected):
    _, found = parse(text, len(expected))
    assert found.tolist() == expected


@pytest.mark.parametrize(
    "text, message",
    [
        ("1 2\n3 ****** 5", r"line 2: '\*\*\*\*\*\*' found where value 4 of 5 was expected"),
        ("1 2\n\n3", r"line 3: the file ends after 3 of 5 values"),
        ("1 2 3x 4 5", r"line 1: '3x' found where value 3"),
        ("1 2 1.2.3 4 5", r"'1.2.3' found"),
        ("1 2 1e 4 5", r"'1e' found"),
        ("1 2 - 4 5", r"'-' found"),
        ("1 2 \0\0\0 4 5", r"'\?\?\?' found"),
        ("", r"line 1: the file ends after 0 of 5"),
    ],
)
def test_what_is_no_number_is_named(text, message):
    with pytest.raises(_io.ParseError, match=message):
        parse(text, 5)


def test_nan_and_inf_are_counted():
    (_, _, bad, line), _ = parse("1 2\nNaN -inf\nInfinity 3", 6)
    assert (bad, line) == (3, 2)


def test_offset_and_line_behind_the_values():
    text = "1 2\n3 4 rest\n"
    (offset, line, *_), _ = parse(text, 4)
    assert text[offset:] == " rest\n" and line == 2


@pytest.mark.parametrize("digits", [2, 5, 6, 11, 15])
def test_print_rounds_correctly(digits):
    rng = np.random.default_rng(digits)
    values = np.concatenate(
        [
            rng.standard_normal(20_000) * 10.0 ** rng.uniform(-90, 90, 20_000),
            rng.integers(-(10**6), 10**6, 2000) / 2.0 ** rng.integers(0, 20, 2000),  # exact ties
            10.0 ** np.arange(-20, 20),
            10.0 ** np.arange(-20, 20) * (1 - 1e-16),
            [0.0, 0.5, 9.9999995, 999999.5],
        ]
    )
    text = _io.print(values.reshape(1, -1), 0, 1, 1.0, 6, digits, False, False).decode()
    assert text.split() == [f"{v:.{digits - 1}E}" if v else f"{0:.{digits - 1}E}" for v in values]
    fortran = _io.print(values.reshape(1, -1), 0, 1, 1.0, 5, digits, True, False).decode().split()
    expected = np.array([float(f"{v:.{digits - 1}E}") for v in values])
    assert np.allclose([float(w) for w in fortran], expected, rtol=4e-16, atol=0)


def test_print_refuses_nan():
    with pytest.raises(RuntimeError, match="not a finite"):
        _io.print(np.array([[np.nan]]), 0, 1, 1.0, 5, 6, False, False)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 4, 5), (7, 2, 9), (5, 5, 17)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_x_fastest_is_fortran_order(shape, dtype):
    values = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    parts = [_io.print(values, a, min(a + 3, shape[2]), 2.0, 5, 12, True, True) for a in range(0, shape[2], 3)]
    text = b"".join(parts)
    lines = text.splitlines()
    assert all(len(line.split()) == 5 for line in lines[:-1]) and text.endswith(b"\n")
    written = np.array(text.split(), dtype=float).reshape(shape, order="F")
    assert np.allclose(written, 2 * values.astype(float), rtol=1e-11)
    out = np.empty(shape, dtype=dtype)
    _io.parse(text, 0, 1, out, 0.5, x_fastest=True)
    assert np.allclose(out, values, rtol=1e-7 if dtype == np.float32 else 1e-11)


def test_random_bytes_never_crash():
    rng = np.random.default_rng(7)
    alphabet = np.frombuffer(b"0123456789.+-eEdD \n\tnaif*\0x", dtype=np.uint8)
    for _ in range(3000):
        text = alphabet[rng.integers(0, len(alphabet), rng.integers(0, 40))].tobytes()
        try:
            _io.parse(text, 0, 1, np.empty(4))
        except _io.ParseError:
            pass
        _io.numbers(text, 8)


def test_wrong_arguments():
    with pytest.raises(ValueError):
        _io.parse(b"1", 5, 1, np.empty(1))
    with pytest.raises(TypeError):
        _io.parse(b"1", 0, 1, np.empty(1, dtype=np.int64))
    with pytest.raises(ValueError, match="contiguous"):
        _io.parse(b"1 2", 0, 1, np.empty((2, 2))[:, 0])
