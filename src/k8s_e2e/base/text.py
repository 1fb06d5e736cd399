"""Text from clusters is hostile: made harmless here before any view of it is drawn.

Escaping for a format (Markdown, HTML, XML) is the view's own job; this module removes what no format survives:
terminal sequences, control characters, lone surrogates, direction overrides, endless lines.
"""

import re

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufffe\uffff\ud800-\udfff]"
)
_SPACE = re.compile(r"\s+")
_COMMAND = re.compile(r"^(\s*):(?=:)", re.MULTILINE)
_JOINER = "\u2060"  # zero width, and never a place to break a line
_GAP = 4096  # how much raw text a short excerpt may look at, beyond its own limit


def plain(text: str) -> str:
    r"""Return ``text`` with terminal sequences dropped and every character that could steer a reader made visible.

    Newlines and tabs stay; CRLF becomes a newline; a lone CR is shown as ``\r``, other control characters as ``\xNN``
    or ``\uNNNN``.
    """
    if text.isascii() and text.isprintable():
        return text
    text = _ANSI.sub("", text).replace("\r\n", "\n").replace("\r", "\\r")
    return _UNSAFE.sub(_visible, text)


def defused(text: str) -> str:
    """Return ``text`` with no workflow command of GitHub left in it (``::`` at the start of a line, ``##[`` anywhere).

    A word joiner stands within what was one, so this comes last: `plain` would show it.
    """
    return _COMMAND.sub(rf"\1:{_JOINER}", text).replace("##[", f"#{_JOINER}#[")


def one_line(text: str, limit: int = 300) -> str:
    """Return ``text`` on one line of at most ``limit`` characters; a cut says how much is gone."""
    full = len(text)
    line = _SPACE.sub(" ", plain(text[: limit * 2 + _GAP])).strip()
    if len(line) <= limit and full <= limit * 2 + _GAP:
        return line
    kept = line[: limit - 1].rstrip()
    return f"{kept}… (+{max(full - len(kept), 1)} characters)"


def lines(text: str, *, most: int = 0, width: int = 500, last: bool = False) -> list[str]:
    """Return ``text`` as harmless lines, each cut at ``width`` characters; at most ``most`` of them (0 = all).

    ``last`` keeps the end instead of the beginning; a cut is told in a line of its own.
    """
    split = plain(text).rstrip("\n").split("\n")
    left_out = len(split) - most if most else 0
    if left_out > 0:
        split = split[-most:] if last else split[:most]
    cut = [line if len(line) <= width else f"{line[:width]}… (+{len(line) - width} characters)" for line in split]
    if left_out > 0:
        note = f"… {left_out} more line{'s' if left_out > 1 else ''} {'before' if last else 'after'} this"
        cut = [note, *cut] if last else [*cut, note]
    return cut


def _visible(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"  # noqa: PLR2004 - Latin-1 ends at 0xff
