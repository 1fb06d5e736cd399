"""Bytes of values."""

from turbo_operator.core.canonical import canonical_json, digest


def test_equal_values_have_equal_bytes() -> None:
    """Keys are sorted at every depth, nothing is put between them, and text is UTF-8."""
    assert (
        canonical_json({"b": [1, {"d": None, "c": "ä"}], "a": True}) == '{"a":true,"b":[1,{"c":"ä","d":null}]}'.encode()
    )


def test_a_digest_is_the_head_of_a_sha256() -> None:
    """Sixteen hex digits, as `printf '{"A":"1"}' | sha256sum` prints them, or as many as are asked for."""
    assert digest({"A": "1"}) == "c73dd9fca58e98a9"
    assert digest({"A": "1"}, 8) == digest({"A": "1"})[:8]
