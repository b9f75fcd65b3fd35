"""Keys as WebDriver writes them, without importing selenium (https://w3c.github.io/webdriver/)."""

from __future__ import annotations

BACK, TAB, ENTER = "\ue003", "\ue004", "\ue007"
SHIFT, CONTROL, ESCAPE = "\ue008", "\ue009", "\ue00c"
