"""Names that would run a script if they were not escaped."""

EVIL = "</script><script>alert(1)</script>"
IMAGE = "<img src=x onerror=alert(1)>"
SEPARATORS = "line\u2028para\u2029'\"&amp;{{ 7*7 }}"
