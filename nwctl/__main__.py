"""`python -m nwctl`."""

from nwctl.main import app

app(prog_name="nwctl")
