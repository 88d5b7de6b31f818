"""Messages of the services, without the prompts, responses and values that they quote.

They are shown in logs, task errors, XCom, reports and on terminals, where such text must not appear. Only the
error table has the full messages.
"""

from __future__ import annotations

import re

_CLOSING = {'"': '"', "'": "'", "`": "`", "“": "”", "‘": "’", "«": "»"}
# Compiled when first used, since each DAG file that is parsed imports this module.
_OPENING = r"""(?<![\w\\])['‘]|(?<!\\)["`“«]"""
# BigQuery, which imports the input of a job, writes some values without quotes.
_VALUE = (
    r"(?i)((?:\b(?:bad|invalid) \w+ value|; value|\blast read|\boverflow|\bdivision by zero): "
    r"|\bcould not (?:cast literal|convert value) )[^;\n]+"
)
_SEGMENT = r"\$?[A-Za-z_][A-Za-z0-9_]*(?:\[\d*\])*"
# Quoted names say what is wrong, and are not taken from a row: of a permission, a table or a path in a
# request; of a field in snake case or camel case; of a constant; of a resource; of a model.
_NAME = rf"""(?xa)
      [A-Za-z$_][\w$-]*(?:\[\d*\])*(?:[.:]{_SEGMENT}){{1,8}}
    | \$[A-Za-z]+
    | [a-z]+(?:[A-Z][a-z0-9]*)+
    | [A-Za-z0-9]*_[A-Za-z0-9_]*
    | (?:https?:)?//[\w.-]+\.googleapis\.com(?:/[\w.:@-]+)*
    | (?:gs://|bq://|projects/|publishers/|models/|roles/|locations/)[\w./:@*+-]+
    | gemini-[a-z0-9.-]+
    | contents|enum|items|key|labels|model|name|parts|properties|request|required|response|role|status|text
    | tools|type
    """
_MAX_NAME = 200


def without_quoted_text(message: str) -> str:
    """Return a message with ``…`` in place of the text that it quotes; quoted names are kept.

    What is quoted may contain quotes, or be cut off before its end. So everything is left out up to the last
    quote of the same kind, or to the end of the message.
    """
    message = re.sub(_VALUE, r"\1…", message)
    quote, name = re.compile(_OPENING), re.compile(_NAME)
    done, position = [], 0
    while opening := quote.search(message, position):
        start, first = opening.end(), opening.group()
        closing = re.compile(re.escape(_CLOSING[first]) + (r"(?!\w)" if first in "'‘" else ""))
        ends = [found.start() for found in closing.finditer(message, start)]
        end = ends[0] if ends else len(message)
        done.append(message[position:start])
        if ends and end - start <= _MAX_NAME and name.fullmatch(message, start, end):
            done.append(message[start:end])
        else:
            end = ends[-1] if ends else len(message)
            done.append("…" if end > start else "")
        done.append(_CLOSING[first])
        position = end + 1
    return "".join([*done, message[position:]])
