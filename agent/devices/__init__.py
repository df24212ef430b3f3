"""Devices that can be given to guests as a whole or in slices: one kind a module, put together in `inventory`."""
