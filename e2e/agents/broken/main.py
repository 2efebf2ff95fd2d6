"""An agent that does not get as far as to serve."""

import a_package_that_nobody_installed  # noqa: F401
