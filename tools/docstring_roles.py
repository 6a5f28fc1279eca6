"""For the API reference: ``:class:`~package.Name``` of docstrings becomes a code span, which Markdown knows."""

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|exc|obj):`~?(?:oncoseg_core\.[\w.]*\.)?([\w.]+)`")


class DocstringRoles(griffe.Extension):
    """Rewrites the docstring of every object that griffe reads."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Replace Sphinx roles by code spans."""
        if obj.docstring is not None:
            obj.docstring.value = ROLE.sub(r"`\1`", obj.docstring.value)
