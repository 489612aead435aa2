"""What plugin authors test with: a conformance suite for each role, in ``base04.testing.conformance``.

Importing this package needs pytest. Subclass a role's suite, give it a fixture ``manager`` that makes your manager, and
set ``capabilities`` to what your provider declares. With pytest-asyncio's ``asyncio_mode = "auto"`` that is all.
"""

import pytest

pytest.register_assert_rewrite("base04.testing.conformance")
