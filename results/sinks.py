"""Text from records on its way out: names, reasons and commands that others wrote, made harmless for where they go.

A name may hold anything: terminal escapes, Markdown that fetches a picture from elsewhere, a spreadsheet's formula.
Every text from a record passes through one of these functions, one for each sink.
"""

from __future__ import annotations

import re
import unicodedata
from html import escape as _escape_html

_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
"""Unicode's categories of what steers instead of being seen: controls, direction marks, halves of pairs."""


def _seen(character: str) -> str:
    if character in "\t\n\r":
        return " "
    if unicodedata.category(character) in _INVISIBLE:
        code = ord(character)
        return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
    return character


def visible(text: object) -> str:
    """One line in which every character can be seen: `\\x1b` for an escape, a space for a line break."""
    words = str(text)
    return words if words.isascii() and words.isprintable() else "".join(map(_seen, words))


def terminal(text: object) -> str:
    """For a terminal: nothing in it moves the cursor, sets a colour or turns the direction of writing."""
    return visible(text)


def terminal_lines(text: str) -> str:
    """A log for a terminal: its lines stay lines, its tabs tabs; nothing else in it steers."""
    lines = re.split(r"(\r\n|\n|\r|\t)", text)
    return "".join(
        part if part in ("\n", "\t") else "\n" if part in ("\r", "\r\n") else visible(part) for part in lines
    )


def markup(text: object) -> str:
    """For rich's markup on a terminal: brackets (`ka[beta=10]`) are brackets."""
    from rich.markup import escape

    return escape(terminal(text))


_MARKDOWN = re.compile(r"([!-/:-@\[-`{-~])")
_PLAIN = frozenset(".,-/@%+='")
"""Punctuation that means nothing inside a line of Markdown: left alone, for names are read more often than attacked."""


_JOINER = "&#8288;"
"""A word joiner, which has no width."""


def markdown(text: object) -> str:
    """For a line or a table's cell of Markdown, on GitHub and in Streamlit: nothing in it is markup, HTML or a link."""
    escaped = _MARKDOWN.sub(lambda found: found[0] if found[0] in _PLAIN else f"\\{found[0]}", visible(text))
    escaped = escaped.replace("\\&", "&amp;").replace("\\<", "&lt;").replace("\\>", "&gt;")
    # Bare addresses become links by themselves, and Streamlit looks for them in what is left after all escapes.
    escaped = re.sub(r"(?i)\b(https?|ftp)\\:", rf"\1&#58;{_JOINER}", escaped)
    escaped = re.sub(r"(?i)\b(www)\.", rf"\1{_JOINER}&#46;", escaped)
    escaped = re.sub(r"@(?=[-\w\\]+\.[-\w\\])", f"@{_JOINER}", escaped)
    return re.sub(r"^([-+=]|\d+\.)(?=\s|$)", r"\\\1", escaped)


def csv(value: object) -> object:
    """For a cell of CSV: a text that a spreadsheet would take for a formula begins with an apostrophe; nothing in it
    steers a terminal that the file is printed on."""
    if not isinstance(value, str):
        return value
    return f"'{visible(value)}" if value[:1] in ("=", "+", "-", "@", "\t", "\r", "\n") else visible(value)


def html(text: object) -> str:
    """For HTML, between tags and in quoted attributes: nothing in it is markup."""
    return _escape_html(visible(text), quote=True)


def script(text: str) -> str:
    """For JSON inside a `<script>`: nothing in it ends the script or begins a comment, and it is the same JSON."""
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "`": r"\textasciigrave{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    **{character: "\\" + character for character in "&%$#_{}"},
    # After the end of a table's row these would be its arguments.
    **{character: f"{{{character}}}" for character in "[]*"},
    **{"±": r"$\pm$", "×": r"$\times$", "·": r"$\cdot$", "≤": r"$\le$", "≥": r"$\ge$", "−": "$-$", "→": r"$\to$"},
    **{"¹": r"\textsuperscript{1}", "²": r"\textsuperscript{2}", "³": r"\textsuperscript{3}"},
    **{"–": "--", "—": "---", "…": r"\ldots{}", "’": "'"},
    **{"Γ": r"$\Gamma$", "Δ": r"$\Delta$", "Λ": r"$\Lambda$", "Σ": r"$\Sigma$", "Ω": r"$\Omega$"},
    **{"α": r"$\alpha$", "β": r"$\beta$", "γ": r"$\gamma$", "δ": r"$\delta$", "ε": r"$\varepsilon$", "η": r"$\eta$"},
    **{"λ": r"$\lambda$", "μ": r"$\mu$", "σ": r"$\sigma$", "τ": r"$\tau$", "φ": r"$\varphi$", "ω": r"$\omega$"},
}


def latex(text: object) -> str:
    """For LaTeX, any engine: nothing in it is a command; a character that not every font has is shown by its number."""
    return "".join(map(_in_latex, visible(text)))


def _in_latex(character: str) -> str:
    if character in _LATEX:
        return _LATEX[character]
    known = character.isascii() or (ord(character) < 0x180 and character.isalpha())
    return character if known else f"{{[}}U+{ord(character):04X}{{]}}"


def json(text: str) -> str:
    """For JSON on its way to a terminal: what `json.dumps` leaves of invisible characters, as its own escapes."""
    return "".join(
        f"\\u{ord(c):04x}" if c not in "\n\t" and ord(c) < 65536 and unicodedata.category(c) in _INVISIBLE else c
        for c in text
    )
