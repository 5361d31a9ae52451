"""Text as metadata may hold it: arbitrary, much of it like JSON or Python literals, much of it damaged."""

import json

from hypothesis import strategies as st

ANY_TEXT = st.one_of(
    st.text(),
    st.text(alphabet="[{(\"'0:,\\n -)}]x"),
    st.builds(json.dumps, st.dictionaries(st.text(), st.text())),
)
