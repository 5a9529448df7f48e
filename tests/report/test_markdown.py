"""Nothing in a name is read as Markdown."""

from __future__ import annotations

import pytest

from tutelage.report.markdown import escaped


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("informed-reasoning", "informed-reasoning"),
        ("a_b*c*", r"a\_b\*c\*"),
        ("a | b\n# c", r"a \| b \# c"),
        ("[x](http://y) <i>", r"\[x\](http://y) \<i\>"),
        ("back\\slash `code` $m$ ~s~", r"back\\slash \`code\` \$m\$ \~s\~"),
        ("@someone &amp;", r"@<!-- -->someone \&amp;"),
        (None, "None"),
    ],
)
def test_escaped(text: object, written: str) -> None:
    assert escaped(text) == written
